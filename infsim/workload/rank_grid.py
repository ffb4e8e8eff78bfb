"""Lengths of a trace in a few hundred numbers: quantiles, dependence, and change in time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from infsim.errors import InputError
from infsim.rng import Streams
from infsim.workload.hashing import uniform
from infsim.workload.lengths import Floats, Quantiles, Sampler, Tokens

_LEAST_EXPLAINED = 0.03
_BUSY_LEVELS = (0.3, 0.5, 0.7, 0.8, 0.9, 0.96)


@dataclass(frozen=True)
class Busy:
    """When arrivals are so dense that lengths are different.

    Attributes
    ----------
    lag_s : float
        Time before a request in which arrivals are counted.
    above : sequence of sequences of int
        For each segment increasing thresholds: a request is the busier, the more of them are
        below the number of arrivals before it.
    """

    lag_s: float
    above: Sequence[Sequence[int]]

    def __post_init__(self) -> None:
        if not 0 < self.lag_s < math.inf:
            raise InputError(f"lag_s is {self.lag_s}, must be above 0", key="lag_s")
        if not self.above or len({len(row) for row in self.above}) != 1 or not self.above[0]:
            raise InputError("above must be thresholds, equally many for each segment", key="above")

    @property
    def levels(self) -> int:
        """How many levels of being busy there are."""
        return len(self.above[0]) + 1

    def rows(self, segment: NDArray[np.int64], count: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the row of cells for requests of segments, after so many arrivals."""
        level = (count[:, None] > np.asarray(self.above)[segment]).sum(axis=1)
        rows: NDArray[np.int64] = self.levels * segment + level
        return rows


