"""Arrivals with the rates of a trace and its burstiness on every time scale."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from infsim.errors import InputError
from infsim.rng import Streams

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_GROUP = 16384
"""Expected requests that are spread at a time; part of what a seed means, not a parameter."""

SIZES = (3, 5, 9, 17, 33)
"""Where the sizes of pieces are divided into classes: 2 requests, 3 to 4, …, 33 and more."""


@dataclass(frozen=True)
class Cascade:
    """Counts of windows, spread by halving each window again and again.

    The requests of a window are split between its halves by a beta-binomial draw, then those of
    each half, and so on; what is left in the shortest piece is spread evenly. How unequal the
    halves are is known for each halving, so that the counts have the index of dispersion of a
    trace on all time scales, which Poisson or renewal arrivals with the right rates do not have.
    It is known for pieces with few and with many requests apart, as the many of a burst are often
    spread smoothly, where the few between bursts are not.

    Attributes
    ----------
    counts : sequence of float
        Expected requests of each window.
    window_s : float
        Length of a window.
    burstiness : sequence of sequences of float
        For each halving, and each class of pieces by their size (see `SIZES`), the intra-class
        correlation of the split, in [-1, 1): two requests of a piece fall into the same half with
        probability ``(1 + burstiness) / 2``. 0 is Poisson; below, some pieces are halved evenly.
    cycles : int or None
        How often the windows are repeated, each time drawn anew; None: without end.

    Notes
    -----
    A multifractal cascade in the sense of Riedi, Crouse, Ribeiro and Baraniuk (IEEE Trans.
    Information Theory 45(3), 1999), with counts in the place of a continuous measure.
    """

    counts: Sequence[float]
    window_s: float
    burstiness: Sequence[Sequence[float]] = ()
    cycles: int | None = 1

    def __post_init__(self) -> None:
        if not all(0 <= count < math.inf for count in self.counts) or not sum(self.counts) > 0:
            raise InputError("counts must be 0 or more, and not all 0", key="counts")
        if not 0 < self.window_s < math.inf:
            raise InputError(f"a window of {self.window_s} s, must be above 0", key="window_s")
        for row in self.burstiness:
            if len(row) != len(SIZES) + 1 or not all(-1 <= value < 1 for value in row):
                raise InputError(
                    f"burstiness {row} is not {len(SIZES) + 1} numbers in [-1, 1)", key="burstiness"
                )
        if self.cycles is not None and self.cycles < 1:
            raise InputError(f"{self.cycles} cycles, must be at least 1", key="cycles")

    @property
    def cycle_s(self) -> float:
        """Length of all windows together."""
        return len(self.counts) * self.window_s

    def times(self, streams: Streams, block: int) -> Iterator[Floats]:
        """Yield increasing times in seconds, at most `block` at a time."""
        generator = streams.stream("workload", "arrivals")
        counts = np.asarray(self.counts, dtype=np.float64)
        group = max(1, int(_GROUP / counts.mean()))
        cycles = itertools.count() if self.cycles is None else range(self.cycles)
        for start in (cycle * len(counts) for cycle in cycles):
            for first in range(0, len(counts), group):
                part = counts[first : first + group]
                whole = np.floor(part + generator.random(len(part))).astype(np.int64)
                times = (start + first) * self.window_s + self._spread(generator, whole)
                # rounding must not carry a time beyond the beginning of the next group
                times = np.minimum(times, (start + first + len(part)) * self.window_s)
                yield from (times[i : i + block] for i in range(0, len(times), block))

    def _spread(self, generator: np.random.Generator, count: Ints) -> Floats:
        """Return sorted times of so many requests in each window, from the first one's start."""
        piece = np.arange(len(count))
        width_s = self.window_s
        times = []
        for correlations in self.burstiness:
            # a request that is alone in its piece is uniform there, whatever the burstiness
            alone = count == 1
            times.append((piece[alone] + generator.random(int(alone.sum()))) * width_s)
            piece, count = piece[count > 1], count[count > 1]
            left = _first_half(generator, np.asarray(correlations), count)
            piece = np.concatenate([2 * piece, 2 * piece + 1])
            count = np.concatenate([left, count - left])
            width_s /= 2
        piece = np.repeat(piece, count)
        times.append((piece + generator.random(len(piece))) * width_s)
        return np.sort(np.concatenate(times))


def _first_half(generator: np.random.Generator, correlations: Floats, count: Ints) -> Ints:
    """Draw how many of the 2 or more requests of each piece fall into its first half."""
    left = np.empty_like(count)
    pair = count == 2
    apart = (1 - correlations[0]) / 2
    u = generator.random(int(pair.sum()))
    left[pair] = np.where(u < apart, 1, np.where(u < (1 + apart) / 2, 0, 2))
    more = count[~pair]
    left[~pair] = _share(generator, correlations[size_class(more)], more)
    return left


def _share(generator: np.random.Generator, correlation: Floats, count: Ints) -> Ints:
    """Draw from beta-binomials; where the correlation is below 0, halve some of them evenly."""
    share = np.full(len(count), 0.5)
    uneven = correlation > 1e-6
    shape = (1 / correlation[uneven] - 1) / 2
    share[uneven] = generator.beta(shape, shape)
    left = generator.binomial(count, share)
    below = np.flatnonzero(correlation < 0)
    chance = -correlation[below] / _evenness(count[below])
    even = below[generator.random(len(below)) < chance]
    left[even] = (count[even] + generator.integers(0, 2, len(even))) // 2
    return left


def _evenness(count: Ints) -> Floats:
    """Return the correlation of an even split, times -1: 1 / (n - 1) for even n, 1 / n for odd."""
    evenness: Floats = 1 / (count - 1 + count % 2)
    return evenness


def size_class(count: Ints) -> Ints:
    """Return the class of pieces with so many requests, see `SIZES`."""
    return np.searchsorted(SIZES, count, side="right")
