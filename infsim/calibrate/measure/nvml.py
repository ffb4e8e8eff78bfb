"""Energy of an NVIDIA GPU, from the driver's library (package ``nvidia-ml-py``)."""

from __future__ import annotations

# mypy: disable-error-code="import-not-found, import-untyped, no-untyped-call, unused-ignore"
# mypy: disable-error-code="no-any-return, attr-defined"
import time
from types import TracebackType
from typing import Self


class NvmlMeter:
    """The energy counter of a GPU; where it has none (before Volta), sampled power.

    Parameters
    ----------
    uuid : str
        The driver numbers devices in another order than CUDA, and sees those that CUDA does not.

    Attributes
    ----------
    source : str
    limit_w : float
        Power that the driver enforces.
    """

    def __init__(self, uuid: str) -> None:
        self._uuid = uuid

    def __enter__(self) -> Self:
        import pynvml

        self._nvml = pynvml
        pynvml.nvmlInit()
        try:
            self._handle = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{self._uuid}")
            self.limit_w = pynvml.nvmlDeviceGetEnforcedPowerLimit(self._handle) / 1e3
            self._has_counter = self._counts()
        except BaseException:
            pynvml.nvmlShutdown()
            raise
        self._sampled_j, self._last = 0.0, (time.monotonic(), self._power_w())
        what = "total energy" if self._has_counter else "power, sampled"
        self.source = f"NVML {what}; layers in bf16 from memory"
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._nvml.nvmlShutdown()

    def energy_j(self) -> float:
        """Joules since the driver was loaded, or since the first sample."""
        if self._has_counter:
            return self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._handle) * 1e-3
        (before_s, before_w), now = self._last, (time.monotonic(), self._power_w())
        self._sampled_j += (now[0] - before_s) * (before_w + now[1]) / 2
        self._last = now
        return self._sampled_j

    def _counts(self) -> bool:
        try:
            self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._handle)
        except self._nvml.NVMLError:
            return False
        return True

    def _power_w(self) -> float:
        return self._nvml.nvmlDeviceGetPowerUsage(self._handle) * 1e-3
