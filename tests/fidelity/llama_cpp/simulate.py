"""The recorded traces simulated: what `infsim` says of a server that really ran.

Calibrated on the steps of ``recorded/<format>/steps.parquet`` (no step of a run is among them),
with the same arrivals and lengths.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from infsim.engine.simulation import simulate
from infsim.policy.batching.continuous import Continuous
from tests.fidelity.llama_cpp.steps import FittedStepCost, Steps, fit
from tests.fidelity.llama_cpp.weights import FORMATS
from tests.queues import Queue

Floats = NDArray[np.float64]

RECORDED = Path(__file__).parent / "recorded"
SATURATED = 0.0


class Row(NamedTuple):
    """A figure as it was and as it is simulated."""

    name: str
    real: float
    simulated: float

    @property
    def error(self) -> float:
        return self.simulated / self.real - 1


@dataclass(frozen=True)
class Latencies:
    """Of the requests of one run or several, in seconds."""

    ttft: Floats
    tpot: Floats
    e2e: Floats

    @staticmethod
    def of(
        arrival_s: Floats, first_token_s: Floats, end_s: Floats, output_tokens: Floats
    ) -> Latencies:
        gaps = output_tokens - 1
        return Latencies(
            first_token_s - arrival_s, (end_s - first_token_s) / gaps, end_s - arrival_s
        )

    @staticmethod
    def together(parts: Iterable[Latencies]) -> Latencies:
        """Put the requests of several runs together."""
        columns = zip(*((part.ttft, part.tpot, part.e2e) for part in parts), strict=True)
        return Latencies(*(np.concatenate(column) for column in columns))


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
        tables = (pq.read_table(folder / f"{name}.parquet") for name in ("requests", "steps"))
        requests, steps = ({k: t[k].to_numpy() for k in t.column_names} for t in tables)
        return Recording(json.loads((folder / "meta.json").read_text()), requests, steps)

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

    def compare(self, load: float) -> tuple[Latencies, Latencies]:
        """Real and simulated latencies of all runs at a load."""
        real, simulated = [], []
        for requests in self.runs(load):
            arrival_s = requests["arrival_us"] / 1e6
            first_token_s = arrival_s + (requests["queue_us"] + requests["prefill_us"]) / 1e6
            end_s = first_token_s + requests["decode_us"] / 1e6
            outputs = requests["output_tokens"]
            real.append(Latencies.of(arrival_s, first_token_s, end_s, outputs))
            made = self.simulated(requests)
            simulated.append(
                Latencies.of(made["arrival_s"], made["first_token_s"], made["end_s"], outputs)
            )
        return Latencies.together(real), Latencies.together(simulated)

    def simulated(self, requests: Mapping[str, Any]) -> Mapping[str, Any]:
        """Simulate a run and return the columns of its requests."""
        queue = Queue(
            arrival_s=requests["arrival_us"] / 1e6,
            input_tokens=requests["input_tokens"].astype(np.int64),
            output_tokens=requests["output_tokens"].astype(np.int64),
            costs=(self.cost,),
            batching=Continuous(self.meta["token_budget"], self.meta["max_sequences"]),
        )
        return simulate(queue.experiment()).requests

    def capacity(self) -> tuple[float, float]:
        """Requests per second when all come at once, real and simulated."""
        real_s = simulated_s = 0.0
        count = 0
        for requests in self.runs(SATURATED):
            parts = [requests[f"{part}_us"] for part in ("arrival", "queue", "prefill", "decode")]
            real_s += float(np.sum(parts, axis=0).max()) / 1e6
            simulated_s += float(self.simulated(requests)["end_s"].max())
            count += len(requests["arrival_us"])
        return count / real_s, count / simulated_s


def rows(folder: Path = RECORDED) -> list[Row]:
    """All figures: capacity, then mean and percentiles of the latencies at each load."""
    found = []
    for form in FORMATS:
        recording = Recording.load(folder / form)
        found.append(Row(f"llama.cpp {form} capacity (requests/s)", *recording.capacity()))
        for load in recording.loads:
            real, simulated = recording.compare(load)
            for metric in ("ttft", "tpot", "e2e"):
                a, b = getattr(real, metric), getattr(simulated, metric)
                name = f"llama.cpp {form} load {load:g} {metric.upper()}"
                found.append(Row(f"{name} mean", float(a.mean()), float(b.mean())))
                for percent in (50, 90, 95, 99):
                    figures = (float(np.percentile(x, percent)) for x in (a, b))
                    found.append(Row(f"{name} P{percent}", *figures))
    return found
