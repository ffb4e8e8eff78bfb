"""Requests with long outputs that do not come when those with short ones do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from infsim.errors import InputError

Ints = NDArray[np.int64]

_LEAST = 0.03
_PIECES_S = (0.3, 1.0, 3.0, 10.0, 30.0)


@dataclass(frozen=True)
class LongOutputs:
    """Arrivals of the requests with long outputs, where services with unlike bursts are mixed.

    Code completions come in bursts and have short outputs, conversations are steady and have long
    ones: taken for one service, bursts would be far more work than they are.

    Attributes
    ----------
    first_bin : int
        Bin of the output length from which on they are long, see
        `infsim.workload.rank_grid.RankGrid`.
    counts : sequence of int
        Requests with long outputs in each window.
    burstiness : sequence of sequences of float
        See `infsim.workload.cascade.Cascade`.
    drift : sequence of float
        Of their lengths, see `infsim.workload.rank_grid.RankGrid`.
    """

    first_bin: int
    counts: Sequence[int]
    burstiness: Sequence[Sequence[float]]
    drift: Sequence[float] = ()

    def __post_init__(self) -> None:
        if self.first_bin < 1:
            raise InputError(f"first_bin is {self.first_bin}, must be above 0", key="first_bin")


def unlike_bin(
    arrival_s: NDArray[np.float64], of_output: Ints, segment: Ints, bins: int
) -> int | None:
    """Find the bin from which on outputs come at other times than those of the bins below.

    That is where the share of long outputs changes most from each short piece of time to the
    next, within segments: by the intra-class correlation of being long, over pieces of 0.3 to
    30 s.

    Parameters
    ----------
    arrival_s, of_output, segment : (n,)
        Sorted times from 0 s, bin of the output, and segment of time of each request.
    bins : int
        How many bins there are.

    Returns
    -------
    int or None
        None if no bin has a correlation above 0.03 and three standard errors.
    """
    best, found = 0.0, None
    number = np.bincount(segment)
    for first_bin in range(1, bins):
        long = (of_output >= first_bin).astype(np.float64)
        share = (np.bincount(segment, long) / np.maximum(number, 1))[segment]
        for width_s in _PIECES_S:
            piece = np.unique((arrival_s / width_s).astype(np.int64), return_inverse=True)[1]
            pairs = np.bincount(piece) - 1.0
            excess = np.bincount(piece, long - share)
            variance = np.bincount(piece, share * (1 - share))
            weight = float((variance * pairs).sum())
            if not weight > 0:
                continue
            correlation = float((excess**2 - variance).sum()) / weight
            error = float(2 * (variance**2 * (pairs > 0)).sum()) ** 0.5 / weight
            if correlation > max(_LEAST, 3 * error, best):
                best, found = correlation, first_bin
    return found
