"""Which points of a curve to measure: where lines between the measured ones are least sure.

A curve begins with its ends and a point between. In a gap between two measured points, a curve that
bends only one way lies between their line and the neighbouring lines, drawn on into the gap (the
sandwich of Rote, Computing 48, 1992). How far these are apart is the error to be expected there.
The middle of the worst gap is measured next, until less than the wanted error is expected anywhere:
a straight curve is done after three points, kinks and steps are hunted down to their place.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
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
    dense_to : int
        All points up to this are measured.
    held_out : collection of int
        Points that the search leaves alone: they tell how well it knows the others.
    """

    points: Sequence[int]
    longest_s: float = inf
    dense_to: int = 0
    held_out: Collection[int] = ()
    _times: dict[int, float] = field(default_factory=dict)
    _closed: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        if not self.points or any(b <= a for a, b in pairwise(self.points)):
            raise InputError(f"points to measure must increase, got {list(self.points)}")

    def next(self, wanted: float) -> int | None:
        """Return the point with most to learn.

        Parameters
        ----------
        wanted : float
            Relative error to be content with; with 0 every point is measured, with infinity only
            the ends.

        Returns
        -------
        int or None
            None if less than the wanted error is expected everywhere.
        """
        end = self._end()
        if end is not None:
            return self.points[end]
        if wanted == inf:
            return None
        dense = [i for i in self._fresh() if self.points[i] <= self.dense_to]
        if dense:
            return self.points[dense[0]]
        gaps = [gap for gap in self._gaps() if gap[0] >= wanted]
        if not gaps:
            return None
        *_, middle = max(gaps, key=lambda gap: gap[:2])
        return self.points[middle]

    def add(self, point: int, time_s: float) -> None:
        """Take in a measured point."""
        self._times[self.points.index(point)] = time_s

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
    def known(self) -> range:
        """Points of the grid between the measured ends, by their indices."""
        return range(min(self._times), max(self._times) + 1) if self._times else range(0)

    @property
    def saved(self) -> int:
        """Points that were not measured although they lie between measured ones."""
        held_out = sum(self.points[i] in self.held_out for i in self.known)
        return len(self.known) - len(self._times) - held_out

    def _end(self) -> int | None:
        """The first point, or the last one within reach, if it was not measured."""
        fresh = self._fresh()
        if not self._times:
            return min(fresh, default=None)
        last = max(self._times)
        reach = self.points[last] * self.longest_s / self._times[last]
        return max((i for i in fresh if i > last and self.points[i] <= reach), default=None)

    def _fresh(self) -> list[int]:
        done = self._times.keys() | self._closed
        points = enumerate(self.points)
        return [i for i, point in points if i not in done and point not in self.held_out]

    def _gaps(self) -> list[tuple[float, int, int]]:
        """Expected error, width and middle of each gap with a middle to be measured."""
        known = sorted(self._times)
        x, t = self.points, self._times
        slopes = [(t[b] - t[a]) / (x[b] - x[a]) for a, b in pairwise(known)]
        found = []
        for i, (low, high) in enumerate(pairwise(known)):
            middle = self._middle(low, high)
            if middle is not None and middle not in self._closed:
                before = abs(slopes[i] - slopes[i - 1]) if i else inf
                after = abs(slopes[i + 1] - slopes[i]) if i + 1 < len(slopes) else inf
                error = self._sandwich(low, high, slopes[i], before, after)
                found.append((error, high - low, middle))
        return found

    def _middle(self, low: int, high: int) -> int | None:
        """The point nearest to the middle of a gap, the lower one of two."""
        inner = [i for i in range(low + 1, high) if self.points[i] not in self.held_out]
        return min(inner, key=lambda i: (abs(2 * i - low - high), i), default=None)

    def _sandwich(self, low: int, high: int, slope: float, before: float, after: float) -> float:
        """Largest relative distance of a line from the nearer one of its neighbours.

        ``before`` and ``after`` are how much steeper or flatter these are.
        """
        start, end = self.points[low], self.points[high]
        return max(
            min((x - start) * before, (end - x) * after) / (self._times[low] + slope * (x - start))
            for x in self.points[low + 1 : high]
        )
