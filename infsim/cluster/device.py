"""Devices: what one accelerator or processor can do, and the catalogue of public figures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from infsim.catalog_folder import CatalogFolder
from infsim.errors import InputError
from infsim.units import parse

DEVICES = CatalogFolder(Path(__file__).parent / "catalog", "device")


@dataclass(frozen=True)
class Device:
    """One accelerator or processor.

    Attributes
    ----------
    name : str
    memory_bytes : int
        Memory for weights and KV cache.
    bandwidth_bytes_per_s : float
        Peak memory bandwidth.
    peak_flops : mapping of str to float
        Peak dense FLOP/s (two per multiply-accumulate) by number type; ``fp32`` is required.
    idle_w, active_w : float
        Power when idle and when busy.
    compute_efficiency, bandwidth_efficiency : float
        Share of the peaks that real kernels reach.
    overhead_s : float
        Time of an iteration that does not depend on its work (scheduling, launches, sampling).
    layer_overhead_s : float
        The same for each operator of the iteration.
    interconnect_bytes_per_s : float
        Bandwidth that collective operations reach between devices of one machine, each way.
    sparse_patterns : tuple of str
        Patterns of zeros whose multiplications are skipped, for example ``("2:4",)``.
    source : str
        Where the figures come from.
    """

    name: str
    memory_bytes: int
    bandwidth_bytes_per_s: float
    peak_flops: Mapping[str, float]
    idle_w: float = 0.0
    active_w: float = 0.0
    compute_efficiency: float = 1.0
    bandwidth_efficiency: float = 1.0
    overhead_s: float = 0.0
    layer_overhead_s: float = 0.0
    interconnect_bytes_per_s: float = 20e9
    sparse_patterns: tuple[str, ...] = ()
    source: str = "unspecified"

    def __post_init__(self) -> None:
        object.__setattr__(self, "peak_flops", dict(self.peak_flops))
        self._require_positive("memory_bytes", self.memory_bytes)
        self._require_positive("bandwidth_bytes_per_s", self.bandwidth_bytes_per_s)
        self._require_positive("interconnect_bytes_per_s", self.interconnect_bytes_per_s)
        if "fp32" not in self.peak_flops:
            raise InputError(
                f"device {self.name!r}: peak_flops needs fp32, the type of last resort"
            )
        for key, value in self.peak_flops.items():
            self._require_positive(f"peak_flops[{key!r}]", value)
        for name in ("compute_efficiency", "bandwidth_efficiency"):
            value = getattr(self, name)
            if not 0 < value <= 1:
                raise InputError(f"device {self.name!r}: {name} must be in (0, 1], got {value!r}")
        for name in ("idle_w", "active_w", "overhead_s", "layer_overhead_s"):
            value = getattr(self, name)
            if not 0 <= value < float("inf"):
                raise InputError(f"device {self.name!r}: {name} must not be negative: {value!r}")
        if self.active_w < self.idle_w:
            raise InputError(
                f"device {self.name!r}: active_w ({self.active_w:g} W) is below"
                f" idle_w ({self.idle_w:g} W)"
            )

    def _require_positive(self, name: str, value: float) -> None:
        if not 0 < value < float("inf"):
            raise InputError(
                f"device {self.name!r}: {name} must be positive and finite, got {value!r}"
            )


def load_device(name: str) -> Device:
    """Return a device of the catalogue.

    Parameters
    ----------
    name : str
        As in ``DEVICES.names()``; case, spaces and underscores do not matter.

    Raises
    ------
    InputError
        If there is no such device; suggests the nearest one.
    """
    entry = DEVICES.read(name)
    efficiency, overhead = entry["efficiency"], entry["overhead"]
    return Device(
        name=DEVICES.resolve(name),
        memory_bytes=int(parse(entry["memory"], "memory")),
        bandwidth_bytes_per_s=parse(entry["bandwidth"], "bandwidth"),
        peak_flops={key: parse(value, "flops") for key, value in entry["peak"].items()},
        idle_w=parse(entry["power"]["idle"], "power"),
        active_w=parse(entry["power"]["board"], "power"),
        compute_efficiency=efficiency["compute"],
        bandwidth_efficiency=efficiency["bandwidth"],
        overhead_s=parse(overhead["iteration"], "time"),
        layer_overhead_s=parse(overhead["operator"], "time"),
        interconnect_bytes_per_s=parse(entry["interconnect"], "bandwidth"),
        sparse_patterns=tuple(entry["sparsity"]),
        source=entry["source"],
    )
