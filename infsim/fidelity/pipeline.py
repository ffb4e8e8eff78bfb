"""Recorded runs of a pipeline over links, a stage of which was killed: ``runs.json.gz``.

Rates and time-out are as they were set. What a cluster of one's own would be asked for is measured
beside the runs: the cost of each stage is fitted to iterations of other requests
(``steps.parquet``), the delay of a link is that of single tokens (what the relay and
the processes take to wake up adds to what was set), and how long a process takes to come up and
to load its weights is what it took when it was killed before, with no request under way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from infsim.cluster.availability import AlwaysUp, Availability, TraceAvailability
from infsim.cluster.network import Network
from infsim.cluster.node import Node
from infsim.engine.experiment import Settings
from infsim.errors import InputError, Where
from infsim.fidelity.comparison import (
    CAPACITY,
    Comparison,
    Floats,
    Part,
    Row,
    Times,
    medians,
    simulated_times,
    times,
)
from infsim.fidelity.pipeline_files import (
    RUNS_FILE,
    SATURATED,
    UNDISTURBED,
    VALUE_BITS,
    read_files,
    sending_s,
)
from infsim.fidelity.pipeline_steps import TableStepCost, fit
from infsim.fidelity.stages import MACHINE, Stages
from infsim.model.formats import Format
from infsim.model.graph import Operator
from infsim.policy.batching.continuous import Continuous
from infsim.results.recorder import INCIDENT_KINDS, RunRecord
from infsim.workload.blocks import block
from infsim.workload.given import Given


@dataclass(frozen=True)
class Recording:
    """Runs in several formats of the activations.

    Attributes
    ----------
    meta : mapping
        How the pipeline was set up.
    hops_s : mapping of str to float
        Seconds that the activations of a single token need from stage to stage, by format.
    starts : sequence of mapping
        How long processes took to come up and to load their weights.
    runs : sequence of mapping
    steps : mapping of str to array
        One row per iteration of a stage.
    """

    meta: Mapping[str, Any]
    hops_s: Mapping[str, float]
    starts: Sequence[Mapping[str, Any]]
    runs: Sequence[Mapping[str, Any]]
    steps: Mapping[str, NDArray[Any]]

    @staticmethod
    def load(folder: Path) -> Recording:
        return Recording(*read_files(folder))

    @property
    def stages(self) -> range:
        return range(len(self.meta["stage_bytes"]))

    def of(self, form: str) -> dict[str, list[Mapping[str, Any]]]:
        """Return the runs of a format by name."""
        found: dict[str, list[Mapping[str, Any]]] = {}
        for run in self.runs:
            if run["format"] == form:
                found.setdefault(run["name"], []).append(run)
        return found

    @cached_property
    def costs(self) -> Mapping[str, list[TableStepCost]]:
        """The fitted stages by format."""
        return {form: [fit(self.steps_of(form, i)) for i in self.stages] for form in self.hops_s}

    def steps_of(self, form: str, stage: int) -> dict[str, NDArray[Any]]:
        """Return the iterations of a stage."""
        own = (self.steps["format"] == form) & (self.steps["stage"] == stage)
        return {name: column[own] for name, column in self.steps.items()}

    def starts_of(self, form: str, stage: int) -> list[Mapping[str, Any]]:
        """Return how a stage came up."""
        return [s for s in self.starts if (s["format"], s["stage"]) == (form, stage)]

    def simulated(self, run: Mapping[str, Any]) -> RunRecord:
        """Simulate a run."""
        form, meta = run["format"], self.meta
        ends = len(self.stages) + 1
        stages = Stages(
            nodes=tuple(self._node(form, stage, run.get("failure")) for stage in self.stages),
            operators=tuple(
                Operator(f"stage-{i}", size / 4, 1, meta["hidden"])
                for i, size in enumerate(meta["stage_bytes"])
            ),
            costs=self.costs[form],
            network=Network.full_mesh(ends, self.delay_s(form), meta["links"]["bytes_per_s"]),
            format=Format(form, weight_bits=32, activation_bits=VALUE_BITS[form]),
            batching=Continuous(meta["token_budget"], meta["max_sequences"]),
            settings=Settings(detection_s=meta["timeout_s"] - meta["heartbeat_s"] / 2),
        )
        rows = run["requests"]
        requests = block(
            np.array([r["arrival_s"] for r in rows]),
            np.array([r["input_tokens"] for r in rows]),
            np.array([len(r["tokens"]) for r in rows]),
        )
        return stages.serve(Given(requests))

    def delay_s(self, form: str) -> float:
        """Delay of a link: what a token's activations took, without the time of their bytes."""
        return self.hops_s[form] - sending_s(self.meta, form)

    def _node(self, form: str, stage: int, failure: Mapping[str, Any] | None) -> Node:
        starts = self.starts_of(form, stage)
        load_s = float(np.median([start["load_s"] for start in starts]))
        outages: Availability = AlwaysUp()
        if failure is not None and failure["stage"] == stage:
            every = [start["boot_s"] for start in self.starts if start["format"] == form]
            killed_s = failure["killed_s"]
            outages = TraceAvailability(((killed_s, killed_s + float(np.median(every))),))
        rate = self.meta["stage_bytes"][stage] / load_s
        return Node(f"node-{stage}", MACHINE, load_bytes_per_s=rate, availability=outages)


