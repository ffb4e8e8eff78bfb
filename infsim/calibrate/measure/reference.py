"""The kernels that every repeat takes turns with."""

from __future__ import annotations

import time
from typing import Any

from infsim.calibrate.measure.bench import Bench, References
from infsim.calibrate.measure.kernel import Case
from infsim.calibrate.measure.machine import last_level_cache_bytes
from infsim.calibrate.measure.torch_case import random, require_torch

SQUARE = 384
"""Side of a product that stays in the cache."""
SMALLEST_BYTES = 2.0**23
ROW = 1024
READS = 5
WARMING = 8
"""Reads before one that is timed: caches that take in what smaller ones let go hold all of it only
then. After two, 8 MB of the 32 MB of an EPYC 7003 were read as slowly as from memory."""
SETTLED = 1.12
"""So many times faster than memory, and reads are no longer said to come from a cache."""


def bench(device: str) -> Bench:
    """Return the bench of a device: its clock, and its references.

    Raises
    ------
    InputError
        Without PyTorch, or without that device.
    """
    torch = require_torch()
    torch.manual_seed(0)
    if device == "cuda":
        from infsim.calibrate.measure.clock_cuda import CudaClock

        return Bench(CudaClock(), references(device))
    from infsim.calibrate.measure.clock_cpu import CpuClock

    torch.set_num_threads(1)
    return Bench(CpuClock(), references(device, uncached_bytes(2 * last_level_cache_bytes())))


def references(device: str, memory_bytes: float | None = None) -> References:
    """Return the reference kernels of a device.

    A vector times a matrix that no cache holds, and a small product of two matrices: one notices
    neighbours on the memory, the other those on the core, and a slower clock.

    Parameters
    ----------
    device : str
    memory_bytes : float, optional
        Size of the large matrix, twice the last-level cache by default.
    """
    linear = require_torch().nn.functional.linear
    if memory_bytes is None:
        cache_bytes = _cuda_cache_bytes() if device == "cuda" else last_level_cache_bytes()
        memory_bytes = 2 * cache_bytes
    width = max(1024, round((memory_bytes / 4) ** 0.5))

    def memory() -> Case:
        weights, x = random(width, width, device=device), random(1, width, device=device)
        return Case(lambda: linear(x, weights), cold_bytes=weights.nbytes)

    def arithmetic() -> Case:
        square = random(SQUARE, SQUARE, device=device)
        return Case(lambda: square @ square)

    return References(memory, arithmetic)


def uncached_bytes(most: float) -> float:
    """Return the size from which on this thread reads from memory, at most so much.

    Of a large cache that others use, too, little is left: on a shared Xeon with 300 MB, 128 MB were
    read as slowly as 1 GB. A reference that needs no more than it has to takes its turn in 7 ms
    instead of 35.
    """
    sizes = [SMALLEST_BYTES]
    while 2 * sizes[-1] < most:
        sizes.append(2 * sizes[-1])
    values = random(round(most / 4 / ROW), ROW)
    parts = [values[: round(size / 4 / ROW)] for size in (*sizes, most)]
    # in turns, so that a slow moment of the machine is one for all
    rounds = [[part.nbytes / _read_s(part) for part in parts] for _ in range(READS)]
    *rates, slowest = (max(rates) for rates in zip(*rounds, strict=True))
    uncached = (size for size, rate in zip(sizes, rates, strict=True) if rate < SETTLED * slowest)
    return next(uncached, most)


def _read_s(values: Any) -> float:
    """CPU seconds of a vector times a matrix that is in the cache, if that holds it."""
    vector = random(ROW)
    for _ in range(WARMING):
        values @ vector
    before = time.thread_time()
    values @ vector
    return time.thread_time() - before


def _cuda_cache_bytes() -> float:
    cuda = require_torch().cuda
    return cuda.get_device_properties(0).L2_cache_size if cuda.is_available() else 0
