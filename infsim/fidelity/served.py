"""Traces served by a real engine, as folders with ``meta.json`` and ``requests.parquet``.

They are simulated with the same arrivals and lengths. What a step costs is fitted to the steps of
``steps.parquet``, of other seeds and loads, so that no step of a run is among them; or it is the
sum of the kernels of a calibrated device, where ``meta.json`` names one, and nothing of the engine
is fitted at all. Every run was served twice: what the engine itself makes of the same requests the
second time is as far as a simulation can be held to account.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infsim.calibrate.fit.engine_steps import Steps, fit
from infsim.cluster.device import load_device
from infsim.cluster.network import Network
from infsim.cluster.node import Node
from infsim.cost.calibration import device_calibration
from infsim.cost.engine_steps import EngineStepCost
from infsim.cost.interface import StepCost
from infsim.cost.kernels import covers
from infsim.cost.measured import MeasuredStepCost
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
from infsim.fidelity.served_files import PARTS, read_files
from infsim.fidelity.stages import MACHINE, Stages
from infsim.model.catalog import load, load_format
from infsim.model.formats import Format
from infsim.model.graph import Operator
from infsim.policy.batching.continuous import Continuous
from infsim.results.recorder import RunRecord
from infsim.workload.blocks import block
from infsim.workload.given import Given

SATURATED = 0.0
TIMES = (0, 1)
"""Every run was served twice."""


@dataclass(frozen=True)
class Recording:
    """What was recorded of an engine with weights in one format.

    Attributes
    ----------
    meta : mapping
    requests : mapping of str to array
        One row per request of every run.
    steps : mapping of str to array, optional
        One row per step of the calibration.
    """

    meta: Mapping[str, Any]
    requests: Mapping[str, NDArray[Any]]
    steps: Mapping[str, NDArray[Any]] | None

    @staticmethod
    def load(folder: Path) -> Recording:
        return Recording(*read_files(folder))

    @property
    def loads(self) -> list[float]:
        return sorted({run["load"] for run in self.meta["runs"]} - {SATURATED})

    @cached_property
    def cost(self) -> StepCost:
        """The cost of a step: fitted to the calibration, or the sum of its kernels."""
        if self.steps is None:
            return _sum_of_kernels(self.meta["format"], **self.meta["kernels"])
        columns = {name: self.steps[name].astype(float) for name in Steps._fields[:-1]}
        fitted = fit(Steps(**columns, time_s=self.steps["time_us"] / 1e6))
        return EngineStepCost(fitted, f"measured steps of {self.meta['engine']}")

    def runs(self, load: float, time: int = 0) -> Iterator[Mapping[str, NDArray[Any]]]:
        """Requests of each run at a load, as they were served the first or the second time."""
        at_load = np.isclose(self.requests["load"], load) & (self.requests["time"] == time)
        for seed in np.unique(self.requests["seed"][at_load]):
            own = at_load & (self.requests["seed"] == seed)
            yield {name: column[own] for name, column in self.requests.items()}

    def real(self, load: float, time: int) -> Times:
        """Latencies of all runs at a load, one of the times that they were served."""
        parts = []
        for requests in self.runs(load, time):
            arrival_s = requests["arrival_us"] / 1e6
            first_token_s = arrival_s + (requests["queue_us"] + requests["prefill_us"]) / 1e6
            end_s = first_token_s + requests["decode_us"] / 1e6
            parts.append(times(arrival_s, first_token_s, end_s, requests["output_tokens"]))
        return together(parts)

    def compare(self, load: float) -> tuple[Times, Times]:
        """Real latencies of both times of all runs at a load, and simulated ones."""
        made = together([simulated_times(self.simulated(run)) for run in self.runs(load)])
        return together([self.real(load, time) for time in TIMES]), together([made] * len(TIMES))

    def repeated(self) -> list[float]:
        """How far every figure was off when the engine served the same requests again."""
        found = []
        for share in self.loads:
            first, second = (self.real(share, time) for time in TIMES)
            found += [row.error for row in Part("", first, second).rows if row.real]
        return found

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
        rows = block(
            requests["arrival_us"] / 1e6,
            requests["input_tokens"].astype(np.int64),
            requests["output_tokens"].astype(np.int64),
        )
        return stages.serve(Given(rows))

    def capacity(self) -> tuple[float, float]:
        """Requests per second when all come at once, real and simulated."""
        runs = [run for time in TIMES for run in self.runs(SATURATED, time)]
        real_s = sum(float(np.sum([run[part] for part in PARTS], axis=0).max()) for run in runs)
        made_s = sum(float(self.simulated(run).requests["end_s"].max()) for run in runs)
        count = sum(len(run["seed"]) for run in runs)
        return 1e6 * count / real_s, count / made_s


def is_served(folder: Path) -> bool:
    """Whether a folder holds such runs."""
    return (folder / "meta.json").is_file() and (folder / "requests.parquet").is_file()


def compare_served(folder: Path) -> Comparison:
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


def _sum_of_kernels(form: str, device: str, model: str) -> StepCost:
    known, operators = device_calibration(device), load(model).graph.operators
    if known is None or not covers(known, load_format(form), operators):
        raise InputError(f"kernels of {model} in {form} were not measured on {device}")
    return MeasuredStepCost(
        Node("engine", load_device(device)), load_format(form), operators, known
    )


def _compare(recording: Recording) -> Comparison:
    meta = recording.meta
    saturated = any(run["load"] == SATURATED for run in meta["runs"])
    again = np.abs(recording.repeated())
    return Comparison(
        name=meta["name"],
        about=f"{meta['engine']}; {len(recording.requests['load'])} requests in"
        f" {len(meta['runs'])} runs, {meta['machine']['processor']}, {meta['recorded']}",
        parts=[Part(f"load {load:g}", *recording.compare(load)) for load in recording.loads],
        capacity=Row.of(CAPACITY, *recording.capacity()) if saturated else None,
        notes=[
            f"served twice: the second time figures differed by {np.median(again):.1%} in the"
            f" median, {again.max():.1%} at most"
        ],
    )
