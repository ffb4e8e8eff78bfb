"""Whole steps that were measured, against the sum of the kernels measured beside them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from infsim.calibrate.fit.errors import summary
from infsim.calibrate.table import KernelTable
from infsim.cluster.device import load_device
from infsim.cluster.node import Node
from infsim.cost.calibration import Calibration
from infsim.cost.kernels import covers
from infsim.cost.measured import MeasuredStepCost
from infsim.model.catalog import MODELS, load, load_format


def whole_step_errors(table: KernelTable, known: Calibration) -> list[dict[str, Any]]:
    """Return the errors of whole steps, for each format: what the sum of kernels leaves out.

    Parameters
    ----------
    table : KernelTable
        Its rows of whole steps of models of the catalogue, on equal prompts and equal contexts.
    known : Calibration
        Fitted to its other rows.
    """
    errors: dict[str, list[float]] = {}
    steps = table.select(kernel="step")
    kinds = zip(steps["name"], steps["format"], steps["devices"], strict=True)
    for name, form, devices in sorted(set(kinds)):
        if name not in MODELS.names():
            continue
        operators = load(name).graph.operators
        if covers(known, load_format(form), operators):
            node = Node("node", load_device(known.device), max(int(devices), 1))
            cost = MeasuredStepCost(node, load_format(form), operators, known)
            own = steps.select(name=name, format=form, devices=devices)
            errors.setdefault(form, []).extend(_errors(own, cost))
    return [summary("whole steps", form, "steps", found) for form, found in errors.items()]


def _errors(steps: KernelTable, cost: MeasuredStepCost) -> Iterator[float]:
    for row in steps.rows():
        prompts, chunk, prefix = (int(row.get(n, 0)) for n in ("prefills", "chunk", "prefix"))
        decodes, context = int(row.get("decodes", 0)), int(row.get("context", 0))
        pairs = prompts * (chunk * prefix + chunk * (chunk + 1) / 2)
        guess_s = cost.step_s(
            prompts * chunk,
            pairs,
            prompts * (prefix + chunk),
            decodes,
            decodes * context,
            decodes + prompts,
        )
        yield guess_s / row["time_s"] - 1
