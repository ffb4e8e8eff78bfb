"""Recorded runs of llama.cpp, as folders with ``meta.json`` and ``requests.parquet``.

They are simulated with the same arrivals and lengths, calibrated on the steps of
``steps.parquet``, among which is no step of a run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infsim.cluster.network import Network
from infsim.cluster.node import Node
from infsim.engine.experiment import Settings
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
from infsim.fidelity.llama_cpp_files import PARTS, read_files
from infsim.fidelity.llama_cpp_steps import FittedStepCost, Steps, fit
from infsim.fidelity.stages import MACHINE, Stages
from infsim.model.formats import Format
from infsim.model.graph import Operator
from infsim.policy.batching.continuous import Continuous
from infsim.results.recorder import RunRecord
from infsim.workload.given import Given

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
    def load(folder: Path) -> Recording:
        return Recording(*read_files(folder))

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
        return stages.serve(workload)

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
    try:
        return _compare(Recording.load(folder))
    except InputError as error:
        raise (error if error.where else error.at(Where(str(folder)))) from None


def _compare(recording: Recording) -> Comparison:
    meta = recording.meta
    saturated = any(run["load"] == SATURATED for run in meta["runs"])
    return Comparison(
        name=f"llama.cpp {meta['format']}",
        about=f"{meta['engine']}; {len(recording.requests['load'])} requests in"
        f" {len(meta['runs'])} runs, {meta['machine']['processor']}, {meta['recorded']}",
        parts=[Part(f"load {load:g}", *recording.compare(load)) for load in recording.loads],
        capacity=Row.of(CAPACITY, *recording.capacity()) if saturated else None,
    )
