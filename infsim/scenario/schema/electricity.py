"""What electricity emits and costs: a constant, a file of hourly values, or a profile."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field, Tag

from infsim.scenario.schema.base import Carbon, File, Part, Price, file_in, iso_time, told_by

CARBON_PROFILES = "traces/energy/carbon"
PRICE_PROFILES = "traces/energy/price"

Moment = Annotated[str, AfterValidator(iso_time)]


class ColumnNames(Part):
    """Which columns of a file are meant."""

    time: str | None = None
    """Header of the column of times."""
    value: str | None = None
    """Header of the column of values."""


class SeriesFile(Part):
    """Carbon intensity or price that changes over time, from a file."""

    file: File
    """CSV with a header, ISO times and values that hold until the next row."""
    start: Moment | None = None
    """Moment of the series at which the run starts, as in 2024-01-31T08:00; by default its
    first row."""
    zone: str | None = None
    """Time zone of times (in the file, and `start`) that do not say theirs, as in Europe/Paris."""
    columns: ColumnNames = ColumnNames()
    """Which columns to take, where the header does not tell."""
    unit: str | None = None
    """Unit of the values, where the header does not tell it, as in EUR/MWh."""


class SeriesProfile(Part):
    """Base of the profiles: values like those of a zone, drawn anew for each replication."""

    year: Annotated[int, Field(ge=1900, le=9999)] | None = None
    """Year whose values are meant; by default the last one that the profile knows."""
    start: Moment | None = None
    """Moment at which the run starts, UTC unless it says otherwise; by default the beginning of
    the year, which comes round."""


class CarbonProfile(SeriesProfile):
    """Carbon intensity like that of a zone, drawn anew for each replication."""

    profile: Annotated[str, file_in(CARBON_PROFILES, ".yaml")]
    """Bare name of a profile that infsim ships (`infsim list energy`), or a file relative to the
    scenario."""


class PriceProfile(SeriesProfile):
    """Prices like those of a zone, drawn anew for each replication."""

    profile: Annotated[str, file_in(PRICE_PROFILES, ".yaml")]
    """Bare name of a profile that infsim ships (`infsim list energy`), or a file relative to the
    scenario."""


_told_by_key = told_by("file", "profile", mapping="file", scalar="constant")

CarbonEntry = Annotated[
    Annotated[Carbon, Tag("constant")]
    | Annotated[SeriesFile, Tag("file")]
    | Annotated[CarbonProfile, Tag("profile")],
    _told_by_key,
]
PriceEntry = Annotated[
    Annotated[Price, Tag("constant")]
    | Annotated[SeriesFile, Tag("file")]
    | Annotated[PriceProfile, Tag("profile")],
    _told_by_key,
]


class Electricity(Part):
    """What electricity costs, and emits."""

    carbon: CarbonEntry | None = None
    """Carbon intensity: constant, a file of hourly values, or a profile."""
    price: PriceEntry | None = None
    """Price per kWh, all in one currency: constant, a file of hourly values, or a profile; it may
    be negative."""
    pue: Annotated[float, Field(ge=1)] | None = None
    """Power usage effectiveness: energy of the site over energy of its devices."""
