"""Which cost model prices a node: measured kernels, or the roofline."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from infsim.cluster.device import Device
from infsim.cluster.node import Node
from infsim.cost.calibration import Calibration, device_calibration, read_calibration
from infsim.cost.interface import StepCost
from infsim.cost.kernels import covers
from infsim.cost.measured import MeasuredStepCost
from infsim.cost.rates import fitted
from infsim.cost.roofline import RooflineStepCost
from infsim.model.formats import Format
from infsim.model.graph import Operator

ROOFLINE = "roofline"
CALIBRATED = "calibrated"


def step_cost(
    node: Node, form: Format, operators: Sequence[Operator], source: str | Path = CALIBRATED
) -> StepCost:
    """Return the cost of iterations of a span on a node.

    Parameters
    ----------
    node : Node
    form : Format
    operators : sequence of Operator
    source : str or Path
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
    return RooflineStepCost(fitted(node, form.name), form, operators)


def _calibration(device: Device, source: str | Path) -> Calibration | None:
    """The coefficients of a device, None if it has none."""
    if source != CALIBRATED:
        named = _read(Path(source))
        if named.device == device.name:
            return named
    return device_calibration(device.name)


@lru_cache(maxsize=16)
def _read(path: Path) -> Calibration:
    return read_calibration(path)
