"""Power against load: read from the counters of a GPU, declared for a processor.

Load is the tokens of an iteration. A stack of square layers, larger than any cache, multiplies so
many rows again and again: few rows only read weights, many keep the arithmetic busy.
"""

from __future__ import annotations

# mypy: disable-error-code="import-not-found, import-untyped, no-untyped-call, unused-ignore"
# mypy: disable-error-code="no-any-return, attr-defined"
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from infsim.calibrate.measure.torch_case import random, require_torch
from infsim.cluster.device import Device

LOADS = (1, 8, 32, 128, 512, 2048, 8192)
"""Tokens of an iteration."""
SETTLE_S = 1.0
"""Clocks and the meter follow a new load within this."""
LEVEL_S = 2.0
WIDTH, LAYERS = 8192, 8
"""Of the stack: 1 GiB of weights in 16 bits."""


class Meter(Protocol):
    """What tells the energy of a device."""

    source: str

    def energy_j(self) -> float:
        """Joules since some moment in the past; to be asked often enough if it is sampled."""
        ...


Work = Callable[[int], object]
"""Compute an iteration of so many tokens, and wait until it is done."""


def power_table(device: str, known: Device) -> dict[str, Any]:
    """Return power against load, or what the catalogue declares where nothing can be read.

    Parameters
    ----------
    device : str
        ``cpu`` or ``cuda``.
    known : Device
        Its entry in the catalogue.
    """
    if device != "cuda":
        return _declared(known, "no energy counter is read on processors")
    try:
        from infsim.calibrate.measure.nvml import NvmlMeter

        uuid = str(require_torch().cuda.get_device_properties(0).uuid)
        with NvmlMeter(uuid) as meter:
            return levels(meter, stack(device)) | {"limit_w": meter.limit_w}
    except Exception as error:  # no pynvml, no rights, no counter
        return _declared(known, f"NVML: {type(error).__name__}: {error}")


def levels(
    meter: Meter,
    work: Work,
    loads: Sequence[int] = LOADS,
    settle_s: float = SETTLE_S,
    level_s: float = LEVEL_S,
    now: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], object] = time.sleep,
) -> dict[str, Any]:
    """Return mean power without work, and at each load.

    Parameters
    ----------
    meter : Meter
    work : callable
    loads : sequence of int
    settle_s, level_s : float
        How long a load is kept before the meter is read, and then until it is read again.
    now, sleep : callable
        The clock.
    """

    def mean_w(run: Callable[[], object]) -> float:
        for seconds in (settle_s, level_s):
            began, before_j = now(), meter.energy_j()
            while now() - began < seconds:
                run()
                meter.energy_j()
        return round((meter.energy_j() - before_j) / (now() - began), 1)

    return {
        "source": meter.source,
        "idle_w": mean_w(lambda: sleep(0.05)),
        "levels": [
            {"tokens": tokens, "power_w": mean_w(lambda: work(tokens))}  # noqa: B023 - called now
            for tokens in loads
        ],
    }


def stack(device: str) -> Work:
    """Return the work of a stack of layers in bf16."""
    torch = require_torch()
    weights = [random(WIDTH, WIDTH, form="bf16", device=device) / WIDTH**0.5 for _ in range(LAYERS)]
    inputs = {tokens: random(tokens, WIDTH, form="bf16", device=device) for tokens in LOADS}

    def work(tokens: int) -> None:
        x = inputs[tokens]
        for _ in range(max(1, 256 // tokens)):  # enough of them that waiting does not count
            for matrix in weights:
                x = torch.nn.functional.linear(x, matrix)
        if device == "cuda":
            torch.cuda.synchronize()

    return work


def _declared(known: Device, reason: str) -> dict[str, Any]:
    return {
        "source": f"declared in the catalogue, not measured: {reason}",
        "idle_w": known.idle_w,
        "active_w": known.active_w,
    }
