"""Fit how unevenly a trace falls into the halves of its windows, of those halves, and so on."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from infsim.rng import Streams
from infsim.workload.cascade import SIZES, Cascade, size_class

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_HALVINGS = 24
_FEWEST_PAIRS = 25.0
_FEWEST_PIECES = 25
_LARGEST = 0.999

_ROUNDS = 4
_STEP = 0.7
_MADE_REQUESTS = 100_000
_MOST_MADE = 8


def fit_burstiness(
    arrival_s: Floats, start_s: float, window_s: float, windows: int
) -> list[list[float]]:
    """Estimate the burstiness of each halving of windows.

    Parameters
    ----------
    arrival_s : float64 (n,)
        Sorted times.
    start_s, window_s, windows
        Where the first window begins, how long each is, and how many there are.

    Returns
    -------
    list of list of float
        As many halvings as there are pieces with several requests to learn from; see
        `infsim.workload.cascade.Cascade`.

    Notes
    -----
    The first estimate looks at pieces that begin where those of the cascade do. Bursts that lie
    across their edges are torn apart in what is made, so that counts in windows with other edges
    are too even. So traces are made, and halvings are corrected by how many pairs of requests
    are closer than a piece of each length in the real trace and in the made ones.
    """
    since_s = arrival_s - start_s
    window = np.minimum((since_s / window_s).astype(np.int64), windows - 1)
    counts = np.bincount(window, minlength=windows)
    together = (1 + aligned(since_s, window_s, windows)) / 2
    lengths_s: Floats = window_s * 0.5 ** np.arange(len(together) + 1, dtype=np.float64)
    real = close_pairs(since_s, lengths_s)
    for number in range(_ROUNDS):
        rows = (2 * together - 1).tolist()
        made = _made_pairs(Cascade(counts.tolist(), window_s, rows), lengths_s, number)
        ratio = (real + 1) / (made + 1)
        together *= (ratio[1:] / ratio[:-1])[:, None] ** _STEP
        together = np.clip(together, 0, (1 + _LARGEST) / 2)
    return [[float(f"{value:.3g}") for value in row] for row in 2 * together - 1]


def aligned(since_s: Floats, window_s: float, windows: int) -> Floats:
    """Estimate the burstiness of pieces that begin with the first window: (halvings, classes).

    A split of n requests has the variance ``n / 4 * (1 + (n - 1) * burstiness)``. The estimate
    equates the sums of both sides over all pieces of a class, so that busy pieces, where queues
    build up, count most. Classes with few pieces take the estimate of all pieces.
    """
    estimates = np.zeros((0, len(SIZES) + 1))
    for level in range(1, _HALVINGS + 1):
        piece = (since_s / window_s * 2**level).astype(np.int64)
        piece = np.clip(piece, 0, windows * 2**level - 1)
        parent, parent_of, count = np.unique(piece >> 1, return_inverse=True, return_counts=True)
        left = np.bincount(parent_of[piece % 2 == 0], minlength=len(parent))
        pairs = count * (count - 1.0) / 4
        if pairs.sum() < _FEWEST_PAIRS:
            break
        excess = (left - count / 2) ** 2 - count / 4
        kind = np.where(count > 1, size_class(count), -1)
        classes = [kind == index for index in range(len(SIZES) + 1)]
        classes = [each if each.sum() >= _FEWEST_PIECES else kind >= 0 for each in classes]
        row = [excess[each].sum() / pairs[each].sum() for each in classes]
        estimates = np.vstack([estimates, np.clip(row, -1, _LARGEST)])
    return estimates


def close_pairs(arrival_s: Floats, distances_s: Floats) -> Floats:
    """Count the pairs of requests that are not farther apart than each distance: float64 (m,)."""
    after = np.arange(1, len(arrival_s) + 1)
    ends = (np.searchsorted(arrival_s, arrival_s + each, side="right") for each in distances_s)
    return np.array([float((end - after).sum()) for end in ends])


def _made_pairs(cascade: Cascade, distances_s: Floats, seed: int) -> Floats:
    """Return the mean number of close pairs in a few made traces."""
    number = int(np.clip(_MADE_REQUESTS // sum(cascade.counts), 1, _MOST_MADE))
    made = [
        np.concatenate(list(cascade.times(Streams(seed, each), 1 << 16))) for each in range(number)
    ]
    pairs: Floats = np.mean([close_pairs(times, distances_s) for times in made], axis=0)
    return pairs
