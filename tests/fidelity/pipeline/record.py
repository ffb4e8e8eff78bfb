"""Record what a real pipeline does, with a stage that is killed.

    python -m tests.fidelity.pipeline.record

For each format of the activations: prompts of many lengths and bursts of them, from which the cost
of each stage is fitted; requests one at a time; requests together; requests that all come at once
(the capacity); and three requests in whose middle a stage is killed, next to the same ones
undisturbed. About a quarter of an hour of real time, in which the processes need a tenth of two
cores: do it on a quiet machine.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import platform
import sys
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from infsim.paths import data_folder
from tests.fidelity.pipeline.cluster import TIMEOUT_S, Answer, Ask, Cluster, Kill, Links
from tests.fidelity.pipeline.model import HIDDEN, STAGES, VOCABULARY, stage_bytes
from tests.fidelity.pipeline.stage import HEARTBEAT_S, MAX_SEQUENCES, TOKEN_BUDGET
from tests.fidelity.pipeline.wire import VALUE_BITS

RECORDED = data_folder("calibration/recorded") / "pipeline"
LINKS = Links(delay_s=0.015, bytes_per_s=2e6, store_bytes_per_s=7e6)
KILLED_STAGE = {"fp32": 1, "fp16": 2, "int8": 0}
KILL_AT_TOKENS = 15
REPEATS = 5
"""Of each run: one alone may begin just after a heartbeat, and on a machine that others use, too,
the same prompt takes a fifth longer now and then."""
LENGTHS = (2, 4, 8, 16, 32, 48, 64, 80, 96, 112, 128)
"""Of prompts for calibration; the second time each is a token shorter, and so on: libraries
multiply four rows at a time."""
COLUMNS = (
    "prefill_tokens",
    "prefill_pairs",
    "prefill_context",
    "decode_sequences",
    "decode_context",
    "sequences",
)


class Recorder:
    """All runs of one format."""

    def __init__(self, form: str, cluster: Cluster) -> None:
        self.form = form
        self.cluster = cluster
        self.rng = np.random.default_rng(3)
        self.steps: list[tuple[Any, ...]] = []
        self.runs: list[dict[str, Any]] = []
        self.hops_s: list[float] = []
        self._calibrations = 0

    def record(self) -> None:
        """Do everything, with calibration before, between and after the runs."""
        self.cluster.run([self._ask(0.0, 64, 8)])
        self.cluster.rehearse()
        self._calibrate()
        alone = [self._ask(1.6 * i, int(self.rng.integers(16, 128)), 16) for i in range(8)]
        self._run("alone", alone)
        self._calibrate()
        arrival_s = np.cumsum(self.rng.exponential(0.7, 16))
        self.cluster.rehearse()
        together = [
            self._ask(float(t), int(self.rng.integers(16, 128)), int(self.rng.integers(8, 40)))
            for t in arrival_s
        ]
        self._run("together", together)
        self._run("saturated", [self._ask(0.0, n, 24) for n in self.rng.integers(16, 128, 40)])
        self._calibrate()
        asks = [self._ask(0.3 * i, 96 - 16 * i, 40) for i in range(3)]
        self._run("undisturbed", asks)
        self._run("killed", asks, Kill(KILLED_STAGE[self.form], KILL_AT_TOKENS))
        self._calibrate()

    def _ask(self, arrival_s: float, prompt: int, output_tokens: int) -> Ask:
        tokens = self.rng.integers(0, VOCABULARY, prompt).tolist()
        return Ask(round(arrival_s, 6), tokens, output_tokens)

    def _calibrate(self) -> None:
        """Requests alone and in bursts, for the cost of the stages only."""
        self.cluster.logs()
        for length in LENGTHS:
            self.cluster.run([self._ask(0.0, max(length - self._calibrations, 1), 6)])
        self._calibrations += 1
        for size in (3, 6, 9, 12):
            for gap_s in (0.05, 0.0):
                lengths = self.rng.integers(4, 64, size)
                self.cluster.run([self._ask(gap_s * i, int(n), 8) for i, n in enumerate(lengths)])
        logs = self.cluster.logs()
        self.hops_s += hops(logs)
        for stage, rows in enumerate(logs):
            self.steps += [(self.form, stage, *row[2:], row[1] - row[0]) for row in rows]

    def _run(self, name: str, asks: list[Ask], kill: Kill | None = None) -> None:
        for _ in range(REPEATS):
            answers, failure = self.cluster.run(asks, kill)
            sys.stderr.write(f"{self.form}, {name}: {len(asks)} requests\n")
            rows = [_as_json(ask, answer) for ask, answer in zip(asks, answers, strict=True)]
            run: dict[str, Any] = {"format": self.form, "name": name, "requests": rows}
            if kill:
                run["failure"] = {key: round(value, 6) for key, value in vars(failure).items()}
            self.runs.append(run)
        self.cluster.logs()  # for calibration there are others


def hops(logs: list[list[list[float]]]) -> list[float]:
    """Return the seconds from the end of an iteration to its beginning at the next stage.

    Of single tokens that are alone on their way, so that nothing keeps their activations but the
    link; on the way back to the first stage there are no activations.
    """
    visits = sorted(
        (row[0], row[1], stage, sum(row[2:3] + row[5:6]))
        for stage, rows in enumerate(logs)
        for row in rows
    )
    found = []
    for one, other in pairwise(visits):
        if one[3] == other[3] == 1 and other[2] == one[2] + 1:
            found.append(other[0] - one[1])
    return found


def _as_json(ask: Ask, answer: Answer) -> dict[str, Any]:
    return {
        "arrival_s": ask.arrival_s,
        "input_tokens": len(ask.prompt),
        "tokens": answer.tokens,
        "times_s": [round(time_s, 5) for time_s in answer.times_s],
    }


def main() -> None:
    """Record all formats and write a folder."""
    parser = argparse.ArgumentParser(description="Record runs of a real pipeline.")
    parser.add_argument("--out", type=Path, default=RECORDED)
    arguments = parser.parse_args()
    priority = _prefer()
    steps: list[tuple[Any, ...]] = []
    runs: list[dict[str, Any]] = []
    starts: list[dict[str, Any]] = []
    hops_s: dict[str, float] = {}
    for form in VALUE_BITS:
        with Cluster(form, LINKS) as cluster:
            recorder = Recorder(form, cluster)
            recorder.record()
            starts += [{"format": form, **start} for start in cluster.starts]
            steps += recorder.steps
            runs += recorder.runs
            hops_s[form] = round(float(np.median(recorder.hops_s)), 6)
    arguments.out.mkdir(parents=True, exist_ok=True)
    columns = list(zip(*steps, strict=True))
    table: dict[str, Any] = {
        "format": pa.array(columns[0]).dictionary_encode(),
        "stage": np.array(columns[1], np.int8),
    }
    table |= {name: np.array(columns[2 + i], np.int32) for i, name in enumerate(COLUMNS)}
    table["time_us"] = np.rint(1e6 * np.array(columns[-1])).astype(np.int32)
    pq.write_table(pa.table(table), arguments.out / "steps.parquet", compression="zstd")
    meta = {"meta": _meta(priority), "hops_s": hops_s, "starts": starts, "runs": runs}
    text = json.dumps(meta).encode()
    (arguments.out / "runs.json.gz").write_bytes(gzip.compress(text, mtime=0))


def _prefer() -> str:
    """Go before other programs, where that is allowed, and return how."""
    try:
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    except PermissionError:
        return "the same as that of others"
    return "before others (SCHED_RR)"


def _meta(priority: str) -> dict[str, Any]:
    return {
        "recorded": datetime.now(UTC).strftime("%Y-%m-%d %H:%M"),
        "system": platform.platform(),
        "priority": priority,
        "links": LINKS._asdict(),
        "timeout_s": TIMEOUT_S,
        "heartbeat_s": HEARTBEAT_S,
        "token_budget": TOKEN_BUDGET,
        "max_sequences": MAX_SEQUENCES,
        "hidden": HIDDEN,
        "stage_bytes": [stage_bytes(stage) for stage in range(STAGES)],
    }


if __name__ == "__main__":
    main()
