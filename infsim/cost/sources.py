"""Which cost model prices a node: measured kernels, or the roofline."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from infsim.cluster.device import DEVICES, Device, load_device
from infsim.cluster.node import Node
from infsim.cost.calibration import Calibration, device_calibration, read_calibration
from infsim.cost.interface import StepCost
from infsim.cost.kernels import covers
from infsim.cost.measured import MeasuredStepCost
from infsim.cost.nearest import nearest
from infsim.cost.power import PowerTable
from infsim.cost.rates import fitted
from infsim.cost.roofline import RooflineStepCost
from infsim.model.formats import Format
from infsim.model.graph import Operator

ROOFLINE = "roofline"
CALIBRATED = "calibrated"


def step_cost(
    node: Node,
    form: Format,
    operators: Sequence[Operator],
    source: str | Path | Calibration = CALIBRATED,
) -> StepCost:
    """Return the cost of iterations of a span on a node.

    Parameters
    ----------
    node : Node
    form : Format
    operators : sequence of Operator
    source : str, Path or Calibration
        As for `infsim.cost.costs.Costs`.

    Raises
    ------
    InputError
        If ``source`` is a file that holds no coefficients.
    """
    if source == ROOFLINE:
        return RooflineStepCost(node, form, operators)
    own = _calibration(node.device, source)
    if own is not None and covers(own, form, operators):
        return MeasuredStepCost(node, form, operators, own)
    rated = fitted(node, form.name)
    if rated is not node:  # whole steps of this device say more than kernels of another one
        return RooflineStepCost(rated, form, operators)
    other = nearest(node.device, form, operators)
    if other is not None:
        return MeasuredStepCost(node, form, operators, other, calibrated=False)
    return RooflineStepCost(node, form, operators)


def power_table(device: Device, source: str | Path | Calibration = CALIBRATED) -> PowerTable | None:
    """Return the measured power of a device, None if there is none.

    A device with another idle or active power than the catalogue's draws what its owner says.
    """
    own = None if source == ROOFLINE else _calibration(device, source)
    if own is None or own.power is None or device.name not in DEVICES.names():
        return None
    listed = load_device(device.name)
    declared = (device.idle_w, device.active_w) != (listed.idle_w, listed.active_w)
    return None if declared else own.power


def _calibration(device: Device, source: str | Path | Calibration) -> Calibration | None:
    """The coefficients of a device, None if it has none."""
    if source != CALIBRATED:
        named = source if isinstance(source, Calibration) else _read(Path(source))
        if named.device == device.name:
            return named
    known = device_calibration(device.name)
    return known if known is not None and _is_that(device) else None


def _is_that(device: Device) -> bool:
    """Whether a device of a calibrated name has the figures of the catalogue."""
    listed = load_device(device.name)
    return (device.peak_flops, device.bandwidth_bytes_per_s) == (
        listed.peak_flops,
        listed.bandwidth_bytes_per_s,
    )


@lru_cache(maxsize=16)
def _read(path: Path) -> Calibration:
    return read_calibration(path)
