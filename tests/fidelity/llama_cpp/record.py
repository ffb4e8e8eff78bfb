"""Record what the engine does: calibration steps and served traces, interleaved.

    pip install xllamacpp==2026.10.11549 gguf numpy pyarrow
    python -m tests.fidelity.llama_cpp.record

For each format of the weights: three traces that all come at once (the capacity), then Poisson
arrivals at shares of that capacity, three seeds each. All of it is done twice, so that the errors
of a simulation can be held against how well the engine repeats itself. Between the runs come
traces that are served for calibration alone. About 5 minutes of CPU time. What the machine
disturbs (`STALLED_S`, `MOVED`, `AGREEING`) is served again; ``meta.json`` says how often
that was, and how steady the machine was otherwise.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from infsim.fidelity.llama_cpp_steps import BLOCK
from infsim.paths import data_folder
from tests.fidelity.llama_cpp import bench
from tests.fidelity.llama_cpp.bench import SATURATED
from tests.fidelity.llama_cpp.clock import Steadiness, SteadyClock
from tests.fidelity.llama_cpp.library import RELEASE, Llama
from tests.fidelity.llama_cpp.server import (
    MAX_SEQUENCES,
    TOKEN_BUDGET,
    Served,
    Server,
    StepRow,
    Trace,
    trace,
)
from tests.fidelity.llama_cpp.weights import FORMATS, Shape, write

RECORDED = data_folder("calibration/recorded") / "llama-cpp"
REQUESTS = {SATURATED: 600, 0.3: 1200, 0.6: 1200, 0.85: 4000}
"""Requests by load: most at the highest, where single bursts decide about the tail."""
LOADS = tuple(REQUESTS)[1:]
SEEDS = (1, 2, 3)
TIMES = 2
"""How often everything is served."""
CELLS = 4096
"""Entries of the KV cache: enough for all sequences at their longest."""
STALLED_S = 0.01
"""Five times the longest step: one that takes longer did not compute all the time."""
MOVED = 0.1
"""Largest change of the reference during a trace."""
AGREEING = 0.01
"""Largest difference of the busy seconds between the times that a trace is served."""
ATTEMPTS = 8
_UNITS = np.array([1e6 if name == "time_s" else 1 for name in StepRow._fields])


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

    def __init__(self, form: str, engine: Llama, beside: Llama) -> None:
        self.form = form
        self.engine = engine
        self.clock = SteadyClock(bench.reference(beside))
        self.steps: list[StepRow] = []
        self.runs: list[Run] = []
        self.refused: list[Steadiness] = []
        self.disagreed = 0

    def record(self) -> None:
        """Do everything, calibration and runs in turn."""
        capacity = float(np.mean([self._run(SATURATED, seed, 0, np.inf) for seed in SEEDS]))
        extra = bench.FIRST_SEED
        for time in range(TIMES):
            for seed in SEEDS:
                if time:
                    self._run(SATURATED, seed, time, np.inf)
                for load, other in zip((*LOADS, None), bench.LOADS, strict=True):
                    rate = np.inf if other == SATURATED else other * capacity
                    steps = self._serve(trace(rate, bench.REQUESTS, extra), extra)[0]
                    self.steps += bench.keep(steps, extra)
                    extra += 1
                    if load is not None:
                        self._run(load, seed, time, load * capacity)
        for load in REQUESTS:
            for seed in SEEDS:
                self._agree(load, seed, np.inf if load == SATURATED else load * capacity)

    def _run(self, load: float, seed: int, time: int, rate: float) -> float:
        """Serve a trace that counts and return how many requests per second were served."""
        given = trace(rate, REQUESTS[load], seed)
        steps, served, steadiness = self._serve(given, seed)
        busy_s = sum(step.time_s for step in steps)
        self.runs.append(Run(load, seed, time, given, served, busy_s, steadiness))
        sys.stderr.write(
            f"{self.form}, load {load}, seed {seed}: {busy_s:.2f} s in {len(steps)} steps,"
            f" machine {steadiness.slowdown:.2f} times as slow as at first\n"
        )
        return REQUESTS[load] / max(request.end_s for request in served)

    def _agree(self, load: float, seed: int, rate: float) -> None:
        """Serve a trace until two of the times agree, and keep these.

        Neighbours slow down steps in ways that the reference does not always see.
        """
        for _ in range(ATTEMPTS):
            own = [run for run in self.runs if (run.load, run.seed) == (load, seed)]
            pair = agreeing(own)
            if pair:
                others = [run for run in self.runs if (run.load, run.seed) != (load, seed)]
                self.runs = others + [run._replace(time=time) for time, run in enumerate(pair)]
                self.disagreed += len(own) - TIMES
                return
            self._run(load, seed, len(own), rate)
        raise RuntimeError(f"no two of {TIMES + ATTEMPTS} runs agree")

    def _serve(self, given: Trace, seed: int) -> tuple[list[StepRow], list[Served], Steadiness]:
        """Serve a trace, again if the machine was not steady."""
        for _ in range(ATTEMPTS):
            server = Server(self.engine, self.engine.vocabulary, self.clock)
            self.clock.watch()
            served = server.serve(given, seed)
            steadiness = self.clock.watched()
            if steadiness.longest_s < STALLED_S and abs(steadiness.moved) < MOVED:
                return server.steps, served, steadiness
            sys.stderr.write(f"refused, served again: {steadiness}\n")
            self.refused.append(steadiness)
        raise RuntimeError(f"the machine is not steady, {ATTEMPTS} attempts were in vain")


def main() -> None:
    """Record each format and write a folder for it."""
    parser = argparse.ArgumentParser(description="Record served traces of llama.cpp.")
    parser.add_argument("--out", type=Path, default=RECORDED)
    parser.add_argument("--format", action="append", choices=FORMATS)
    arguments = parser.parse_args()
    _stay_undisturbed()
    for form in arguments.format or FORMATS:
        with TemporaryDirectory() as folder:
            path = Path(folder) / "model.gguf"
            write(path, Shape(), form)
            engine = Llama(path, CELLS, MAX_SEQUENCES, TOKEN_BUDGET)
            beside = engine.beside(BLOCK, 1, TOKEN_BUDGET)
            recorder = Recorder(form, engine, beside)
            recorder.record()
            for each in (beside, engine):
                each.close()
        out = arguments.out / form
        out.mkdir(parents=True, exist_ok=True)
        _write(out / "steps.parquet", _step_table(recorder.steps))
        _write(out / "requests.parquet", _request_table(recorder.runs))
        (out / "meta.json").write_text(json.dumps(_meta(recorder), indent=1) + "\n")


def _stay_undisturbed() -> None:
    """Keep to one core, whose caches are warm, before other programs if that is allowed."""
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    with suppress(PermissionError):
        os.nice(-20)


def _write(path: Path, table: pa.Table) -> None:
    """Write a table in half the space: bytes of equal weight side by side compress best."""
    wide = [field.name for field in table.schema if field.type == pa.int32()]
    pq.write_table(
        table,
        path,
        compression="zstd",
        compression_level=19,
        use_dictionary=False,
        column_encoding=dict.fromkeys(wide, "BYTE_STREAM_SPLIT"),
    )


def _step_table(steps: list[StepRow]) -> pa.Table:
    columns = dict(zip(StepRow._fields, np.rint(np.array(steps) * _UNITS).T, strict=True))
    columns["time_us"] = columns.pop("time_s")
    wide = ("prefill_pairs", "time_us")
    return pa.table({k: v.astype(np.int32 if k in wide else np.int16) for k, v in columns.items()})


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
        "engine": f"llama.cpp in the wheel xllamacpp {RELEASE}, one thread, one KV cache for all,"
        " graphs not kept",
        "clock": "CPU seconds of the process (planning, llama_decode, choosing tokens), each step"
        " relative to a reference computed shortly before it; slowdown and change during a run are"
        " those of the reference",
        "machine": {"processor": _processor(), "system": platform.platform()},
        "recorded": datetime.now(UTC).strftime("%Y-%m-%d %H:%M"),
        "model": asdict(Shape()),
        "token_budget": TOKEN_BUDGET,
        "max_sequences": MAX_SEQUENCES,
        "refused": len(recorder.refused),
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


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()


if __name__ == "__main__":
    main()
