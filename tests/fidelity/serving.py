"""Traces served by a real engine, several times each, and the table of what happened."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from infsim.calibrate.llama_cpp import bench
from infsim.calibrate.llama_cpp.bench import SATURATED, StepBench
from infsim.calibrate.llama_cpp.clock import Steadiness
from infsim.calibrate.llama_cpp.library import Piece
from infsim.calibrate.llama_cpp.server import Served, Trace
from infsim.cost.interface import StepCost

SEEDS = (1, 2, 3)
TIMES = 2
"""How often everything is served."""
AGREEING = 0.01
"""Largest difference of the busy seconds between the times that a trace is served."""


class Run(NamedTuple):
    """A served trace: the how many-th time, and how the machine was."""

    load: float
    seed: int
    time: int
    trace: Trace
    served: list[Served]
    busy_s: float
    steadiness: Steadiness


def agreeing(runs: list[Run]) -> list[Run]:
    """Return the two runs whose busy seconds are nearest, none if not even these agree."""
    by_length = sorted(runs, key=lambda run: run.busy_s)
    pair = min(pairwise(by_length), key=lambda pair: pair[1].busy_s / pair[0].busy_s)
    if pair[1].busy_s > (1 + AGREEING) * pair[0].busy_s:
        return []
    return sorted(pair, key=lambda run: run.time)


class Recorder:
    """Serves all that is recorded of one format.

    Parameters
    ----------
    form : str
    stand : StepBench
    requests : mapping of float to int
        How many, by load; the one at `SATURATED` gives the capacity that loads are shares of.
    """

    def __init__(self, form: str, stand: StepBench, requests: Mapping[float, int]) -> None:
        self.form = form
        self.stand = stand
        self.requests = requests
        self.runs: list[Run] = []
        self.disagreed = 0

    def record(self, between: Callable[[float], object] = lambda _: None) -> None:
        """Serve everything `TIMES` times, and again what does not agree.

        Parameters
        ----------
        between : callable
            What to do before each run at a load, given the capacity in requests per second.
        """
        capacity = float(np.mean([self._run(SATURATED, seed, 0, np.inf) for seed in SEEDS]))
        for time in range(TIMES):
            for seed in SEEDS:
                if time:
                    self._run(SATURATED, seed, time, np.inf)
                for load in self.requests:
                    between(capacity)
                    if load != SATURATED:
                        self._run(load, seed, time, load * capacity)
        for load in self.requests:
            for seed in SEEDS:
                self._agree(load, seed, np.inf if load == SATURATED else load * capacity)

    def _run(self, load: float, seed: int, time: int, rate: float) -> float:
        """Serve a trace that counts and return how many requests per second were served."""
        given = self.stand.trace(rate, self.requests[load], seed)
        serving = self.stand.serve(given, seed)
        busy_s = sum(step.time_s for step in serving.steps)
        self.runs.append(Run(load, seed, time, given, serving.requests, busy_s, serving.steadiness))
        self.stand.say(
            f"{self.form}, load {load}, seed {seed}: {busy_s:.2f} s in {len(serving.steps)} steps,"
            f" machine {serving.steadiness.slowdown:.2f} times as slow as the unit"
        )
        return serving.rate

    def _agree(self, load: float, seed: int, rate: float) -> None:
        """Serve a trace until two of the times agree, and keep these.

        Neighbours slow down steps in ways that the reference does not always see.
        """
        for _ in range(bench.ATTEMPTS):
            own = [run for run in self.runs if (run.load, run.seed) == (load, seed)]
            pair = agreeing(own)
            if pair:
                others = [run for run in self.runs if (run.load, run.seed) != (load, seed)]
                self.runs = others + [run._replace(time=time) for time, run in enumerate(pair)]
                self.disagreed += len(own) - TIMES
                return
            self._run(load, seed, len(own), rate)
        raise RuntimeError(f"no two of {TIMES + bench.ATTEMPTS} runs agree")

    def meta(self) -> dict[str, Any]:
        """Return how often something was served again, and how the machine was in each run."""
        return {
            "token_budget": self.stand.limits.tokens,
            "max_sequences": self.stand.limits.sequences,
            "refused": len(self.stand.refused),
            "disagreed": self.disagreed,
            "runs": [
                {
                    "load": run.load,
                    "seed": run.seed,
                    "time": run.time,
                    "slowdown": round(run.steadiness.slowdown, 3),
                    "moved": round(run.steadiness.moved, 3),
                }
                for run in self.runs
            ],
        }


class MadeUp:
    """An engine that computes nothing and takes what a cost says, and the clock that tells it.

    It takes the last token of a prompt for a decode where it comes alone.
    """

    def __init__(self, cost: StepCost) -> None:
        self.cost = cost
        self.time_s = 0.0

    def step(self, pieces: Sequence[Piece]) -> list[int]:
        chunks = [p for p in pieces if p.start == 0 or len(p.tokens) > 1 or not p.wants_token]
        decodes = [p for p in pieces if p not in chunks]
        self.time_s = self.cost.step_s(
            sum(len(p.tokens) for p in chunks),
            sum(len(p.tokens) * (p.start + (len(p.tokens) + 1) / 2) for p in chunks),
            sum(p.start + len(p.tokens) for p in chunks),
            len(decodes),
            sum(p.start + 1 for p in decodes),
            sum(p.wants_token for p in pieces),
        )
        return [0 for p in pieces if p.wants_token]

    def forget(self, sequence: int, start: int = 0) -> None: ...
    def start(self) -> None: ...
    def refresh(self) -> None: ...
    def stop(self, tokens: int) -> float:
        return self.time_s


def request_table(runs: Iterable[Run]) -> pa.Table:
    """Times in whole microseconds, each counted from the one before it."""
    parts = []
    for run in runs:
        times = np.array(
            [
                (arrival_s, r.start_s, r.first_token_s, r.end_s)
                for arrival_s, r in zip(run.trace.arrival_s, run.served, strict=True)
            ]
        )
        micro = np.rint(1e6 * np.diff(times, axis=1)).astype(np.int32)
        count = len(times)
        parts.append(
            pa.table(
                {
                    "load": np.full(count, run.load, dtype=np.float32),
                    "seed": np.full(count, run.seed, dtype=np.int8),
                    "time": np.full(count, run.time, dtype=np.int8),
                    "input_tokens": run.trace.input_tokens.astype(np.int16),
                    "output_tokens": run.trace.output_tokens.astype(np.int16),
                    "arrival_us": np.rint(1e6 * times[:, 0]).astype(np.int32),
                    "queue_us": micro[:, 0],
                    "prefill_us": micro[:, 1],
                    "decode_us": micro[:, 2],
                }
            )
        )
    return pa.concat_tables(parts)
