"""Record what the engine does: calibration steps and served traces, interleaved.

    pip install -e ".[llama-cpp]"
    python -m tests.fidelity.llama_cpp.record

For each format of the weights: three traces that all come at once (the capacity), then Poisson
arrivals at shares of that capacity, three seeds each. All of it is done twice, so that the errors
of a simulation can be held against how well the engine repeats itself. Between the runs come
traces that are served for calibration alone. About eight minutes of CPU time. What the machine
disturbs (`bench.STALLED`, `bench.MOVED`, `serving.AGREEING`) is served again; ``meta.json`` says
how often that was, and how steady the machine was otherwise.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from itertools import count, cycle
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from infsim.calibrate.llama_cpp import bench, measure
from infsim.calibrate.llama_cpp.bench import SATURATED, StepBench
from infsim.calibrate.llama_cpp.server import DEFAULT_LENGTHS, DEFAULT_LIMITS, StepRow
from infsim.calibrate.llama_cpp.table import step_table, write_table
from infsim.calibrate.measure.machine import description
from infsim.paths import data_folder
from tests.fidelity.llama_cpp.weights import FORMATS, Shape, write
from tests.fidelity.serving import Recorder, request_table

RECORDED = data_folder("calibration/recorded") / "llama-cpp"
REQUESTS = {0.3: 1200, 0.6: 1200, 0.85: 4000, SATURATED: 600}
"""Requests by load: most at the highest, where single bursts decide about the tail."""


class Calibration:
    """Steps of traces that are served for calibration alone."""

    def __init__(self, stand: StepBench) -> None:
        self.steps: list[StepRow] = []
        self._stand = stand
        self._loads = cycle(bench.LOADS)
        self._seeds = count(bench.FIRST_SEED)

    def serve(self, capacity: float) -> None:
        """Serve one more trace, and keep some of its steps."""
        self.steps += self._stand.calibrate(next(self._loads), capacity, next(self._seeds))


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
                stand.learn()
                calibration = Calibration(stand)
                recorder = Recorder(form, stand, REQUESTS)
                recorder.record(calibration.serve)
        out = arguments.out / form
        out.mkdir(parents=True, exist_ok=True)
        write_table(step_table(calibration.steps), out / "steps.parquet")
        write_table(request_table(recorder.runs), out / "requests.parquet")
        (out / "meta.json").write_text(json.dumps(_meta(recorder), indent=1) + "\n")


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")


def _meta(recorder: Recorder) -> dict[str, Any]:
    return {
        "name": f"llama.cpp {recorder.form}",
        "format": recorder.form,
        "engine": measure.ENGINE,
        "clock": f"{measure.CLOCK}; slowdown and change during a run are those of the reference",
        "machine": description("cpu"),
        "recorded": datetime.now(UTC).strftime("%Y-%m-%d %H:%M"),
        "model": asdict(Shape()),
        "elasticity": [round(x, 3) for x in recorder.stand.clock.elasticity],
        **recorder.meta(),
    }


if __name__ == "__main__":
    main()
