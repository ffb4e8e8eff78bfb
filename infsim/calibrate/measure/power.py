"""Power against load: read from the counters of a GPU, declared for a processor."""

from __future__ import annotations

# mypy: disable-error-code="import-not-found, import-untyped, no-untyped-call, unused-ignore"
# mypy: disable-error-code="no-any-return, attr-defined"
import time
from typing import Any

from infsim.calibrate.measure.torch_case import random, require_torch
from infsim.cluster.device import Device

LOADS = (0.0, 0.25, 0.5, 0.75, 1.0)
LEVEL_S = 4.0
SETTLE_S = 1.0
SLICE_S = 0.02
WIDTH = 8192
"""Square bf16 products: 1.1 TFLOP each, the heaviest thing a GPU does for long."""


def power_table(device: str, known: Device) -> dict[str, Any]:
    """Return power against load, or what the catalogue declares where nothing can be read.

    Parameters
    ----------
    device : str
        ``cpu`` or ``cuda``.
    known : Device
        Its entry in the catalogue.
    """
    if device == "cuda":
        try:
            return _measured()
        except Exception as error:  # no pynvml, no rights, no counter
            return _declared(known, f"NVML: {type(error).__name__}: {error}")
    return _declared(known, "no energy counter is read on processors")


def _declared(known: Device, reason: str) -> dict[str, Any]:
    return {
        "source": f"declared in the catalogue, not measured: {reason}",
        "idle_w": known.idle_w,
        "active_w": known.active_w,
    }


def _measured() -> dict[str, Any]:
    """Mean power at shares of time in which the device is busy."""
    import pynvml

    pynvml.nvmlInit()
    try:
        handle = pynvml.nvmlDeviceGetHandleByIndex(0)
        levels = [{"load": load, "power_w": round(_level(load, handle), 1)} for load in LOADS]
        return {
            "source": "NVML total energy, bf16 products in slices of 20 ms",
            "levels": levels,
            "limit_w": pynvml.nvmlDeviceGetEnforcedPowerLimit(handle) / 1e3,
        }
    finally:
        pynvml.nvmlShutdown()


def _level(load: float, handle: Any) -> float:
    """Mean watts over some seconds at a load."""
    import pynvml

    work = _Work()
    work.keep(load, SETTLE_S)
    before_mj, began = pynvml.nvmlDeviceGetTotalEnergyConsumption(handle), time.monotonic()
    work.keep(load, LEVEL_S)
    after_mj = pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)
    return (after_mj - before_mj) * 1e-3 / (time.monotonic() - began)


class _Work:
    """Products that keep a device busy for a share of the time."""

    def __init__(self) -> None:
        self._torch = require_torch()
        self._x, self._y = (random(WIDTH, WIDTH, form="bf16", device="cuda") for _ in range(2))

    def keep(self, load: float, seconds: float) -> None:
        """Keep the load for some seconds."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            busy = time.monotonic() + load * SLICE_S
            while time.monotonic() < busy:
                self._x @ self._y
                self._torch.cuda.synchronize()
            time.sleep((1 - load) * SLICE_S)
