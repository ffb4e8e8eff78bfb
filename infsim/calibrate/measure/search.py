"""Which points of a curve to measure: where lines between the measured ones are least sure.

A curve begins with its ends. Each further point halves a gap between two measured ones. How far it
lies from the line that ran through there before is the best guess of how far the curve strays from
the new lines to both sides: half of it is expected there, as smooth curves stray a quarter as far,
and steps just as far. A gap in which less than the wanted error is expected is left alone, so that
a straight curve is done after three points, and a step is hunted down to its place.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from math import inf

from infsim.errors import InputError


@dataclass
class CurveSearch:
    """The search along one curve.

    Parameters
    ----------
    points : sequence of int
        The full grid, increasing.
    longest_s : float
        Points beyond the measured ones that would take longer, in proportion to the largest one,
        are not measured.
    """

    points: Sequence[int]
    longest_s: float = inf
    _times: dict[int, float] = field(default_factory=dict)
    _surprise: dict[int, float] = field(default_factory=dict)
    _closed: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        if not self.points or any(b <= a for a, b in pairwise(self.points)):
            raise InputError(f"points to measure must increase, got {list(self.points)}")

    def next(self, wanted: float) -> int | None:
        """Return the point with most to learn.

        Parameters
        ----------
        wanted : float
            Relative error to be content with; with 0 every point is measured.

        Returns
        -------
        int or None
            None if less than the wanted error is expected everywhere.
        """
        end = self._end()
        if end is not None:
            return self.points[end]
        gaps = [gap for gap in self._gaps() if gap[0] >= wanted]
        if not gaps:
            return None
        _, low, high = max(gaps, key=lambda gap: (gap[0], gap[2] - gap[1]))
        return self.points[(low + high) // 2]

    def add(self, point: int, time_s: float) -> None:
        """Take in a measured point."""
        index = self.points.index(point)
        line = self._line(index)
        self._surprise[index] = inf if line is None else abs(line / time_s - 1)
        self._times[index] = time_s

    def give_up(self, point: int) -> None:
        """Leave a point alone that could not be measured."""
        self._closed.add(self.points.index(point))

    @property
    def expected_error(self) -> float:
        """Largest error to be expected between measured points, infinite at the beginning."""
        if not self._times:
            return inf
        return max((score for score, _, _ in self._gaps()), default=0.0)

    @property
    def saved(self) -> int:
        """Points that were not measured although they lie between measured ones."""
        if not self._times:
            return 0
        return max(self._times) - min(self._times) + 1 - len(self._times)

    def _end(self) -> int | None:
        """The first point, or the last one within reach, if it was not measured."""
        fresh = [i for i in range(len(self.points)) if i not in self._closed]
        if not self._times:
            return min(fresh, default=None)
        last = max(self._times)
        reach = self.points[last] * self.longest_s / self._times[last]
        return max((i for i in fresh if i > last and self.points[i] <= reach), default=None)

    def _gaps(self) -> list[tuple[float, int, int]]:
        """Expected error, lower and upper index of each gap with a middle to be measured."""
        order = {index: i for i, index in enumerate(self._times)}
        found = []
        for low, high in pairwise(sorted(self._times)):
            if high - low > 1 and (low + high) // 2 not in self._closed:
                newest = max(low, high, key=order.__getitem__)  # the point that made this gap
                found.append((self._surprise[newest] / 2, low, high))
        return found

    def _line(self, index: int) -> float | None:
        """Time on the line between the measured neighbours; None outside of them."""
        below = [i for i in self._times if i < index]
        above = [i for i in self._times if i > index]
        if not below or not above:
            return None
        low, high = max(below), min(above)
        share = (self.points[index] - self.points[low]) / (self.points[high] - self.points[low])
        return self._times[low] + share * (self._times[high] - self._times[low])
