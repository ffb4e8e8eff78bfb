"""The kernel that every repeat takes turns with."""

from __future__ import annotations

from infsim.calibrate.measure.bench import Bench
from infsim.calibrate.measure.kernel import Case
from infsim.calibrate.measure.machine import last_level_cache_bytes
from infsim.calibrate.measure.torch_case import random, require_torch

SQUARE = 384
"""Side of a product that stays in the cache."""


def bench(device: str) -> Bench:
    """Return the bench of a device: its clock, and its reference.

    The reference is a vector times a matrix of twice the last-level cache, and a small product of
    two matrices: one notices neighbours on the memory, the other a slower clock.

    Raises
    ------
    InputError
        Without PyTorch, or without that device.
    """
    torch = require_torch()
    torch.manual_seed(0)
    if device == "cuda":
        from infsim.calibrate.measure.clock_cuda import CudaClock

        return Bench(CudaClock(), lambda: reference(device))
    from infsim.calibrate.measure.clock_cpu import CpuClock

    torch.set_num_threads(1)
    return Bench(CpuClock(), lambda: reference(device))


def reference(device: str) -> Case:
    """Return the reference kernel of a device."""
    linear = require_torch().nn.functional.linear
    cache_bytes = _cuda_cache_bytes() if device == "cuda" else last_level_cache_bytes()
    width = max(1024, round((2 * cache_bytes / 4) ** 0.5))
    weights, x = random(width, width, device=device), random(1, width, device=device)
    square = random(SQUARE, SQUARE, device=device)
    return Case(lambda: (linear(x, weights), square @ square), cold_bytes=weights.nbytes)


def _cuda_cache_bytes() -> float:
    cuda = require_torch().cuda
    return cuda.get_device_properties(0).L2_cache_size if cuda.is_available() else 0