def is_pipeline(folder: Path) -> bool:
    """Whether a folder holds such runs."""
    return (folder / RUNS_FILE).is_file()


def compare_pipeline(folder: Path) -> list[Comparison]:
    """Simulate the runs of a folder, and compare: for each format of the activations.

    Raises
    ------
    InputError
        If a file is damaged.
    """
    recording = Recording.load(folder)
    try:
        return [_compare(recording, form) for form in recording.hops_s]
    except InputError as error:
        raise error.at(Where(str(folder))) from None


def latencies(run: Mapping[str, Any]) -> Times:
    """Return TTFT, TPOT and E2E of the requests of a recorded run."""
    rows = run["requests"]
    arrival_s = np.array([r["arrival_s"] for r in rows])
    first_s = np.array([r["times_s"][0] for r in rows])
    end_s = np.array([r["times_s"][-1] for r in rows])
    return times(arrival_s, first_s, end_s, np.array([len(r["times_s"]) for r in rows]))


class _Pair(NamedTuple):
    """A recorded run, and its simulation."""

    run: Mapping[str, Any]
    record: RunRecord

    @property
    def real(self) -> Times:
        return latencies(self.run)

    @property
    def simulated(self) -> Times:
        return simulated_times(self.record)


def _compare(recording: Recording, form: str) -> Comparison:
    meta = recording.meta
    pairs = {
        name: [_Pair(run, recording.simulated(run)) for run in runs]
        for name, runs in recording.of(form).items()
    }
    kills = [pair for same in pairs.values() for pair in same if "failure" in pair.run]
    links = f"{meta['links']['delay_s'] * 1e3:g} ms, {meta['links']['bytes_per_s'] / 1e6:g} MB/s"
    return Comparison(
        name=f"pipeline {form}",
        about=f"{len(recording.stages)} processes with a part of the model each, links of"
        f" {links}, activations in {form}; {meta['recorded']}",
        parts=[
            Part(name, medians([p.real for p in same]), medians([p.simulated for p in same]))
            for name, same in pairs.items()
            if name != SATURATED
        ],
        capacity=_capacity(pairs[SATURATED]) if SATURATED in pairs else None,
        others=_outages(recording, kills, pairs[UNDISTURBED]) if kills else (),
    )


def _capacity(pairs: Sequence[_Pair]) -> Row:
    count = len(pairs[0].run["requests"])
    real_s = [max(request["times_s"][-1] for request in pair.run["requests"]) for pair in pairs]
    simulated_s = [pair.record.requests["end_s"].max() for pair in pairs]
    return Row.of(CAPACITY, count / float(np.median(real_s)), count / float(np.median(simulated_s)))


def _outages(
    recording: Recording, kills: Sequence[_Pair], undisturbed: Sequence[_Pair]
) -> list[Row]:
    """Return how long it took until all was well again: medians of the kills of each stage."""
    rows = []
    usual_s = [
        medians([same.real for same in undisturbed])["E2E"],
        medians([same.simulated for same in undisturbed])["E2E"],
    ]
    for stage in sorted({kill.run["failure"]["stage"] for kill in kills}):
        found = [
            _outage(recording, kill, *usual_s)
            for kill in kills
            if kill.run["failure"]["stage"] == stage
        ]
        for what in found[0]:
            real_s, simulated_s = np.median([outage[what] for outage in found], axis=0)
            rows.append(Row.of(f"stage {stage} killed: {what}", real_s, simulated_s))
    return rows


def _outage(
    recording: Recording, kill: _Pair, usual_s: Floats, simulated_usual_s: Floats
) -> dict[str, tuple[float, float]]:
    """Return recorded and simulated times from a kill on, and what it costs the requests."""
    failure, first = kill.run["failure"], _first_incidents(kill.record)
    killed_s, ready_s = failure["killed_s"], failure["ready_s"]
    segments = kill.record.segments
    last = segments["stage"] == recording.stages[-1]
    last &= segments["start_s"] > first.get("ready", np.inf)
    if "recover" not in first or not last.any():
        raise InputError(f"in the simulation nothing is lost when a stage ends at {killed_s:g} s")
    replayed_s = min(t for r in kill.run["requests"] for t in r["times_s"] if t > ready_s)
    token_s = float(segments["end_s"][last].min()) + recording.delay_s(kill.run["format"])
    return {
        "detection": (failure["detected_s"] - killed_s, first["recover"] - killed_s),
        "weights loaded": (ready_s - failure["up_s"], first["ready"] - first["up"]),
        "ready again": (ready_s - killed_s, first["ready"] - killed_s),
        "replay to the next token": (replayed_s - ready_s, token_s - first["ready"]),
        "mean delay of requests": (
            float((kill.real["E2E"] - usual_s).mean()),
            float((kill.simulated["E2E"] - simulated_usual_s).mean()),
        ),
    }


def _first_incidents(record: RunRecord) -> dict[str, float]:
    """Return when each kind of incident took place first."""
    first: dict[str, float] = {}
    for time_s, kind in zip(record.incidents["time_s"], record.incidents["kind"], strict=True):
        first.setdefault(INCIDENT_KINDS[kind], float(time_s))
    return first
