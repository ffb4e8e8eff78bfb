"""Whole steps that were measured, against the sum of the kernels measured beside them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from infsim.calibrate.fit.errors import summary
from infsim.calibrate.table import KernelTable
from infsim.cluster.device import load_device
from infsim.cluster.node import Node
from infsim.cost.calibration import Calibration
from infsim.cost.kernels import covers
from infsim.cost.measured import MeasuredStepCost
from infsim.model.catalog import MODELS, load, load_format


class Step(NamedTuple):
    """A measured step: its time, the sum of its kernels, and how many operators it runs."""

    form: str
    time_s: float
    kernels_s: float
    operators: int


def whole_steps(table: KernelTable, known: Calibration) -> list[Step]:
    """Return the measured steps whose kernels are known.

    Parameters
    ----------
    table : KernelTable
        Its rows of whole steps of models of the catalogue, on equal prompts and equal contexts.
    known : Calibration
        Fitted to its other rows.
    """
    found: list[Step] = []
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
            found += [Step(form, *times, len(operators)) for times in _priced(own, cost)]
    return found


def operator_s(steps: list[Step]) -> float:
    """Return the time of an operator beside its kernels: least squares of relative errors.

    Launches from Python, views, and code that other kernels have driven out of the cache: most of
    a step of few tokens in small layers. It is not negative; 0 without steps.
    """
    share = np.array([step.operators / step.time_s for step in steps])
    lacking = np.array([1 - step.kernels_s / step.time_s for step in steps])
    return max(float(share @ lacking / (share @ share)), 0.0) if steps else 0.0


def whole_step_errors(steps: list[Step]) -> list[dict[str, Any]]:
    """Return the errors of whole steps by format, the time of operators told by the other steps."""
    errors: dict[str, list[float]] = {}
    for i, step in enumerate(steps):
        beside_s = operator_s(steps[:i] + steps[i + 1 :])
        guess_s = step.kernels_s + beside_s * step.operators
        errors.setdefault(step.form, []).append(guess_s / step.time_s - 1)
    return [summary("whole steps", form, "steps", found) for form, found in errors.items()]


def _priced(steps: KernelTable, cost: MeasuredStepCost) -> Iterator[tuple[float, float]]:
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
        yield row["time_s"], guess_s
