"""Records of runs that no engine made: written by hand, or from a simple queue."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from infsim.results.metrics import Objectives
from infsim.results.recorder import Recorder, RunRecord, Status
from infsim.results.runs import Run
from infsim.study.study import Setup, Study

REQUEST: dict[str, Any] = {
    "session_id": -1,
    "client": 0,
    "arrival_s": 0.0,
    "start_s": 1.0,
    "first_token_s": 2.0,
    "end_s": 4.0,
    "input_tokens": 100,
    "output_tokens": 5,
    "generated_tokens": 5,
    "cached_tokens": 0,
    "preemptions": 0,
    "attempts": 1,
    "forwards": 0,
    "wasted_tokens": 0,
    "deployment": 0,
    "replica": 0,
    "correct": -1,
    "confidence": math.nan,
    "status": Status.COMPLETED,
    "error": "",
}
NODE: dict[str, Any] = {
    "up_s": 10.0,
    "busy_s": 5.0,
    "down_s": 0.0,
    "loading_s": 0.0,
    "energy_j": 1000.0,
    "carbon_g": 2.0,
    "energy_cost": math.nan,
    "peak_kv_bytes": 1e9,
    "weight_bytes": 3e9,
    "kv_capacity_bytes": 4e9,
    "tokens": 105,
    "iterations": 6,
    "failures": 0,
    "bytes_sent": 100.0,
    "bytes_received": 50.0,
}


def record(
    requests: Iterable[dict[str, Any]] = ({},),
    nodes: Iterable[dict[str, Any]] = ({},),
    segments: Iterable[tuple[int, int, float, float, int, int, int, int]] = (),
    incidents: Iterable[tuple[Any, ...]] = (),
    end_s: float = 10.0,
    interrupted: bool = False,
) -> RunRecord:
    """Return a record; what a row does not say is as in `REQUEST` and `NODE`."""
    recorder = Recorder()
    for number, request in enumerate(requests):
        recorder.request(**{"request_id": number, **REQUEST, **request})
    for number, node in enumerate(nodes):
        recorder.node(**{"node": number, "name": f"node-{number}", **NODE, **node})
    for segment in segments:
        recorder.segment(segment)
    for incident in incidents:
        recorder.incident(*incident)
    recorder.counters["events"] = 7
    return recorder.finish(end_s, interrupted)


def queue(
    requests: int = 200,
    seed: int = 0,
    slowness: float = 1.0,
    own_noise: float = 0.0,
    load: float = 0.6,
) -> RunRecord:
    """Return a run of one M/M/1 queue.

    Equal seeds give equal arrivals and service times, but for the factor ``slowness`` and for
    noise of the alternative's own.
    """
    rng = np.random.default_rng(seed)
    arrivals = np.cumsum(rng.exponential(1.0, requests))
    service = rng.exponential(load, requests) * slowness
    own = np.random.default_rng([seed, round(slowness * 1e6)])
    service *= np.abs(1 + own_noise * own.standard_normal(requests))
    rows, segments, free = [], [], 0.0
    for number in range(requests):
        start = max(float(arrivals[number]), free)
        free = start + float(service[number])
        first = start + 0.25 * (free - start)
        row = {"arrival_s": float(arrivals[number]), "start_s": start}
        rows.append(row | {"first_token_s": first, "end_s": free})
        segments.append((0, 0, start, free, 5, 100, 1, 100))
    return record(rows, ({"busy_s": float(service.sum())},), segments, end_s=free)


def study(runs: Sequence[Run], **setup: Any) -> Study:
    """Return the study of some runs."""
    names = tuple(dict.fromkeys(run.alternative for run in runs))
    values: dict[str, Any] = {
        "name": "by hand",
        "question": "Which is better?",
        "alternatives": names,
        "replications": 1 + max((run.replication for run in runs), default=0),
        "seed": 0,
        "engine": "fast",
        "objectives": Objectives(),
        "warmup": 0.0,
        "scenario": "name: by hand\n",
        "inputs": [],
    }
    return Study(Setup(**values | setup), runs)
