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

_GROUP = 16384
"""Expected requests that are spread at a time; part of what a seed means, not a parameter."""

_HALVINGS = 24
_FEWEST_PAIRS = 25.0


@dataclass(frozen=True)
class Cascade:
    """Counts of windows, spread by halving each window again and again.

    The requests of a window are split between its halves by a beta-binomial draw, then those of
    each half, and so on; what is left in the shortest piece is spread evenly. How unequal the
    halves are is known for each halving, so that the counts have the index of dispersion of a
    trace on all time scales, which Poisson or renewal arrivals with the right rates do not have.

    Attributes
    ----------
    counts : sequence of float
        Expected requests of each window.
    window_s : float
        Length of a window.
    burstiness : sequence of float
        For each halving the intra-class correlation of the split, in [0, 1): two requests of
        a piece fall into the same half with probability ``(1 + burstiness) / 2``. 0 is Poisson.
    cycles : int or None
        How often the windows are repeated, each time drawn anew; None: without end.

    Notes
    -----
    A multifractal cascade in the sense of Riedi, Crouse, Ribeiro and Baraniuk (IEEE Trans.
    Information Theory 45(3), 1999), with counts in the place of a continuous measure.
    """

    counts: Sequence[float]
    window_s: float
    burstiness: Sequence[float] = ()
    cycles: int | None = 1

    def __post_init__(self) -> None:
        if not all(0 <= count < math.inf for count in self.counts) or not sum(self.counts) > 0:
            raise InputError("counts must be 0 or more, and not all 0", key="counts")
        if not 0 < self.window_s < math.inf:
            raise InputError(f"a window of {self.window_s} s, must be above 0", key="window_s")
        for value in self.burstiness:
            if not 0 <= value < 1:
                raise InputError(f"burstiness {value} is not in [0, 1)", key="burstiness")
        if self.cycles is not None and self.cycles < 1:
            raise InputError(f"{self.cycles} cycles, must be at least 1", key="cycles")

    @property
    def cycle_s(self) -> float:
        """Length of all windows together."""
        return len(self.counts) * self.window_s

    def times(self, streams: Streams, block: int) -> Iterator[NDArray[np.float64]]:
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

    def _spread(
        self, generator: np.random.Generator, count: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """Return sorted times of so many requests in each window, from the first one's start."""
        piece = np.arange(len(count))
        width_s = self.window_s
        times = []
        for correlation in self.burstiness:
            # a request that is alone in its piece is uniform there, whatever the burstiness
            alone = count == 1
            times.append((piece[alone] + generator.random(int(alone.sum()))) * width_s)
            piece, count = piece[count > 1], count[count > 1]
            left = generator.binomial(count, _shares(generator, correlation, len(count)))
            piece = np.concatenate([2 * piece, 2 * piece + 1])
            count = np.concatenate([left, count - left])
            width_s /= 2
        piece = np.repeat(piece, count)
        times.append((piece + generator.random(len(piece))) * width_s)
        return np.sort(np.concatenate(times))


def _shares(generator: np.random.Generator, correlation: float, n: int) -> NDArray[np.float64]:
    """Draw what share of each piece falls into its first half."""
    if correlation < 1e-6:
        return np.full(n, 0.5)
    shape = (1 / correlation - 1) / 2
    return generator.beta(shape, shape, n)


def fit_burstiness(
    arrival_s: NDArray[np.float64], start_s: float, window_s: float, windows: int
) -> list[float]:
    """Estimate the burstiness of each halving of windows.

    Parameters
    ----------
    arrival_s : float64 (n,)
        Sorted times.
    start_s, window_s, windows
        Where the first window begins, how long each is, and how many there are.

    Returns
    -------
    list of float
        As many halvings as there are pieces with several requests to learn from.

    Notes
    -----
    A split of n requests has the variance ``n / 4 * (1 + (n - 1) * burstiness)``. The estimate
    equates the sums of both sides over all pieces, so that busy pieces, where queues build
    up, count most.
    """
    estimates: list[float] = []
    for level in range(1, _HALVINGS + 1):
        piece = ((arrival_s - start_s) / window_s * 2**level).astype(np.int64)
        piece = np.clip(piece, 0, windows * 2**level - 1)
        parent, parent_of, count = np.unique(piece >> 1, return_inverse=True, return_counts=True)
        left = np.bincount(parent_of[piece % 2 == 0], minlength=len(parent))
        pairs = (count * (count - 1.0)).sum() / 4
        if pairs < _FEWEST_PAIRS:
            break
        excess = ((left - count / 2) ** 2 - count / 4).sum()
        estimates.append(round(float(np.clip(excess / pairs, 0, 0.999)), 4))
    return estimates
