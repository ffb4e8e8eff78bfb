"""Record what the engine does: calibration steps and served traces, interleaved.

    pip install xllamacpp==2026.10.11549 gguf numpy pyarrow
    python -m tests.fidelity.llama_cpp.record

For each format of the weights: three traces that all come at once (the capacity), then Poisson
arrivals at shares of that capacity, three seeds each. Before each of them comes a round of
the bench, and traces of their own, served for calibration alone, come in between. About 15
minutes of CPU time. A quiet machine gives better figures: ``meta.json`` says how
steady it was.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from collections.abc import Iterable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from infsim.paths import data_folder
from tests.fidelity.llama_cpp.bench import Bench, references
from tests.fidelity.llama_cpp.clock import SteadyClock
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
SATURATED = 0.0
"""The load under which a run is filed whose requests all come at once."""
LOADS = (0.3, 0.6, 0.85)
SEEDS = (1, 2, 3)
REQUESTS = 300
BUSY_REQUESTS = 600
"""Requests at the highest load, where a single burst decides about the tail of a short run."""
CELLS = 16384
"""Entries of the KV cache: enough for all sequences at their longest."""
CALIBRATION_SEEDS = (101, 102, 103)
SERVED_DECODES = 300
"""Steps without a prompt that are kept of a trace that is served for calibration."""


class Run(NamedTuple):
    """A served trace, and how much slower the references were meanwhile than at the beginning."""

    load: float
    seed: int
    trace: Trace
    served: list[Served]
    slowdowns: list[float]


class Recorder:
    """Everything about one format."""

    def __init__(self, form: str, engine: Llama) -> None:
        self.form = form
        self.engine = engine
        self.clock = SteadyClock(*references(engine))
        self.bench = Bench(engine, engine.vocabulary, self.clock, seed=7)
        self.benched: list[StepRow] = []
        self.served: list[StepRow] = []
        self.runs: list[Run] = []

    def record(self) -> None:
        """Do everything, calibration and runs in turn."""
        capacity = float(np.mean([self._saturate(seed) for seed in SEEDS]))
        rng = np.random.default_rng(7)
        for seed, extra in zip(SEEDS, CALIBRATION_SEEDS, strict=True):
            for rate in (np.inf, 0.6 * capacity):
                steps = self._serve(trace(rate, REQUESTS // 2, extra), extra)[0]
                decodes = [step for step in steps if not step.prefill_tokens]
                kept = rng.permutation(len(decodes))[:SERVED_DECODES]
                self.served += [step for step in steps if step.prefill_tokens]
                self.served += [decodes[i] for i in kept]
            for load in LOADS:
                self.benched += self.bench.round()
                self._run(load, seed, load * capacity)

    def _saturate(self, seed: int) -> float:
        """Serve requests that all come at once and return how many per second are served."""
        self.benched += self.bench.round()
        served = self._run(SATURATED, seed, np.inf)
        return REQUESTS / max(request.end_s for request in served)

    def _run(self, load: float, seed: int, rate: float) -> list[Served]:
        given = trace(rate, BUSY_REQUESTS if load == LOADS[-1] else REQUESTS, seed)
        first = len(self.clock.measured_s)
        steps, served = self._serve(given, seed)
        slowdowns = self.clock.slowdowns(first)
        self.runs.append(Run(load, seed, given, served, slowdowns))
        busy_s = sum(step.time_s for step in steps)
        sys.stderr.write(
            f"{self.form}, load {load}, seed {seed}: {busy_s:.2f} s in {len(steps)} steps,"
            f" machine {slowdowns[0]:.2f} and {slowdowns[1]:.2f} times as slow as at first\n"
        )
        return served

    def _serve(self, given: Trace, seed: int) -> tuple[list[StepRow], list[Served]]:
        server = Server(self.engine, self.engine.vocabulary, self.clock)
        served = server.serve(given, seed)
        return server.steps, served


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
            engine = Llama(path, CELLS, 2 * MAX_SEQUENCES, TOKEN_BUDGET)
            recorder = Recorder(form, engine)
            recorder.record()
            engine.close()
        out = arguments.out / form
        out.mkdir(parents=True, exist_ok=True)
        _write(out / "steps.parquet", _step_table(recorder.benched, recorder.served))
        _write(out / "requests.parquet", _request_table(recorder.runs))
        (out / "meta.json").write_text(json.dumps(_meta(recorder), indent=1) + "\n")


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


def _step_table(benched: list[StepRow], served: list[StepRow]) -> pa.Table:
    columns = dict(zip(StepRow._fields, np.array(benched + served).T, strict=True))
    columns["time_us"] = 1e6 * columns.pop("time_s")
    arrays = {name: np.rint(column).astype(np.int32) for name, column in columns.items()}
    return pa.table(arrays | {"served": np.arange(len(columns["time_us"])) >= len(benched)})


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
        " relative to a reference computed shortly before it; slowdowns are those of the references"
        " (a prompt, decodes) during a run",
        "machine": {"processor": _processor(), "system": platform.platform()},
        "recorded": datetime.now(UTC).strftime("%Y-%m-%d %H:%M"),
        "model": asdict(Shape()),
        "token_budget": TOKEN_BUDGET,
        "max_sequences": MAX_SEQUENCES,
        "runs": [
            {
                "load": run.load,
                "seed": run.seed,
                "slowdowns": [round(slowdown, 3) for slowdown in run.slowdowns],
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
