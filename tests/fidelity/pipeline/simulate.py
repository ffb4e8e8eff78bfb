"""The recorded pipeline simulated.

Rates and time-out are as they were set. What a cluster of one's own would be asked for is measured
beside the runs: the cost of each stage is fitted to iterations of other requests
(``recorded/steps.parquet``), the delay of a link is that of single tokens (what the relay and
the processes take to wake up adds to what was set), and how long a process takes to come up and
to load its weights is what it took when it was killed before, with no request under way.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from math import inf
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from infsim.cluster.availability import AlwaysUp, Availability, TraceAvailability
from infsim.cluster.cluster import Cluster
from infsim.cluster.device import Device
from infsim.cluster.network import Network
from infsim.cluster.node import Client, Node, Site
from infsim.cost.interface import StepCost
from infsim.engine.experiment import Experiment, Settings
from infsim.engine.simulation import simulate
from infsim.model.deployment import Deployment
from infsim.model.formats import Format
from infsim.model.graph import Operator, chain
from infsim.model.model import Model
from infsim.policy.batching.continuous import Continuous
from infsim.policy.interface import Plan, Stage
from infsim.policy.recovery.replay import Replay
from infsim.results.recorder import INCIDENT_KINDS, RunRecord
from infsim.rng import Streams
from infsim.workload.requests import Requests
from tests.fakes import Table
from tests.policies import AnyReplica, FirstDeployment
from tests.queues import StageCosts

Floats = NDArray[np.float64]

RECORDED = Path(__file__).parent / "recorded"
STAGES = 3
VALUE_BITS = {"fp32": 32, "fp16": 16, "int8": 8}
ITERATIONS = 12
KNOTS = (1, 2, 3, 4, 8, 16, 32, 48, 64, 80, 96, 112, 128)


class Row(NamedTuple):
    """A figure as it was and as it is simulated."""

    name: str
    real: float
    simulated: float

    @property
    def error(self) -> float:
        return self.simulated / self.real - 1


class TableStepCost(StepCost):
    """A table in the number of tokens, and slopes in pairs and in entries of the KV cache."""

    calibrated = True
    source = "measured iterations of a stage"

    def __init__(self, tokens_s: Sequence[float], pair_s: float, entry_s: float) -> None:
        self._tokens_s = tokens_s
        self._pair_s = pair_s
        self._entry_s = entry_s

    def step_s(
        self,
        prefill_tokens: int,
        prefill_pairs: float,
        prefill_context: float,
        decode_sequences: int,
        decode_context: float,
        sequences: int,
    ) -> float:
        tokens = prefill_tokens + decode_sequences
        slopes_s = self._pair_s * prefill_pairs + self._entry_s * decode_context
        return self._tokens_s[tokens] + slopes_s

    def decode_line(self, sequences: int, context: float) -> tuple[float, float, float]:
        return self._tokens_s[sequences], self._entry_s, inf


def fit(steps: Mapping[str, Any]) -> TableStepCost:
    """Fit a stage to its iterations: least absolute relative errors, so that outliers do not count.

    An iteration takes longer now and then because other programs run; on a machine that is
    shared, the figures compared are therefore medians, too.
    """
    tokens = steps["prefill_tokens"] + steps["decode_sequences"]
    hats = np.column_stack([np.interp(tokens, KNOTS, row) for row in np.eye(len(KNOTS))])
    columns = np.column_stack([hats, steps["prefill_pairs"], steps["decode_context"]])
    expected = time = steps["time_us"].astype(float)
    weight = 1 / expected
    for _ in range(ITERATIONS):
        found = np.linalg.lstsq(columns * weight[:, None], time * weight, rcond=None)[0]
        expected = np.maximum(columns @ found, 0.1 * time)
        weight = 1 / expected / np.sqrt(np.maximum(np.abs(time / expected - 1), 1e-3))
    found = found / 1e6
    table = np.interp(np.arange(KNOTS[-1] + 1), KNOTS, found[:-2])
    return TableStepCost(table.tolist(), float(found[-2]), float(found[-1]))


@dataclass(frozen=True)
class Recording:
    """What `record` wrote."""

    meta: Mapping[str, Any]
    hops_s: Mapping[str, float]
    starts: Sequence[Mapping[str, Any]]
    runs: Sequence[Mapping[str, Any]]
    steps: Mapping[str, NDArray[Any]]

    @staticmethod
    @cache
    def load(folder: Path) -> Recording:
        table = pq.read_table(folder / "steps.parquet")
        steps = {name: table[name].to_numpy() for name in table.column_names}
        text = gzip.decompress((folder / "runs.json.gz").read_bytes())
        return Recording(**json.loads(text), steps=steps)

    def run(self, form: str, name: str) -> Mapping[str, Any]:
        """Return one run."""
        return next(r for r in self.runs if (r["format"], r["name"]) == (form, name))

    @cached_property
    def costs(self) -> Mapping[str, list[TableStepCost]]:
        """The fitted stages by format."""
        costs = {}
        for form in VALUE_BITS:
            of_stage = [
                (self.steps["format"] == form) & (self.steps["stage"] == i) for i in range(STAGES)
            ]
            costs[form] = [
                fit({name: column[own] for name, column in self.steps.items()}) for own in of_stage
            ]
        return costs

    def simulated(self, form: str, name: str) -> RunRecord:
        """Simulate a run."""
        run = self.run(form, name)
        return simulate(self._experiment(form, run["requests"], run.get("failure")))

    def _experiment(
        self, form: str, requests: Sequence[Mapping[str, Any]], failure: Mapping[str, Any] | None
    ) -> Experiment:
        meta, count = self.meta, len(requests)
        nodes = tuple(self._node(form, stage, failure) for stage in range(STAGES))
        ends, links = STAGES + 1, meta["links"]
        network = Network(
            np.full((ends, ends), self.delay_s(form)),
            np.full((ends, ends), links["bytes_per_s"]),
        )
        cluster = Cluster(nodes, (Client("client"),), {"default": Site("default")}, network)
        operators = [
            Operator(f"stage-{i}", size / 4, 1, meta["hidden"])
            for i, size in enumerate(meta["stage_bytes"])
        ]
        model = Model("model", chain(operators))
        number = Format(form, weight_bits=32, activation_bits=VALUE_BITS[form])
        places = tuple(Stage(i, (i,)) for i in range(STAGES))
        nothing = np.full(count, -1)
        table = Requests(
            arrival_s=np.array([r["arrival_s"] for r in requests]),
            input_tokens=np.array([r["input_tokens"] for r in requests]),
            output_tokens=np.array([len(r["tokens"]) for r in requests]),
            client=np.zeros(count, dtype=np.int64),
            session_id=nothing,
            sample_id=nothing,
        )
        return Experiment(
            cluster=cluster,
            deployments=(Deployment("pipeline", model, number, tuple(range(STAGES))),),
            plans=(Plan(places, (tuple(range(STAGES)),)),),
            costs=StageCosts(cluster, self.costs[form]),
            workload=Table((table,)),
            router=AnyReplica(),
            batching=Continuous(meta["token_budget"], meta["max_sequences"]),
            delivery=FirstDeployment(),
            recovery=Replay(),
            streams=Streams(0),
            settings=Settings(detection_s=meta["timeout_s"] - meta["heartbeat_s"] / 2),
        )

    def delay_s(self, form: str) -> float:
        """Delay of a link: what a single token took, without the time that its bytes took.

        Of the three hops of a token two carry activations.
        """
        size_bytes = 2 / 3 * self.meta["hidden"] * VALUE_BITS[form] / 8
        return self.hops_s[form] - float(size_bytes / self.meta["links"]["bytes_per_s"])

    def _node(self, form: str, stage: int, failure: Mapping[str, Any] | None) -> Node:
        device = Device("numpy", 2**40, 1.0, {"fp32": 1.0})
        starts = [s for s in self.starts if s["format"] == form]
        load_s = float(np.median([s["load_s"] for s in starts if s["stage"] == stage]))
        outages: Availability = AlwaysUp()
        if failure is not None and failure["stage"] == stage:
            boot_s = float(np.median([s["boot_s"] for s in starts]))
            killed_s = failure["killed_s"]
            outages = TraceAvailability(((killed_s, killed_s + boot_s),))
        rate = self.meta["stage_bytes"][stage] / load_s
        return Node(f"node-{stage}", device, load_bytes_per_s=rate, availability=outages)


def latencies(run: Mapping[str, Any]) -> dict[str, Floats]:
    """TTFT, TPOT and E2E of the requests of a recorded run."""
    rows = run["requests"]
    arrival_s = np.array([r["arrival_s"] for r in rows])
    first_s = np.array([r["times_s"][0] for r in rows])
    end_s = np.array([r["times_s"][-1] for r in rows])
    gaps = np.array([len(r["times_s"]) - 1 for r in rows])
    return _latencies(arrival_s, first_s, end_s, gaps)


def _latencies(
    arrival_s: Floats, first_s: Floats, end_s: Floats, gaps: Floats
) -> dict[str, Floats]:
    return {
        "TTFT": first_s - arrival_s,
        "TPOT": (end_s - first_s) / gaps,
        "E2E": end_s - arrival_s,
    }


def _simulated_latencies(record: RunRecord) -> dict[str, Floats]:
    arrival_s, first_s, end_s, tokens = (
        record.requests[name] for name in ("arrival_s", "first_token_s", "end_s", "output_tokens")
    )
    return _latencies(arrival_s, first_s, end_s, tokens - 1)


def failure_rows(recording: Recording, form: str) -> list[Row]:
    """Detection, return and replay after the kill, and what it costs the requests."""
    run, record = recording.run(form, "killed"), recording.simulated(form, "killed")
    failure = run["failure"]
    killed_s, ready_s = failure["killed_s"], failure["ready_s"]
    first: dict[str, float] = {}
    for time_s, kind in zip(record.incidents["time_s"], record.incidents["kind"], strict=True):
        first.setdefault(INCIDENT_KINDS[kind], float(time_s))
    replayed_s = min(t for r in run["requests"] for t in r["times_s"] if t > ready_s)
    segments = record.segments
    last = (segments["stage"] == STAGES - 1) & (segments["start_s"] > first["ready"])
    token_s = float(segments["end_s"][last].min()) + recording.delay_s(form)
    name = f"pipeline {form} stage {failure['stage']} killed"
    lost = latencies(run)["E2E"] - latencies(recording.run(form, "undisturbed"))["E2E"]
    undisturbed = _simulated_latencies(recording.simulated(form, "undisturbed"))
    simulated_lost = _simulated_latencies(record)["E2E"] - undisturbed["E2E"]
    return [
        Row(f"{name}: detection", failure["detected_s"] - killed_s, first["recover"] - killed_s),
        Row(f"{name}: ready again", ready_s - killed_s, first["ready"] - killed_s),
        Row(f"{name}: weights loaded", ready_s - failure["up_s"], first["ready"] - first["up"]),
        Row(f"{name}: replay to the next token", replayed_s - ready_s, token_s - first["ready"]),
        Row(f"{name}: mean delay of requests", float(lost.mean()), float(simulated_lost.mean())),
    ]


def rows(folder: Path = RECORDED) -> list[Row]:
    """All figures."""
    recording, found = Recording.load(folder), []
    for form in VALUE_BITS:
        for name in ("alone", "together", "undisturbed", "killed"):
            real = latencies(recording.run(form, name))
            simulated = _simulated_latencies(recording.simulated(form, name))
            for metric in real:
                title = f"pipeline {form} {name} {metric}"
                a, b = real[metric], simulated[metric]
                found.append(Row(f"{title} mean", float(a.mean()), float(b.mean())))
                found.append(Row(f"{title} P50", float(np.median(a)), float(np.median(b))))
        found += failure_rows(recording, form)
    return found
