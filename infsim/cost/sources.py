"""Which cost model prices a node: measured kernels, or the roofline."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from infsim.cluster.device import DEVICES, Device, load_device
from infsim.cluster.node import Node
from infsim.cost.calibration import Calibration, calibration_of, device_calibration, read_plain
from infsim.cost.engine_steps import EngineSteps
from infsim.cost.interface import StepCost
from infsim.cost.kernels import covers
from infsim.cost.measured import MeasuredStepCost
from infsim.cost.nearest import nearest
from infsim.cost.power import PowerTable
from infsim.cost.rates import fitted
from infsim.cost.roofline import RooflineStepCost
from infsim.errors import Where
from infsim.model.formats import Format
from infsim.model.graph import Operator

ROOFLINE = "roofline"
CALIBRATED = "calibrated"

Source = str | Path | Calibration | EngineSteps
"""Where costs come from: one of these words, a file, or what such a file holds."""


def step_cost(
    node: Node,
    form: Format,
    operators: Sequence[Operator],
    source: Source = CALIBRATED,
    whole: str = "",
) -> StepCost:
    """Return the cost of iterations of a span on a node.

    Parameters
    ----------
    node : Node
    form : Format
    operators : sequence of Operator
    source : str, Path, Calibration or EngineSteps
        As for `infsim.cost.costs.Costs`.
    whole : str
        Name of the model, if the span is all of it.

    Raises
    ------
    InputError
        If ``source`` is a file that holds no coefficients.
    """
    if source == ROOFLINE:
        return RooflineStepCost(node, form, operators)
    steps = named(source)
    if isinstance(steps, EngineSteps) and steps.holds_for(node, form, whole):
        return steps.cost()
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


LOAD_BYTES_PER_S = 2e9
"""How fast weights are loaded where it was not measured: from a local SSD."""


def load_bytes_per_s(device: Device, source: Source = CALIBRATED) -> float:
    """Return how fast weights are loaded onto a device: as measured, or by default 2 GB/s."""
    own = None if source == ROOFLINE else _calibration(device, source)
    return (own.load_bytes_per_s if own is not None else None) or LOAD_BYTES_PER_S


def power_table(device: Device, source: Source = CALIBRATED) -> PowerTable | None:
    """Return the measured power of a device, None if there is none.

    A device with another idle or active power than the catalogue's draws what its owner says.
    """
    own = None if source == ROOFLINE else _calibration(device, source)
    if own is None or own.power is None or device.name not in DEVICES.names():
        return None
    listed = load_device(device.name)
    declared = (device.idle_w, device.active_w) != (listed.idle_w, listed.active_w)
    return None if declared else own.power


def _calibration(device: Device, source: Source) -> Calibration | None:
    """The coefficients of a device, None if it has none."""
    own = named(source)
    if isinstance(own, Calibration) and own.device == device.name:
        return own
    known = device_calibration(device.name)
    return known if known is not None and _is_that(device) else None


def named(source: Source) -> Calibration | EngineSteps | None:
    """Return what is named beside the coefficients that infsim ships, None if nothing is.

    Raises
    ------
    InputError
        If it is a file that is damaged or holds something else.
    """
    if isinstance(source, Calibration | EngineSteps):
        return source
    return None if source in (CALIBRATED, ROOFLINE) else _read(Path(source))


def _is_that(device: Device) -> bool:
    """Whether a device of a calibrated name has the figures of the catalogue."""
    listed = load_device(device.name)
    return (device.peak_flops, device.bandwidth_bytes_per_s) == (
        listed.peak_flops,
        listed.bandwidth_bytes_per_s,
    )


@lru_cache(maxsize=16)
def _read(path: Path) -> Calibration | EngineSteps:
    return read_costs(path)


def read_costs(path: Path) -> Calibration | EngineSteps:
    """Read coefficients of kernels, or of steps of an engine.

    Raises
    ------
    InputError
        If the file is damaged or holds something else.
    """
    data = read_plain(path)
    if "coefficients" in data:
        return EngineSteps.from_json(data, Where(str(path)))
    return calibration_of(data, path)
