"""Lengths of a trace in a few hundred numbers: quantiles, dependence, and change in time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from infsim.errors import InputError
from infsim.rng import Streams
from infsim.workload.hashing import uniform
from infsim.workload.lengths import Floats, Quantiles, Sampler, Tokens


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
    """

    input_tokens: Quantiles
    output_tokens: Quantiles
    cells: Sequence[Sequence[float]]
    cycle_s: float
    drift: Sequence[float] = ()
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
        weights[weights.sum(axis=1) == 0] = weights.sum(axis=0)
        shares = np.cumsum(weights, axis=1) / weights.sum(axis=1, keepdims=True)
        object.__setattr__(self, "_shares", shares)

    def sampler(self, streams: Streams) -> Sampler:
        cells = streams.stream("workload", "lengths", "cell")
        within = streams.stream("workload", "lengths", "within")
        key = int(streams.stream("workload", "lengths", "drift").integers(1 << 62))
        rows, size = self._shares.shape
        bins = round(size**0.5)
        input_edges = bin_edges(self.input_tokens, bins)
        output_edges = bin_edges(self.output_tokens, bins)
        # one sorted array: the shares of row r lie in [r, r + 1]
        stacked = (self._shares + np.arange(rows)[:, None]).ravel()

        def sample(arrival_s: Floats) -> tuple[Tokens, Tokens]:
            position = arrival_s / (self.cycle_s / rows)
            row = position.astype(np.int64) % rows
            rank = self._rank(cells, position, key)
            cell = np.searchsorted(stacked, row + rank, side="right") - row * size
            cell = np.clip(cell, 0, size - 1)
            output_u, input_u = within.random((len(arrival_s), 2)).T
            return (
                self.input_tokens.tokens(_within(input_edges, cell % bins, input_u)),
                self.output_tokens.tokens(_within(output_edges, cell // bins, output_u)),
            )

        return sample

    def outputs(self, bins: slice) -> RankGrid:
        """Return the requests with outputs in some of the bins alone."""
        cells = np.asarray(self.cells)
        cells = cells.reshape(len(cells), round(cells.shape[1] ** 0.5), -1)
        kept = np.zeros_like(cells)
        kept[:, bins] = cells[:, bins]
        return replace(self, cells=kept.reshape(len(cells), -1).tolist())

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


def bin_of(tokens: Tokens, edges: Floats) -> NDArray[np.int64]:
    """Return the bin of the rank of each length: int64 (n,)."""
    return np.searchsorted(edges[1:-1], (_rank(tokens) + 0.5) / len(tokens), side="right")


def fit_cells(
    of_input: NDArray[np.int64],
    of_output: NDArray[np.int64],
    segment: NDArray[np.int64],
    segments: int,
    bins: int,
) -> NDArray[np.int64]:
    """Count the pairs of bins in each segment.

    Parameters
    ----------
    of_input, of_output, segment : int64 (n,)
        Bins of both lengths, see `bin_of`, and segment of each request.
    segments, bins : int
        How many there are.

    Returns
    -------
    int64 (segments, bins * bins)
    """
    size = bins * bins
    cell = segment * size + of_output * bins + of_input
    return np.bincount(cell, minlength=segments * size).reshape(segments, size)


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
        if error > 0.01:
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