@dataclass(frozen=True)
class RankGrid:
    """Two quantile tables and, for each segment of time, a histogram over both ranks.

    The ranks of prompt and output length among all requests are each divided into bins of equally
    many requests. How often each pair of bins comes in a segment of time says both how the
    lengths depend on each other and how they drift; without the drift, the load of the Azure
    conversation trace would swing far more than it did, as outputs are short when requests
    are many. What drifts within a segment is random: an effect common to the requests of a
    piece of time that adds to one half of the piece what it takes from the other.

    Attributes
    ----------
    input_tokens, output_tokens : Quantiles
        Of all requests.
    cells : sequence of sequences of float
        For each segment the weights of all pairs of bins: ``bins * bins`` of them, row by row,
        a row for each bin of the output length, from short to long. A segment without requests
        takes the weights of all segments.
    cycle_s : float
        Time after which the segments are repeated.
    drift : sequence of float
        For each halving of a segment, of its halves, and so on, the share of the variance of
        output ranks (as normal scores) that comes from the difference of the halves.
    busy : Busy or None
        If given, each segment has several rows of cells, for requests that come when it is not
        busy, busier, and so on.
    """

    input_tokens: Quantiles
    output_tokens: Quantiles
    cells: Sequence[Sequence[float]]
    cycle_s: float
    drift: Sequence[float] = ()
    busy: Busy | None = None
    _shares: Floats = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        size = len(self.cells[0]) if self.cells else 0
        if not size or round(size**0.5) ** 2 != size or any(len(row) != size for row in self.cells):
            raise InputError("cells must be rows of bins * bins weights", key="cells")
        weights = np.asarray(self.cells, dtype=np.float64)
        if not (weights >= 0).all() or not weights.sum() > 0:
            raise InputError("weights of cells must be 0 or more, and not all 0", key="cells")
        if any(share < 0 for share in self.drift) or not sum(self.drift) < 1:
            raise InputError("drift must be 0 or more, and below 1 together", key="drift")
        if self.busy is not None and len(weights) != self.busy.levels * len(self.busy.above):
            raise InputError(
                f"{len(weights)} rows of cells for {len(self.busy.above)} segments with "
                f"{self.busy.levels} levels each",
                key="cells",
            )
        weights[weights.sum(axis=1) == 0] = weights.sum(axis=0)
        shares = np.cumsum(weights, axis=1) / weights.sum(axis=1, keepdims=True)
        object.__setattr__(self, "_shares", shares)

    def sampler(self, streams: Streams) -> Sampler:
        cells = streams.stream("workload", "lengths", "cell")
        within = streams.stream("workload", "lengths", "within")
        key = int(streams.stream("workload", "lengths", "drift").integers(1 << 62))
        rows, size = self._shares.shape
        segments = rows if self.busy is None else len(self.busy.above)
        recent = np.zeros(0)
        bins = round(size**0.5)
        input_edges = bin_edges(self.input_tokens, bins)
        output_edges = bin_edges(self.output_tokens, bins)
        # one sorted array: the shares of row r lie in [r, r + 1]
        stacked = (self._shares + np.arange(rows)[:, None]).ravel()

        def sample(arrival_s: Floats) -> tuple[Tokens, Tokens]:
            position = arrival_s / (self.cycle_s / segments)
            segment = position.astype(np.int64) % segments
            row = segment
            if self.busy is not None:
                nonlocal recent
                count = arrivals_before(arrival_s, self.busy.lag_s, recent)
                known = np.concatenate([recent, arrival_s])
                recent = known[known >= arrival_s[-1] - self.busy.lag_s]
                row = self.busy.rows(segment, count)
            rank = self._rank(cells, position, key)
            cell = np.searchsorted(stacked, row + rank, side="right") - row * size
            cell = np.clip(cell, 0, size - 1)
            output_u, input_u = within.random((len(arrival_s), 2)).T
            return (
                self.input_tokens.tokens(_within(input_edges, cell % bins, input_u)),
                self.output_tokens.tokens(_within(output_edges, cell // bins, output_u)),
            )

        return sample

    def _rank(self, generator: np.random.Generator, position: Floats, key: int) -> Floats:
        """Draw ranks within the segment, uniform if nothing drifts."""
        from scipy.special import ndtr

        score = generator.standard_normal(len(position)) * (1 - sum(self.drift)) ** 0.5
        for level, share in enumerate(self.drift):
            if share:
                score += share**0.5 * _half_effect(position * 2**level, key + level)
        ranks: Floats = ndtr(score)
        return ranks


def _half_effect(position: Floats, key: int) -> Floats:
    """Return a standard normal effect for each unit of `position`, its sign by the half.

    It is a hash of the unit, as the requests of a unit may be drawn in several blocks.
    """
    from scipy.special import ndtri

    halves = (2 * position).astype(np.int64)
    unit = halves >> 1
    first = np.flatnonzero(np.diff(unit, prepend=-1))
    effect = ndtri(np.maximum(uniform(unit[first], key), 2.0**-53))
    repeated = np.repeat(effect, np.diff(first, append=len(unit)))
    signed: Floats = np.where(halves & 1, -repeated, repeated)
    return signed


def arrivals_before(arrival_s: Floats, lag_s: float, recent: Floats) -> NDArray[np.int64]:
    """Count for each arrival those in the time `lag_s` before it: int64 (n,).

    Parameters
    ----------
    arrival_s, recent : float64
        Sorted times, and those of arrivals before the first that may count.
    lag_s : float
        How far back.
    """
    known = np.concatenate([recent, arrival_s])
    first = np.searchsorted(known, arrival_s - lag_s)
    return np.arange(len(recent), len(known)) - first


def fit_busy(
    arrival_s: Floats, output_tokens: Tokens, segment: NDArray[np.int64]
) -> tuple[Busy, NDArray[np.int64]] | None:
    """Find out whether outputs have other lengths when arrivals are dense.

    That is so where services with unlike bursts are mixed. Lags from 0.3 s to 5 min are tried, with
    quantiles of the counts in each segment as thresholds; what explains most of the variance
    of log lengths within segments is taken.

    Returns
    -------
    (Busy, int64 (n,)) or None
        With the row of each request; None if it explains less than 3 %, or hardly more than
    chance would.
    """
    n = np.bincount(segment)
    score = np.log(output_tokens)
    score = score - (np.bincount(segment, score) / np.maximum(n, 1))[segment]
    by_chance = 2 * len(n) * (len(_BUSY_LEVELS) + 1) / len(score)
    best, found = (_LEAST_EXPLAINED + by_chance) * float(score @ score), None
    for lag_s in np.geomspace(0.3, 300, 11).round(1).tolist():
        count = arrivals_before(arrival_s, lag_s, np.zeros(0))
        # quantiles of each segment, from the counts sorted by segment
        ordered = count[np.lexsort((count, segment))]
        at = (np.cumsum(n) - n)[:, None] + (n[:, None] * np.array(_BUSY_LEVELS)).astype(np.int64)
        above = np.where(n[:, None] > 0, ordered[np.minimum(at, len(ordered) - 1)], 0)
        busy = Busy(lag_s, above.tolist())
        row = busy.rows(segment, count)
        mean = np.bincount(row, score) / np.maximum(np.bincount(row), 1)
        explained = float((mean[row] ** 2).sum())
        if explained > best:
            best, found = explained, (busy, row)
    return found


def bin_edges(table: Quantiles, bins: int) -> Floats:
    """Divide ranks into bins, so that bins of long lengths have fewer requests.

    The bins have equal sums of their shares of the requests and of the tokens: long requests
    are few, but most of the load.

    Parameters
    ----------
    table : Quantiles
        The lengths.
    bins : int
        How many.

    Returns
    -------
    float64 (bins + 1,)
        From 0 to 1.
    """
    edge = np.linspace(0, 1, 4097)
    tokens = table.quantile((edge[1:] + edge[:-1]) / 2)
    share = (np.arange(1, 4097) / 4096 + np.cumsum(tokens) / tokens.sum()) / 2
    edges: Floats = np.interp(np.linspace(0, 1, bins + 1), np.append(0, share), edge)
    return edges


def _within(edges: Floats, index: NDArray[np.int64], u: Floats) -> Floats:
    """Return ranks at shares `u` of bins."""
    return edges[index] + u * np.diff(edges)[index]


def fit_cells(
    input_tokens: Tokens,
    output_tokens: Tokens,
    row: NDArray[np.int64],
    rows: int,
    edges: tuple[Floats, Floats],
) -> NDArray[np.int64]:
    """Count the pairs of bins in each row: a segment, or one of its two when some are busy.

    Parameters
    ----------
    input_tokens, output_tokens, row : int64 (n,)
        Lengths and row of each request.
    rows : int
        How many rows.
    edges : pair of float64 (bins + 1,)
        Bins of the rank of the input and of the output length, see `bin_edges`.

    Returns
    -------
    int64 (rows, bins * bins)
    """
    bins = len(edges[0]) - 1
    size = bins * bins
    of_input, of_output = (
        np.searchsorted(edge[1:-1], (_rank(tokens) + 0.5) / len(row), side="right")
        for edge, tokens in zip(edges, (input_tokens, output_tokens), strict=True)
    )
    cell = of_output * bins + of_input
    return np.bincount(row * size + cell, minlength=rows * size).reshape(rows, size)


def fit_drift(
    output_tokens: Tokens,
    phase: NDArray[np.float64],
    segments: int,
    row: NDArray[np.int64],
    levels: int = 6,
) -> list[float]:
    """Estimate how much of the variance of output ranks comes from each halving of the segments.

    Parameters
    ----------
    output_tokens, phase : (n,)
        Output lengths, and arrival as a fraction of the trace, in [0, 1].
    segments : int
        Segments, whose halves, and so on, are looked at.
    row : int64 (n,)
        Row of the cells of each request; ranks are taken within rows.
    levels : int
        Halvings at most; there are fewer if their error would exceed what is looked for.

    Notes
    -----
    If the two halves of a piece have n and m requests, the difference of their mean scores has
    the variance ``4 * drift + 1 / n + 1 / m``; drift equates the sums over all pieces, weighted by
    the harmonic mean of n and m. What is not above two standard errors counts as 0.
    """
    from scipy.special import ndtri

    order = np.lexsort((_rank(output_tokens), row))
    count = np.bincount(row)
    rank = np.empty(len(order))
    rank[order] = np.arange(len(order)) - np.repeat(np.cumsum(count) - count, count)
    score = ndtri((rank + 0.5) / count[row])
    estimates = []
    for level in range(1, levels + 1):
        pieces = segments << level
        piece = np.minimum((phase * pieces).astype(np.int64), pieces - 1)
        n = np.bincount(piece, minlength=pieces).reshape(-1, 2)
        total = np.bincount(piece, weights=score, minlength=pieces).reshape(-1, 2)
        n, total = n[n.min(axis=1) > 0], total[n.min(axis=1) > 0]
        if not len(n):
            break
        weight = 1 / (1 / n).sum(axis=1)
        difference = np.subtract(*(total / n).T)
        estimate = (weight * difference**2 - 1).sum() / (4 * weight.sum())
        error = (2 * len(n)) ** 0.5 / (4 * weight.sum())
        if error > 0.003:
            break
        estimates.append(round(float(estimate), 4) if estimate > 2 * error else 0.0)
    while estimates and not estimates[-1]:
        estimates.pop()
    return estimates


def _rank(values: Tokens) -> NDArray[np.int64]:
    """Rank of each value; equal ones in random order, always the same."""
    anyhow = np.random.default_rng(0).permutation(len(values))
    rank = np.empty(len(values), dtype=np.int64)
    rank[np.lexsort((anyhow, values))] = np.arange(len(values))
    return rank
