"""Recorded runs of llama.cpp, as folders with ``meta.json`` and ``requests.parquet``.

They are simulated with the same arrivals and lengths, calibrated on the steps of
``steps.parquet``, among which is no step of a run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infsim.cluster.network import Network
from infsim.cluster.node import Node
from infsim.engine.experiment import Settings
from infsim.engine.simulation import simulate
from infsim.errors import InputError, Where
from infsim.fidelity.comparison import (
    CAPACITY,
    Comparison,
    Part,
    Row,
    Times,
    simulated_times,
    times,
    together,
)
from infsim.fidelity.files import read_columns, read_json
from infsim.fidelity.llama_cpp_steps import FittedStepCost, Steps, fit
from infsim.fidelity.stages import MACHINE, Stages
from infsim.model.formats import Format
from infsim.model.graph import Operator
from infsim.policy.batching.continuous import Continuous
from infsim.results.recorder import RunRecord
from infsim.workload.given import Given

META = {
    "format": str,
    "engine": str,
    "machine": {"processor": str},
    "recorded": str,
    "token_budget": int,
    "max_sequences": int,
    "runs": [{"load": float, "seed": int}],
}
PARTS = ("arrival_us", "queue_us", "prefill_us", "decode_us")
REQUESTS = ("load", "seed", "input_tokens", "output_tokens", *PARTS)
SATURATED = 0.0


@dataclass(frozen=True)
class Recording:
    """What `record` wrote about a format.

    Attributes
    ----------
    meta : mapping
    requests : mapping of str to array
        One row per request of every run.
    steps : mapping of str to array
        One row per step of the calibration.
    """

    meta: Mapping[str, Any]
    requests: Mapping[str, NDArray[Any]]
    steps: Mapping[str, NDArray[Any]]

    @staticmethod
    @cache
    def load(folder: Path) -> Recording:
        meta = read_json(folder / "meta.json", META)
        requests = read_columns(folder / "requests.parquet", REQUESTS)
        steps = read_columns(folder / "steps.parquet", (*Steps._fields[:-1], "time_us"))
        _check(meta, requests, steps, folder)
        return Recording(meta, requests, steps)

    @property
    def loads(self) -> list[float]:
        return sorted({run["load"] for run in self.meta["runs"]} - {SATURATED})

    @cached_property
    def cost(self) -> FittedStepCost:
        """The cost of a step, fitted to the calibration."""
        columns = {name: self.steps[name].astype(float) for name in Steps._fields[:-1]}
        return fit(Steps(**columns, time_s=self.steps["time_us"] / 1e6))

    def runs(self, load: float) -> Iterator[Mapping[str, NDArray[Any]]]:
        """Requests of each run at a load."""
        at_load = np.isclose(self.requests["load"], load)
        for seed in np.unique(self.requests["seed"][at_load]):
            own = at_load & (self.requests["seed"] == seed)
            yield {name: column[own] for name, column in self.requests.items()}

    def compare(self, load: float) -> tuple[Times, Times]:
        """Real and simulated latencies of all runs at a load."""
        real, simulated = [], []
        for requests in self.runs(load):
            arrival_s = requests["arrival_us"] / 1e6
            first_token_s = arrival_s + (requests["queue_us"] + requests["prefill_us"]) / 1e6
            end_s = first_token_s + requests["decode_us"] / 1e6
            real.append(times(arrival_s, first_token_s, end_s, requests["output_tokens"]))
            simulated.append(simulated_times(self.simulated(requests)))
        return together(real), together(simulated)

    def simulated(self, requests: Mapping[str, Any]) -> RunRecord:
        """Simulate a run."""
        stages = Stages(
            nodes=(Node("engine", MACHINE),),
            operators=(Operator("model", 1, 1, 0),),
            costs=(self.cost,),
            network=Network.full_mesh(2),
            format=Format(self.meta["format"], weight_bits=16),
            batching=Continuous(self.meta["token_budget"], self.meta["max_sequences"]),
            settings=Settings(token_bytes=0),
        )
        workload = Given.of(
            requests["arrival_us"] / 1e6,
            requests["input_tokens"].astype(np.int64),
            requests["output_tokens"].astype(np.int64),
        )
        return simulate(stages.experiment(workload))

    def capacity(self) -> tuple[float, float]:
        """Requests per second when all come at once, real and simulated."""
        real_s = simulated_s = 0.0
        count = 0
        for requests in self.runs(SATURATED):
            real_s += float(np.sum([requests[part] for part in PARTS], axis=0).max()) / 1e6
            simulated_s += float(self.simulated(requests).requests["end_s"].max())
            count += len(requests["arrival_us"])
        return count / real_s, count / simulated_s


def is_llama_cpp(folder: Path) -> bool:
    """Whether a folder holds such runs."""
    return (folder / "meta.json").is_file() and (folder / "requests.parquet").is_file()


def compare_llama_cpp(folder: Path) -> Comparison:
    """Simulate the runs of a folder, and compare: a part for each load, its runs put together.

    Raises
    ------
    InputError
        If a file is damaged.
    """
    recording = Recording.load(folder)
    meta = recording.meta
    saturated = any(run["load"] == SATURATED for run in meta["runs"])
    return Comparison(
        name=f"llama.cpp {meta['format']}",
        about=f"{meta['engine']}; {len(recording.requests['load'])} requests in"
        f" {len(meta['runs'])} runs, {meta['machine']['processor']}, {meta['recorded']}",
        parts=[Part(f"load {load:g}", *recording.compare(load)) for load in recording.loads],
        capacity=Row.of(CAPACITY, *recording.capacity()) if saturated else None,
    )


def _check(
    meta: Mapping[str, Any],
    requests: Mapping[str, NDArray[Any]],
    steps: Mapping[str, NDArray[Any]],
    folder: Path,
) -> None:
    """Raise `InputError` where files that are well-formed cannot be what was recorded."""
    for name, checked in (
        ("requests", partial(_check_requests, meta, requests)),
        ("steps", partial(_check_steps, meta, steps)),
    ):
        try:
            checked()
        except InputError as error:
            raise error.at(Where(str(folder / f"{name}.parquet"))) from None


def _check_requests(meta: Mapping[str, Any], requests: Mapping[str, NDArray[Any]]) -> None:
    for name in ("input_tokens", "output_tokens"):
        if requests[name].min() < 1:
            raise InputError(f"{name} is 0 in row {int(np.argmin(requests[name])) + 1}")
    for run in meta["runs"]:
        load, seed = run["load"], run["seed"]
        own = np.isclose(requests["load"], load) & (requests["seed"] == seed)
        if not own.any():
            raise InputError(f"no requests at load {load:g}, seed {seed}")
        if (np.diff(requests["arrival_us"][own].astype(float)) < 0).any():
            raise InputError(f"arrivals go backwards at load {load:g}, seed {seed}")


def _check_steps(meta: Mapping[str, Any], steps: Mapping[str, NDArray[Any]]) -> None:
    if steps["time_us"].min() <= 0:
        raise InputError(f"time_us is 0 in row {int(np.argmin(steps['time_us'])) + 1}")
    tokens = steps["prefill_tokens"] + steps["decode_sequences"]
    decodes = steps["prefill_tokens"] == 0
    for what, key, sizes in (
        ("tokens", "token_budget", tokens[~decodes]),
        ("decodes", "max_sequences", tokens[decodes]),
    ):
        most = int(sizes.max(initial=0))
        if most < meta[key]:
            raise InputError(f"of at most {most} {what}, where {key} is {meta[key]}")
