"""Steps of a model under llama.cpp on the processor at hand: measured, fitted, described."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np

from infsim.calibrate.fit.engine_steps import Steps, fit, predicted_s, write_steps
from infsim.calibrate.llama_cpp.bench import SATURATED, StepBench, reference
from infsim.calibrate.llama_cpp.clock import SteadyClock
from infsim.calibrate.llama_cpp.library import RELEASE, Llama
from infsim.calibrate.llama_cpp.server import (
    DEFAULT_LENGTHS,
    DEFAULT_LIMITS,
    Lengths,
    Limits,
    StepRow,
)
from infsim.calibrate.llama_cpp.table import step_table, write_table
from infsim.calibrate.measure.machine import description
from infsim.cost.engine_steps import EngineSteps
from infsim.results.folder import whole_file

BLOCK = 256
"""Entries of the cache in which the engine looks through it."""
ENGINE = (
    f"llama.cpp in the wheel xllamacpp {RELEASE}, one thread, one KV cache for all, graphs not kept"
)
CLOCK = (
    "CPU seconds of the process (planning, llama_decode, choosing tokens), each step relative to a"
    " power of the time of a reference computed shortly before it; `elasticity`: this power for a"
    " token, and what it grows by with the logarithm of tokens"
)


@dataclass(frozen=True)
class Plan:
    """What is to be measured.

    Attributes
    ----------
    weights : Path
        The GGUF file.
    device, model, format : str
        Their names in scenarios.
    limits : Limits
    lengths : Lengths
    repeats : int
        Traces at each load.
    """

    weights: Path
    device: str
    model: str
    format: str
    limits: Limits = DEFAULT_LIMITS
    lengths: Lengths = DEFAULT_LENGTHS
    repeats: int = 3


class Trace(NamedTuple):
    """Steps that were kept of a trace at a load."""

    load: float
    steps: list[StepRow]


def measure(plan: Plan, out: Path, say: Callable[[str], object] = print) -> EngineSteps:
    """Measure steps, fit their cost, and write ``steps.parquet``, ``steps.json``, ``meta.json``.

    Parameters
    ----------
    plan : Plan
    out : Path
        The folder.
    say : callable
        Told what goes on, a line at a time.

    Raises
    ------
    InputError
        If the library or the file is missing or not usable.
    UnsteadyError
        If the speed of the machine changes too much.
    """
    with bench(plan.weights, plan.limits, plan.lengths, say) as stand:
        traces = [Trace(*found) for found in stand.measure(plan.repeats)]
    steps = list(chain.from_iterable(trace.steps for trace in traces))
    source = f"{len(steps)} steps of {ENGINE}"
    found = EngineSteps(
        plan.device, plan.model, plan.format, source, fit(Steps.of(steps)), left_out(traces)
    )
    meta = {
        "engine": ENGINE,
        "clock": CLOCK,
        "machine": description("cpu"),
        "measured": datetime.now(UTC).strftime("%Y-%m-%d %H:%M"),
        "weights": plan.weights.name,
        "tokens": plan.limits.tokens,
        "sequences": plan.limits.sequences,
        "prompt": plan.lengths.prompt,
        "output": plan.lengths.output,
        "elasticity": [round(x, 3) for x in stand.clock.elasticity],
        "refused": len(stand.refused),
    }
    write_table(step_table(steps), out / "steps.parquet")
    write_steps(found, out / "steps.json")
    with whole_file(out / "meta.json") as scratch:
        scratch.write_text(json.dumps(meta, indent=1) + "\n", encoding="utf-8")
    return found


@contextmanager
def bench(
    weights: Path, limits: Limits, lengths: Lengths, say: Callable[[str], object]
) -> Iterator[StepBench]:
    """Yield a bench of a model, kept to one core of this machine."""
    longest = lengths.longest
    with undisturbed():
        engine = Llama(weights, _whole(limits.sequences * longest), limits.sequences, limits.tokens)
        beside = engine.beside(BLOCK, 1, limits.tokens)
        try:
            clock = SteadyClock(reference(beside))
            yield StepBench(engine, engine.vocabulary, clock, limits, lengths, say)
        finally:
            for each in (beside, engine):
                each.close()


def left_out(traces: Sequence[Trace]) -> dict[str, float]:
    """Relative error of all steps of a load together, each trace predicted from the others."""
    measured_s: dict[str, float] = {}
    expected_s: dict[str, float] = {}
    for i, (load, own) in enumerate(traces):
        others = [step for j, trace in enumerate(traces) if j != i for step in trace.steps]
        if not others:
            continue
        steps = Steps.of(own)
        name = "all at once" if load == SATURATED else f"load {load:g}"
        expected = predicted_s(fit(Steps.of(others)), steps)
        measured_s[name] = measured_s.get(name, 0.0) + float(steps.time_s.sum())
        expected_s[name] = expected_s.get(name, 0.0) + float(expected.sum())
    return {name: round(expected_s[name] / measured_s[name] - 1, 4) for name in measured_s}


@contextmanager
def undisturbed() -> Iterator[None]:
    """Keep to one core, whose caches are warm, before other programs if that is allowed."""
    niceness = os.getpriority(os.PRIO_PROCESS, 0)
    pinned = hasattr(os, "sched_setaffinity")  # not on every system
    allowed = os.sched_getaffinity(0) if pinned else set()
    if pinned:
        os.sched_setaffinity(0, {max(allowed)})
    with suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, -20)
    try:
        yield
    finally:
        os.setpriority(os.PRIO_PROCESS, 0, niceness)
        if pinned:
            os.sched_setaffinity(0, allowed)


def _whole(entries: int) -> int:
    """Entries of the cache in whole blocks."""
    return BLOCK * int(np.ceil(entries / BLOCK))
