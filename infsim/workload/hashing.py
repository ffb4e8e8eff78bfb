"""Deterministic 63-bit hashes of integers, vectorised."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_GAMMA = 0x9E3779B97F4A7C15
_MASK = (1 << 64) - 1


def mix(*parts: NDArray[np.int64] | int) -> NDArray[np.int64]:
    """Hash integers, one after the other, to numbers in [0, 2**63).

    Parameters
    ----------
    *parts : int or int64 (n,)
        Together the thing that is hashed; their order matters.

    Returns
    -------
    int64 (n,)

    Notes
    -----
    Each part goes through the finalizer of SplitMix64 (Steele, Lea and Flood, 2014,
    doi:10.1145/2660193.2660195).
    """
    state = np.zeros(1, dtype=np.uint64)
    for part in parts:
        word = np.uint64(part & _MASK) if isinstance(part, int) else part.astype(np.uint64)
        state = _finalize((state ^ word) + np.uint64(_GAMMA))
    return (state >> np.uint64(1)).astype(np.int64)


def uniform(*parts: NDArray[np.int64] | int) -> NDArray[np.float64]:
    """Hash integers to numbers in [0, 1): float64 (n,)."""
    return (mix(*parts) >> 10).astype(np.float64) * 2.0**-53


def _finalize(z: NDArray[np.uint64]) -> NDArray[np.uint64]:
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))
