"""Statistics of columns that pass by once, in memory that does not grow with them.

Each class takes the values block by block with ``add``. All are exact but for what their
docstring says.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_PENDING = 1 << 15
"""Values that wait until they are counted together."""


class Frequencies:
    """How often each whole number came: its memory grows with the number of different values."""

    def __init__(self) -> None:
        self._values: Ints = np.zeros(0, dtype=np.int64)
        self._counts: Ints = np.zeros(0, dtype=np.int64)
        self._pending: list[Ints] = []
        self._waiting = 0

    def add(self, values: Ints) -> None:
        """Count some values."""
        self._pending.append(values)
        self._waiting += len(values)
        if self._waiting >= _PENDING:
            self._merge()

    def table(self) -> tuple[Ints, Ints]:
        """Return the different values, increasing, and how often each came."""
        if self._pending:
            self._merge()
        return self._values, self._counts

    def quantiles(self, levels: Sequence[float]) -> list[float]:
        """Return quantiles, linear between neighbours, as `numpy.quantile`; NaN without values."""
        values, counts = self.table()
        if not len(values):
            return [math.nan] * len(levels)
        upto = np.cumsum(counts)
        place = np.asarray(levels) * (upto[-1] - 1)
        low, high = np.floor(place).astype(np.int64), np.ceil(place).astype(np.int64)
        below, above = (values[np.searchsorted(upto, at, side="right")] for at in (low, high))
        found: list[float] = (below + (above - below) * (place - low)).tolist()
        return found

    def mean(self) -> float:
        """Return the mean; NaN without values."""
        values, counts = self.table()
        return float(values.astype(np.float64) @ counts / counts.sum()) if len(values) else math.nan

    def _merge(self) -> None:
        values = np.concatenate([self._values, *self._pending])
        ones = np.ones(self._waiting, dtype=np.int64)
        self._values, index = np.unique(values, return_inverse=True)
        weights = np.concatenate([self._counts, ones])
        # sums of whole numbers below 2**53 are exact in float64
        self._counts = np.bincount(index, weights=weights).astype(np.int64)
        self._pending, self._waiting = [], 0


class LogHistogram:
    """Numbers of 0 and more in bins of 0.14 % width: quantiles are right to half of that."""

    _PER_OCTAVE = 512
    _ZERO = -(1 << 40)

    def __init__(self) -> None:
        self._bins = Frequencies()

    def add(self, values: Floats) -> None:
        """Count some values."""
        bins = np.full(len(values), self._ZERO, dtype=np.int64)
        above = values > 0
        bins[above] = np.floor(np.log2(values[above]) * self._PER_OCTAVE).astype(np.int64)
        self._bins.add(bins)

    def table(self) -> tuple[Floats, Ints]:
        """Return the middles of the bins that have values, increasing, and how many each has."""
        bins, counts = self._bins.table()
        middles = np.exp2((np.maximum(bins, -(1 << 19)) + 0.5) / self._PER_OCTAVE)
        return np.where(bins == self._ZERO, 0.0, middles), counts

    def quantiles(self, levels: Sequence[float]) -> list[float]:
        """Return quantiles; NaN without values."""
        values, counts = self.table()
        if not len(values):
            return [math.nan] * len(levels)
        upto = np.cumsum(counts)
        place = np.floor(np.asarray(levels) * (upto[-1] - 1)).astype(np.int64)
        found: list[float] = values[np.searchsorted(upto, place, side="right")].tolist()
        return found


class Moments:
    """Number, mean and variance of values, by the update of Chan et al. (1979)."""

    def __init__(self) -> None:
        self.count = 0
        self.mean = math.nan
        self._squares = 0.0

    def add(self, values: NDArray[Any]) -> None:
        """Take in some values."""
        n = len(values)
        if not n:
            return
        mean = float(values.mean())
        squares = float(((values - mean) ** 2).sum())
        if not self.count:
            self.count, self.mean, self._squares = n, mean, squares
            return
        total = self.count + n
        step = mean - self.mean
        self._squares += squares + step * step * self.count * n / total
        self.mean += step * n / total
        self.count = total

    @property
    def variance(self) -> float:
        """Mean squared distance from the mean; NaN without values."""
        return self._squares / self.count if self.count else math.nan

    @property
    def cv(self) -> float:
        """Coefficient of variation; NaN where it has no meaning."""
        return math.sqrt(self.variance) / self.mean if self.mean > 0 else math.nan


class Lagged:
    """Autocorrelation of a series.

    Parameters
    ----------
    lags : sequence of int
        Each above 0.
    """

    def __init__(self, lags: Sequence[int]) -> None:
        self.lags = tuple(lags)
        self._products = [0.0] * len(self.lags)
        self._moments = Moments()
        self._shift = 0.0
        self._head: Floats = np.zeros(0)
        self._tail: Floats = np.zeros(0)

    def add(self, values: NDArray[Any]) -> None:
        """Take in what comes next."""
        if not len(values):
            return
        if not self._moments.count:
            # products of distances from a value near the mean lose no digits
            self._shift = float(values.mean())
        x = values - self._shift
        self._moments.add(x)
        longest = max(self.lags)
        self._head = np.concatenate([self._head, x])[:longest]
        known = len(self._tail)
        joined = np.concatenate([self._tail, x])
        for index, lag in enumerate(self.lags):
            first = max(known, lag)
            if first < len(joined):
                self._products[index] += float(
                    joined[first:] @ joined[first - lag : len(joined) - lag]
                )
        self._tail = joined[-longest:]

    def autocorrelation(self) -> list[float]:
        """Return the correlation at each lag; NaN for lags of the length of the series and more."""
        n, mean = self._moments.count, self._moments.mean
        total, squares = n * mean, n * self._moments.variance
        found = []
        for lag, product in zip(self.lags, self._products, strict=True):
            if lag >= n or not squares > 0:
                found.append(math.nan)
                continue
            later = total - float(self._head[:lag].sum())
            earlier = total - float(self._tail[-lag:].sum())
            found.append((product - mean * (later + earlier) + (n - lag) * mean**2) / squares)
        return found
