"""Devices and availability that a scenario writes out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from infsim.cluster.availability import (
    AlwaysUp,
    Availability,
    Duration,
    Exponential,
    Lognormal,
    Renewal,
    TraceAvailability,
    Weibull,
)
from infsim.cluster.device import Device, load_device
from infsim.cluster.outages import read_outages
from infsim.errors import InputError, did_you_mean
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


def build_availability(entry: Any, names: Sequence[str]) -> list[Availability]:
    """Return the availability of each node of a group.

    Parameters
    ----------
    entry : part of the schema
        What the scenario says.
    names : sequence of str
        The nodes of the group.
    """
    if isinstance(entry, schema.Renewal):
        renewal = Renewal(_duration(entry.up), _duration(entry.down), entry.stationary)
        return [renewal] * len(names)
    if isinstance(entry, schema.OutageList):
        outages = tuple((start, end) for start, end in entry.outages)
        return [TraceAvailability(outages)] * len(names)
    if isinstance(entry, schema.OutageFile):
        by_node = read_outages(Path(entry.trace))
        if not any(name in by_node for name in names):
            raise InputError(
                f"{entry.trace!r} has no outage of {', '.join(names)}"
                f"{did_you_mean(names[0], by_node)}"
            )
        return [TraceAvailability(by_node.get(name, ())) for name in names]
    return [AlwaysUp()] * len(names)


def _duration(entry: Any) -> Duration:
    if isinstance(entry, schema.WeibullTime):
        if entry.mean is not None:
            return Weibull.from_mean(entry.mean, entry.shape)
        assert entry.scale is not None  # the schema wants one of the two
        return Weibull(entry.shape, entry.scale)
    if isinstance(entry, schema.LognormalTime):
        if entry.mean is not None:
            return Lognormal.from_mean(entry.mean, entry.sigma)
        assert entry.median is not None
        return Lognormal(math.log(entry.median), entry.sigma)
    return Exponential(entry.mean if isinstance(entry, schema.ExponentialTime) else entry)
