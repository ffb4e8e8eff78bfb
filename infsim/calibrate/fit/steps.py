"""From whole steps to the three numbers of a roofline: for devices without tables of kernels.

Benches of whole models (llama.cpp) tell the time of a prefill and of a decode step of one
sequence. That is too little for a table of kernels, and enough for the shares of the peaks that an
engine reaches on a device and for what each layer costs beside its work. The three are fitted to
the logarithms of all steps of a device together; a weak prior, typical of well-measured devices,
decides where the steps do not (one decode step alone cannot tell overhead from bandwidth).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from infsim.calibrate.table import KernelTable
from infsim.cluster.device import Device, load_device
from infsim.cluster.node import Node
from infsim.cost.rates import Rates
from infsim.cost.roofline import RooflineStepCost
from infsim.errors import InputError
from infsim.model.catalog import load, load_format
from infsim.model.formats import Format
from infsim.model.graph import Operator

NOISE = 0.03
"""Relative error of a measured step."""
PRIOR = {
    "compute": (0.6, 0.5),
    "format": (1.0, 0.2),
    "bandwidth": (0.85, 0.1),
    "layer": (6e-5, 0.7),
}
"""Typical value and spread (of the logarithm): llama.cpp on desktop GPUs and Macs."""
STALLED = 4.0
"""A prefill this much slower than that of another format of the same model is no measure."""


@dataclass(frozen=True)
class Step:
    """One measured step.

    Attributes
    ----------
    model, format : str
    prefill, decodes, context : int
        New tokens of a prompt; or sequences that decode, and the context of each.
    time_s : float
    """

    model: str
    format: str
    prefill: int
    decodes: int
    context: int
    time_s: float


def fit_steps(table: KernelTable) -> Rates:
    """Fit the roofline of a device to its whole steps.

    Parameters
    ----------
    table : KernelTable
        Of one device; rows of other kernels than ``step`` are not used, nor those of other
        engines than the one with most rows. Of the same step on several systems the fastest
        counts: it is the device that is wanted, not its host.

    Returns
    -------
    Rates
        With the errors of each step when it is held out, where others can stand in for it.

    Raises
    ------
    InputError
        If there are no steps of models of the catalogue.
    """
    device = load_device(table.meta.hardware)
    steps, stalled = _usable(_fastest(table))
    if not steps:
        raise InputError(f"no steps of known models among the kernels of {device.name!r}")
    formats = sorted({step.format for step in steps})
    fitted = _fit(device, steps, formats)
    held_out = {}
    for index, step in enumerate(steps):
        rest = steps[:index] + steps[index + 1 :]
        if _can_stand_in(step, rest):
            predicted = _predict(_with(device, _fit(device, rest, formats), step.format), step)
            held_out[_named(step)] = round(predicted / step.time_s - 1, 4)
    errors = {
        _named(step): round(_predict(_with(device, fitted, step.format), step) / step.time_s - 1, 4)
        for step in steps
    }
    return Rates(
        device=device.name,
        source=table.meta.source,
        compute={form: round(share, 4) for form, share in fitted.compute.items()},
        bandwidth=round(fitted.bandwidth, 4),
        layer_s=float(f"{fitted.layer_s:.4g}"),
        errors=errors,
        held_out=held_out,
        notes=tuple(f"not used, far slower than in another format: {step}" for step in stalled),
    )


def write_rates(rates: Rates, path: Path) -> None:
    """Write a ``rates.json``, whole or not at all."""
    from infsim.results.folder import whole_file

    with whole_file(path) as scratch:
        scratch.write_text(json.dumps(asdict(rates), indent=1) + "\n", encoding="utf-8")


@dataclass(frozen=True)
class _Fitted:
    compute: Mapping[str, float]
    bandwidth: float
    layer_s: float


def _fastest(table: KernelTable) -> list[Step]:
    found = table.select(kernel="step", devices=(0, 1))
    engines = Counter(library.split(",")[0] for library in found["library"])
    best: dict[tuple[str, str, int, int, int], float] = {}
    for row in found.rows():
        if row.get("library", "").split(",")[0] != engines.most_common(1)[0][0]:
            continue
        key = (
            row["name"],
            row["format"],
            row.get("prefills", 0) * row.get("chunk", 0),
            row.get("decodes", 0),
            row.get("context", 0),
        )
        best[key] = min(row["time_s"], best.get(key, np.inf))
    return [Step(*key, time) for key, time in sorted(best.items())]


def _usable(steps: Sequence[Step]) -> tuple[list[Step], list[str]]:
    """Leave out prefills that are far slower than those of the same model in another format."""
    quickest = {
        s.model: min(t.time_s for t in steps if t.model == s.model and t.prefill == s.prefill)
        for s in steps
        if s.prefill
    }
    stalled = [s for s in steps if s.prefill and s.time_s > STALLED * quickest[s.model]]
    return [s for s in steps if s not in stalled], [_named(s) for s in stalled]


def _can_stand_in(step: Step, rest: Sequence[Step]) -> bool:
    """Tell whether other steps of the same phase say something about one."""
    return any(bool(other.prefill) == bool(step.prefill) for other in rest)


def _fit(device: Device, steps: Sequence[Step], formats: Sequence[str]) -> _Fitted:
    from scipy.optimize import least_squares

    def fitted(logs: NDArray[np.float64]) -> _Fitted:
        share = np.exp(logs[0])
        return _Fitted(
            {f: min(float(share * np.exp(x)), 1.0) for f, x in zip(formats, logs[3:], strict=True)},
            min(float(np.exp(logs[1])), 1.0),
            float(np.exp(logs[2])),
        )

    names = ("compute", "bandwidth", "layer", *["format"] * len(formats))
    means = np.log([PRIOR[name][0] for name in names])
    widths = np.array([PRIOR[name][1] for name in names])

    def residuals(logs: NDArray[np.float64]) -> NDArray[np.float64]:
        rates = fitted(logs)
        errors = [
            np.log(_predict(_with(device, rates, step.format), step) / step.time_s) / NOISE
            for step in steps
        ]
        return np.concatenate([errors, (logs - means) / widths])

    return fitted(least_squares(residuals, means, xtol=1e-6, ftol=1e-8).x)


def _with(device: Device, rates: _Fitted, form: str) -> Device:
    return replace(
        device,
        compute_efficiency=rates.compute[form],
        bandwidth_efficiency=rates.bandwidth,
        layer_overhead_s=rates.layer_s,
    )


def _predict(device: Device, step: Step) -> float:
    """Time of a step by the roofline: that of its layers, each kind priced once."""
    node = Node(name="fitted", device=device)
    tokens = step.prefill
    work = (tokens, tokens * (tokens + 1) / 2, float(tokens), step.decodes,
            float(step.decodes * step.context), max(step.decodes, 1))  # fmt: skip
    alone = device.overhead_s
    form = _format(step.format)
    return alone + sum(
        count * (RooflineStepCost(node, form, [operator]).step_s(*work) - alone)
        for operator, count in _kinds(step.model)
    )


@lru_cache(maxsize=64)
def _kinds(model: str) -> tuple[tuple[Operator, int], ...]:
    """Return the operators of a model that differ in more than their name, and how many."""
    return tuple(Counter(replace(op, name="") for op in load(model).graph.operators).items())


@lru_cache(maxsize=64)
def _format(name: str) -> Format:
    return load_format(name)


def _named(step: Step) -> str:
    phase = f"prefill {step.prefill}" if step.prefill else f"decode {step.decodes}"
    return f"{step.model} {step.format} {phase}"
