"""Power of a device in the middle of an iteration, as it was measured."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from infsim.errors import InputError


@dataclass(frozen=True)
class PowerTable:
    """Power against load, which is the tokens of an iteration.

    Few tokens only read weights; many keep the arithmetic busy. Linear between measured loads,
    constant before the first and beyond the last one.

    Attributes
    ----------
    source : str
        Where the figures come from.
    tokens : tuple of float
        Prompt tokens and decodes of an iteration, increasing.
    power_w : tuple of float
        Watts of one device.

    Raises
    ------
    InputError
        If loads do not increase, or a power is not positive.

    Examples
    --------
    >>> table = PowerTable("made up", (1, 101), (200.0, 300.0))
    >>> table.at(1), table.at(51), table.at(1000)
    (200.0, 250.0, 300.0)
    """

    source: str
    tokens: tuple[float, ...]
    power_w: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.tokens or len(self.tokens) != len(self.power_w):
            raise InputError(f"power at {len(self.tokens)} loads: {len(self.power_w)} values")
        if any(b <= a for a, b in pairwise(self.tokens)):
            raise InputError(f"loads must increase, got {self.tokens}")
        if not all(0 < w < float("inf") for w in self.power_w):
            raise InputError(f"power must be positive and finite, got {self.power_w}")

    def at(self, tokens: float) -> float:
        """Watts of a device in an iteration of so many tokens."""
        i = bisect_right(self.tokens, tokens)
        if i == 0:
            return self.power_w[0]
        if i == len(self.tokens):
            return self.power_w[-1]
        low, high = self.tokens[i - 1], self.tokens[i]
        share = (tokens - low) / (high - low)
        return self.power_w[i - 1] + share * (self.power_w[i] - self.power_w[i - 1])

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "source": self.source,
            "tokens": list(self.tokens),
            "power_w": [round(w, 1) for w in self.power_w],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> PowerTable:
        """Build it from plain data."""
        return cls(data["source"], tuple(data["tokens"]), tuple(data["power_w"]))
