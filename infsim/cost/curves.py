"""Piecewise-linear functions of one variable: times between measured points."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from infsim.errors import InputError


@dataclass(frozen=True)
class Curve:
    """Time against an amount of work (tokens, bytes, sequences).

    Exact at the measured points, linear between them, constant below the first (launching a
    kernel takes as long whatever it does), and in proportion to the work beyond the last.

    Attributes
    ----------
    x : tuple of float
        Positive, strictly increasing.
    time_s : tuple of float
    """

    x: tuple[float, ...]
    time_s: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.x or len(self.x) != len(self.time_s):
            raise InputError(f"a curve of {len(self.x)} points and {len(self.time_s)} times")
        if self.x[0] <= 0 or any(b <= a for a, b in pairwise(self.x)):
            raise InputError(f"points of a curve must be positive and increase, got {self.x}")
        if not all(0 <= t < float("inf") for t in self.time_s):
            raise InputError(f"times of a curve must be finite and not negative: {self.time_s}")

    def at(self, x: float) -> float:
        """Seconds of so much work.

        Examples
        --------
        >>> curve = Curve((1, 3), (10.0, 20.0))
        >>> curve.at(0.5), curve.at(2), curve.at(6)
        (10.0, 15.0, 40.0)
        """
        points, times = self.x, self.time_s
        i = bisect_left(points, x)
        if i == 0:
            return times[0]
        if i == len(points):
            return times[-1] * (x / points[-1])
        low, high = points[i - 1], points[i]
        if x == high:  # exact there, whatever rounding does
            return times[i]
        return times[i - 1] + (x - low) / (high - low) * (times[i] - times[i - 1])

    def scaled(self, work: float) -> Curve:
        """The same kernel with ``work`` times as much to do at each point."""
        return Curve(tuple(x / work for x in self.x), self.time_s)


def total(parts: Iterable[tuple[float, Curve]], knots: Sequence[float] = ()) -> Curve:
    """Sum of curves, each times a count, exact at all their points and at further ``knots``."""
    listed = [(count, curve) for count, curve in parts if count]
    points = sorted({x for _, curve in listed for x in curve.x} | set(knots))
    times = [sum(count * curve.at(x) for count, curve in listed) for x in points]
    return Curve(tuple(points), tuple(times))
