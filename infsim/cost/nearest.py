"""Devices that were not measured: the nearest measured one, scaled by the roofline.

Kernels of a family of devices share their shapes: where they step, what launching costs, how mixed
batches suffer. Of a device without measurements, each time is that of the nearest device times the
ratio of the two rooflines, whose efficiencies the catalogue states for both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from math import hypot, log, sqrt

from infsim.cluster.device import Device, load_device
from infsim.cost.calibration import Calibration, calibrated_devices, device_calibration
from infsim.cost.curves import Curve
from infsim.cost.kernels import covers, linear_table
from infsim.cost.linear import LAUNCH_S
from infsim.cost.tables import LinearTable
from infsim.model.catalog import load_format
from infsim.model.formats import Format, compute_type
from infsim.model.graph import Operator

UNLIKE = 1
"""Number types that one device of a family may have and the other not: fp8 came late."""


def nearest(
    device: Device, form: Format, operators: Sequence[Operator], but: Sequence[str] = ()
) -> Calibration | None:
    """Return the coefficients of the nearest measured device, scaled to this one.

    Devices are of one family if they multiply the same number types, but for one. Nearest is the
    one whose 16-bit peak and memory bandwidth are (in logarithms) least different.

    Parameters
    ----------
    device : Device
    form : Format
    operators : sequence of Operator
        What the coefficients have to cover.
    but : sequence of str
        Devices that are left out.

    Returns
    -------
    Calibration or None
        None if no measured device is of the family and covers that.
    """
    best: tuple[float, str] | None = None
    for name in calibrated_devices():
        known = device_calibration(name)
        if name in but or known is None or not covers(known, form, operators):
            continue
        other = load_device(name)
        if len(set(device.peak_flops) ^ set(other.peak_flops)) <= UNLIKE:
            found = _distance(device, other), name
            best = found if best is None or found < best else best
    return None if best is None else _scaled(best[1], form.name, _Target.of(device))


@dataclass(frozen=True)
class _Target:
    """A device that can be a key: equal if its figures are."""

    figures: tuple[object, ...]
    device: Device = field(compare=False)

    @classmethod
    def of(cls, device: Device) -> _Target:
        figures = (
            device.name,
            tuple(sorted(device.peak_flops.items())),
            device.compute_efficiency,
            device.bandwidth_bytes_per_s,
            device.bandwidth_efficiency,
        )
        return cls(figures, device)


@lru_cache(maxsize=64)
def _scaled(name: str, form: str, target: _Target) -> Calibration:
    """Scale what one format needs of a measured device, once for all spans of a model."""
    known = device_calibration(name)
    assert known is not None
    # heads stay in 16 bits
    needed = [linear_table(known, load_format(each)) for each in (form, "bf16")]
    linears = tuple(table for table in known.linears if any(table is each for each in needed))
    return scaled(replace(known, linears=linears), target.device)


def _distance(a: Device, b: Device) -> float:
    return hypot(
        log(_flops(a, "bf16") / _flops(b, "bf16")),
        log(a.bandwidth_bytes_per_s / b.bandwidth_bytes_per_s),
    )


def _flops(device: Device, compute: str) -> float:
    return device.peak_flops[compute_type(compute, frozenset(device.peak_flops))]


def scaled(known: Calibration, device: Device) -> Calibration:
    """Return coefficients of one device scaled to another one.

    Linear layers by the ratio of the rooflines of their shape; prompts as arithmetic, decodes and
    element-wise kernels as bandwidth, beyond the launch of a kernel; mixed batches by the
    geometric mean of both. All-reduces and power are not taken over: they belong to a
    machine.
    """
    other = load_device(known.device)
    slower = _bandwidth(other) / _bandwidth(device)
    weaker = _rate(other, "bf16") / _rate(device, "bf16")
    return replace(
        known,
        source=f"{known.device}, scaled to {device.name} by the roofline; {known.source}",
        linears=tuple(_linear(table, other, device) for table in known.linears),
        attentions=tuple(
            replace(
                table,
                prefill_s=_beyond_launch(table.prefill_s, weaker),
                prompts_s=_beyond_launch(table.prompts_s, weaker),
                decode_s=_beyond_launch(table.decode_s, slower),
                mixed_s=_beyond_launch(table.mixed_s, sqrt(slower * weaker)),
            )
            for table in known.attentions
        ),
        elements=tuple(
            replace(table, curve=Curve(table.curve.x, _beyond_launch(table.curve.time_s, slower)))
            for table in known.elements
        ),
        collectives=(),
        iteration_s=None,
        power=None,
        errors=(),
    )


def _linear(table: LinearTable, other: Device, device: Device) -> LinearTable:
    form = load_format(table.format)

    def ratio(tokens: float, n: int, k: int) -> float:
        return _roofline_s(device, form, tokens, n, k) / _roofline_s(other, form, tokens, n, k)

    return replace(
        table,
        shapes={
            (n, k): tuple(t * ratio(m, n, k) for m, t in zip(table.tokens, times, strict=True))
            for (n, k), times in table.shapes.items()
        },
        experts={},
    )


def _roofline_s(device: Device, form: Format, tokens: float, n: int, k: int) -> float:
    moved = n * k * form.weight_bits + tokens * (n + k) * form.activation_bits
    arithmetic_s = 2 * tokens * n * k / _rate(device, form.compute)
    return LAUNCH_S + hypot(arithmetic_s, moved / 8 / _bandwidth(device))


def _beyond_launch(times: Sequence[float], ratio: float) -> tuple[float, ...]:
    return tuple(min(t, LAUNCH_S) + max(t - LAUNCH_S, 0.0) * ratio for t in times)


def _bandwidth(device: Device) -> float:
    return device.bandwidth_bytes_per_s * device.bandwidth_efficiency


def _rate(device: Device, compute: str) -> float:
    return _flops(device, compute) * device.compute_efficiency
