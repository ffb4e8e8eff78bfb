"""Arrivals counted in windows of time while they pass by, in memory that does not grow."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class WindowCounts:
    """Counts of arrivals in windows of one length, from the first arrival on.

    The last window, which is not complete, is left out. Memory is that of the windows with
    arrivals within the longest lag, however long the trace stands still in between.

    Parameters
    ----------
    window_s : float
    lags : sequence of int
        Windows at which counts are correlated with themselves.

    Attributes
    ----------
    windows : int
        Complete windows.
    busiest : int
        Largest count, that of the last window included.
    """

    def __init__(self, window_s: float, lags: Sequence[int] = ()) -> None:
        self.window_s = window_s
        self.lags = tuple(lags)
        self.windows = 0
        self.busiest = 0
        self._first_s = math.nan
        self._sum = 0
        self._squares = 0
        self._products = [0] * len(self.lags)
        self._open = (0, 0)
        self._head: tuple[Ints, Ints] = _no_windows()
        self._tail: tuple[Ints, Ints] = _no_windows()

    def add(self, arrival_s: Floats) -> None:
        """Take in the arrivals that come next."""
        if not len(arrival_s):
            return
        if math.isnan(self._first_s):
            self._first_s = float(arrival_s[0])
        window = np.floor((arrival_s - self._first_s) / self.window_s).astype(np.int64)
        starts = np.flatnonzero(np.diff(window, prepend=window[0] - 1))
        index, count = window[starts], np.diff(starts, append=len(window))
        opened, before = self._open
        if index[0] == opened:
            count[0] += before
        elif before:
            index, count = np.append(opened, index), np.append(before, count)
        self._open = int(index[-1]), int(count[-1])
        self.windows = self._open[0]
        self.busiest = max(self.busiest, int(count.max()))
        self._close(index[:-1], count[:-1])

    @property
    def mean(self) -> float:
        """Mean count of a window; NaN without complete windows."""
        return self._sum / self.windows if self.windows else math.nan

    def dispersion(self) -> float:
        """Return variance over mean; NaN with fewer than two windows or without arrivals in any."""
        n = self.windows
        if n < 2 or not self._sum:
            return math.nan
        return (self._squares - self._sum**2 / n) / (n - 1) / self.mean

    def autocorrelation(self) -> list[float]:
        """Return the correlation of counts at each lag; NaN where there is none."""
        n, mean = self.windows, self.mean
        squares = self._squares - self._sum**2 / n if n else 0
        found = []
        for lag, product in zip(self.lags, self._products, strict=True):
            if lag >= n or squares <= 0:
                found.append(math.nan)
                continue
            head, tail = self._head[0] < lag, self._tail[0] >= n - lag
            later = self._sum - int(self._head[1][head].sum())
            earlier = self._sum - int(self._tail[1][tail].sum())
            found.append((product - mean * (later + earlier) + (n - lag) * mean**2) / squares)
        return found

    def _close(self, index: Ints, count: Ints) -> None:
        """Take in complete windows that have arrivals."""
        if not len(index):
            return
        self._sum += int(count.sum())
        self._squares += int((count * count).sum())
        if not self.lags:
            return
        longest = max(self.lags)
        known, counts = (
            np.concatenate(pair) for pair in zip(self._tail, (index, count), strict=True)
        )
        for place, lag in enumerate(self.lags):
            at = np.searchsorted(known, index - lag)
            same = known[at] == index - lag
            self._products[place] += int((count[same] * counts[at[same]]).sum())
        early = index < longest
        self._head = (
            np.concatenate([self._head[0], index[early]]),
            np.concatenate([self._head[1], count[early]]),
        )
        late = known > known[-1] - longest
        self._tail = known[late], counts[late]


def _no_windows() -> tuple[Ints, Ints]:
    return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)


class RateSeries:
    """Rates from the first arrival on in at most `most` windows; their length doubles as it must.

    Parameters
    ----------
    most : int
        An even number.
    """

    def __init__(self, most: int = 512) -> None:
        self.window_s = 1.0
        self._counts = np.zeros(most, dtype=np.int64)
        self._first_s = math.nan
        self._last_s = 0.0

    def add(self, arrival_s: Floats) -> None:
        """Take in the arrivals that come next."""
        if not len(arrival_s):
            return
        if math.isnan(self._first_s):
            self._first_s = float(arrival_s[0])
        since_s = arrival_s - self._first_s
        self._last_s = float(since_s[-1])
        while self._last_s >= len(self._counts) * self.window_s:
            half = self._counts.reshape(-1, 2).sum(axis=1)
            self._counts = np.append(half, np.zeros(len(half), dtype=np.int64))
            self.window_s *= 2
        index = (since_s / self.window_s).astype(np.int64)
        self._counts += np.bincount(index, minlength=len(self._counts))

    def rates(self) -> Floats:
        """Return the rate in each window up to the last arrival, 1/s."""
        return self._counts[: int(self._last_s / self.window_s) + 1] / self.window_s
