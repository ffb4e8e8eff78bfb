"""Record what the engine does: calibration steps and served traces, interleaved.

    pip install -e ".[llama-cpp]"
    python -m tests.fidelity.llama_cpp.record

For each format of the weights: three traces that all come at once (the capacity), then Poisson
arrivals at shares of that capacity, three seeds each. All of it is done twice, so that the errors
of a simulation can be held against how well the engine repeats itself. Between the runs come
traces that are served for calibration alone. About eight minutes of CPU time. What the machine
disturbs (`bench.STALLED`, `bench.MOVED`, `AGREEING`) is served again; ``meta.json`` says how often
that was, and how steady the machine was otherwise.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable
from dataclasses import asdict
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from infsim.calibrate.llama_cpp import bench, measure
from infsim.calibrate.llama_cpp.bench import SATURATED, StepBench
from infsim.calibrate.llama_cpp.clock import Steadiness
from infsim.calibrate.llama_cpp.server import (
    DEFAULT_LENGTHS,
    DEFAULT_LIMITS,
    Served,
    StepRow,
    Trace,
)
from infsim.calibrate.llama_cpp.table import step_table, write_table
from infsim.calibrate.measure.machine import description
from infsim.paths import data_folder
from tests.fidelity.llama_cpp.weights import FORMATS, Shape, write

RECORDED = data_folder("calibration/recorded") / "llama-cpp"
REQUESTS = {SATURATED: 600, 0.3: 1200, 0.6: 1200, 0.85: 4000}
"""Requests by load: most at the highest, where single bursts decide about the tail."""
LOADS = tuple(REQUESTS)[1:]
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
    """Everything about one format."""

    def __init__(self, form: str, stand: StepBench) -> None:
        self.form = form
        self.stand = stand
        self.steps: list[StepRow] = []
        self.runs: list[Run] = []
        self.disagreed = 0

    def record(self) -> None:
        """Do everything, calibration and runs in turn."""
        self.stand.learn()
        capacity = float(np.mean([self._run(SATURATED, seed, 0, np.inf) for seed in SEEDS]))
        extra = bench.FIRST_SEED
        for time in range(TIMES):
            for seed in SEEDS:
                if time:
                    self._run(SATURATED, seed, time, np.inf)
                for load, other in zip((*LOADS, None), bench.LOADS, strict=True):
                    self.steps += self.stand.calibrate(other, capacity, extra)
                    extra += 1
                    if load is not None:
                        self._run(load, seed, time, load * capacity)
        for load in REQUESTS:
            for seed in SEEDS:
                self._agree(load, seed, np.inf if load == SATURATED else load * capacity)

    def _run(self, load: float, seed: int, time: int, rate: float) -> float:
        """Serve a trace that counts and return how many requests per second were served."""
        given = self.stand.trace(rate, REQUESTS[load], seed)
        serving = self.stand.serve(given, seed)
        busy_s = sum(step.time_s for step in serving.steps)
        self.runs.append(Run(load, seed, time, given, serving.requests, busy_s, serving.steadiness))
        self.stand.say(
            f"{self.form}, load {load}, seed {seed}: {busy_s:.2f} s in {len(serving.steps)} steps,"
            f" machine {serving.steadiness.slowdown:.2f} times as slow as at first"
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


def main() -> None:
    """Record each format and write a folder for it."""
    parser = argparse.ArgumentParser(description="Record served traces of llama.cpp.")
    parser.add_argument("--out", type=Path, default=RECORDED)
    parser.add_argument("--format", action="append", choices=FORMATS)
    arguments = parser.parse_args()
    for form in arguments.format or FORMATS:
        with TemporaryDirectory() as folder:
            path = Path(folder) / "model.gguf"
            write(path, Shape(), form)
            with measure.bench(path, DEFAULT_LIMITS, DEFAULT_LENGTHS, _say) as stand:
                recorder = Recorder(form, stand)
                recorder.record()
        out = arguments.out / form
        out.mkdir(parents=True, exist_ok=True)
        write_table(step_table(recorder.steps), out / "steps.parquet")
        write_table(_request_table(recorder.runs), out / "requests.parquet")
        (out / "meta.json").write_text(json.dumps(_meta(recorder), indent=1) + "\n")


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")


def _request_table(runs: Iterable[Run]) -> pa.Table:
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


def _meta(recorder: Recorder) -> dict[str, Any]:
    return {
        "format": recorder.form,
        "engine": measure.ENGINE,
        "clock": f"{measure.CLOCK}; slowdown and change during a run are those of the reference",
        "machine": description("cpu"),
        "recorded": datetime.now(UTC).strftime("%Y-%m-%d %H:%M"),
        "model": asdict(Shape()),
        "token_budget": DEFAULT_LIMITS.tokens,
        "max_sequences": DEFAULT_LIMITS.sequences,
        "elasticity": [round(x, 3) for x in recorder.stand.clock.elasticity],
        "refused": len(recorder.stand.refused),
        "disagreed": recorder.disagreed,
        "runs": [
            {
                "load": run.load,
                "seed": run.seed,
                "time": run.time,
                "slowdown": round(run.steadiness.slowdown, 3),
                "moved": round(run.steadiness.moved, 3),
            }
            for run in recorder.runs
        ],
    }


if __name__ == "__main__":
    main()
