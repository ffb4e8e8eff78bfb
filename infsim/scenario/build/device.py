"""Devices that a scenario writes out."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from infsim.cluster.device import Device, load_device
from infsim.errors import InputError
from infsim.scenario.schema import cluster as schema


def build_device(entry: str | schema.InlineDevice) -> Device:
    """Return a device of the catalogue, or one written out in the scenario.

    Raises
    ------
    InputError
        For an unknown device, and if figures are missing or impossible.
    """
    if isinstance(entry, str):
        return load_device(entry)
    figures: dict[str, Any] = {
        "memory_bytes": entry.memory,
        "bandwidth_bytes_per_s": entry.bandwidth,
        "peak_flops": entry.peak,
        "idle_w": entry.idle_power,
        "active_w": entry.active_power,
        "compute_efficiency": entry.compute_efficiency,
        "bandwidth_efficiency": entry.bandwidth_efficiency,
        "overhead_s": entry.overhead,
        "layer_overhead_s": entry.layer_overhead,
    }
    given = {name: value for name, value in figures.items() if value is not None}
    given |= {"name": entry.name, "source": "the scenario"}
    if entry.like is not None:
        return replace(load_device(entry.like), **given)
    for key in ("memory", "bandwidth", "peak"):
        if getattr(entry, key) is None:
            raise InputError(f"device {entry.name!r} needs {key!r}, or 'like' one of the catalogue")
    return Device(**given)
