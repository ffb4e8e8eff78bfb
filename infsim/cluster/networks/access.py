"""Access lines of homes, campuses and data centres: what goes up and down."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from math import exp

from infsim.errors import InputError, did_you_mean
from infsim.paths import data_file
from infsim.rng import Streams

BYTES_PER_MBIT = 1e6 / 8


@dataclass(frozen=True, slots=True)
class AccessClass:
    """A kind of access line, with rates that are lognormal over lines.

    Attributes
    ----------
    name : str
    down_bytes_per_s, up_bytes_per_s : float
        Medians.
    down_sigma, up_sigma : float
        Standard deviations of the natural logarithms; 0 if all lines are equal.
    source : str
        Where the figures come from.
    """

    name: str
    down_bytes_per_s: float
    up_bytes_per_s: float
    down_sigma: float
    up_sigma: float
    source: str

    def draw(self, streams: Streams, owner: str) -> tuple[float, float]:
        """Return the rates up and down of somebody's line, in bytes/s.

        A line that is better than others of its class is so in both directions: one draw decides.
        It depends on the owner's name only.
        """
        z = float(streams.stream("access", owner).standard_normal())
        up, down = exp(self.up_sigma * z), exp(self.down_sigma * z)
        return self.up_bytes_per_s * up, self.down_bytes_per_s * down


@cache
def access_classes() -> dict[str, AccessClass]:
    """Return the kinds of access lines that infsim knows, by name."""
    import yaml

    text = data_file("traces/networks", "access", (".yaml",)).read_text(encoding="utf-8")
    return {
        name: AccessClass(
            name,
            entry["down_mbit_per_s"] * BYTES_PER_MBIT,
            entry["up_mbit_per_s"] * BYTES_PER_MBIT,
            entry.get("down_sigma", 0.0),
            entry.get("up_sigma", 0.0),
            entry["source"],
        )
        for name, entry in yaml.safe_load(text)["classes"].items()
    }


def access_class(name: str) -> AccessClass:
    """Return a kind of access line.

    Raises
    ------
    InputError
        If there is none of this name; suggests the nearest.
    """
    known = access_classes()
    if name not in known:
        raise InputError(
            f"unknown access class {name!r}{did_you_mean(name, known)}",
            hint=f"classes: {', '.join(known)}",
        )
    return known[name]
