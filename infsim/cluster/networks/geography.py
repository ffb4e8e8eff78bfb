"""Places on the globe: distances between them, and a list of cities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from infsim.errors import InputError, did_you_mean
from infsim.paths import data_file

EARTH_RADIUS_KM = 6371.0088
"""Mean radius of the Earth (IUGG)."""

FIBRE_S_PER_KM = 5e-6
"""Time of light in a kilometre of fibre, one way: two thirds of its speed in vacuum."""


class Place(NamedTuple):
    """A point on the globe.

    Attributes
    ----------
    latitude, longitude : float
        Degrees, north and east positive.
    """

    latitude: float
    longitude: float


def distances_km(places: Sequence[Place]) -> NDArray[np.float64]:
    """Return the great-circle distances between places (haversine formula).

    Parameters
    ----------
    places : sequence of Place

    Returns
    -------
    float64 (P, P)

    Raises
    ------
    InputError
        If a latitude is not within -90 to 90, or a longitude not within -180 to 180.
    """
    for place in places:
        if not (-90 <= place.latitude <= 90 and -180 <= place.longitude <= 180):
            raise InputError(
                f"no such place: latitude {place.latitude!r}, longitude {place.longitude!r}"
            )
    angles = np.radians(np.array(places, dtype=np.float64).reshape(-1, 2))
    latitude, longitude = angles[:, 0], angles[:, 1]
    between = np.sin(np.subtract.outer(latitude, latitude) / 2) ** 2
    along = np.sin(np.subtract.outer(longitude, longitude) / 2) ** 2
    chord = between + np.multiply.outer(np.cos(latitude), np.cos(latitude)) * along
    return np.asarray(2 * EARTH_RADIUS_KM * np.arcsin(np.sqrt(np.clip(chord, 0, 1))))


@cache
def cities() -> Mapping[str, Place]:
    """Return the cities that infsim knows, by lower-case name with hyphens."""
    import csv

    with data_file("traces/networks", "cities", (".csv",)).open(encoding="utf-8") as file:
        rows = csv.DictReader(line for line in file if not line.startswith("#"))
        return {row["city"]: Place(float(row["latitude"]), float(row["longitude"])) for row in rows}


def city(name: str) -> Place:
    """Return where a city is.

    Raises
    ------
    InputError
        If infsim does not know it; suggests the nearest name.
    """
    plain = plain_name(name)
    known = cities()
    if plain not in known:
        raise InputError(
            f"unknown city {name!r}{did_you_mean(plain, known)}",
            hint="a place may also be given as {latitude: 48.86, longitude: 2.35}",
        )
    return known[plain]


def plain_name(name: str) -> str:
    """Return the name of a city as tables spell it here: ``New York`` is ``new-york``."""
    return "-".join(name.lower().replace("_", " ").replace("+", " ").replace("-", " ").split())
