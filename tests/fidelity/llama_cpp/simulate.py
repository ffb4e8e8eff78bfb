"""The recorded traces simulated: what `infsim` says of a server that really ran.

Calibrated on the steps of ``recorded/<format>/steps.parquet`` (of other seeds and loads: no step
of a run is among them), with the same arrivals and lengths.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property, partial
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
TIMES = (0, 1)
"""Every run was served twice."""
FIGURES: Mapping[str, Callable[[Floats], Any]] = {"mean": np.mean} | {
    f"P{percent}": partial(np.percentile, q=percent) for percent in (50, 90, 95, 99)
}


class Row(NamedTuple):
    """A figure as it was and as it is simulated.

    Attributes
    ----------
    name : str
    real, simulated : float
    repeated : float
        What the engine itself made of the same requests a second time, relative to the first.
    """

    name: str
    real: float
    simulated: float
    repeated: float

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

    def runs(self, load: float, time: int = 0) -> Iterator[Mapping[str, NDArray[Any]]]:
        """Requests of each run at a load, when they were served the first or another time."""
        at_load = np.isclose(self.requests["load"], load) & (self.requests["time"] == time)
        for seed in np.unique(self.requests["seed"][at_load]):
            own = at_load & (self.requests["seed"] == seed)
            yield {name: column[own] for name, column in self.requests.items()}

    def real(self, load: float, time: int) -> Latencies:
        """Latencies of all runs at a load, one of the times that they were served."""
        parts = []
        for requests in self.runs(load, time):
            arrival_s = requests["arrival_us"] / 1e6
            first_token_s = arrival_s + (requests["queue_us"] + requests["prefill_us"]) / 1e6
            end_s = first_token_s + requests["decode_us"] / 1e6
            parts.append(Latencies.of(arrival_s, first_token_s, end_s, requests["output_tokens"]))
        return Latencies.together(parts)

    def predicted(self, load: float) -> Latencies:
        """Simulated latencies of all runs at a load."""
        parts = []
        for requests in self.runs(load):
            made = self.simulated(requests)
            times = (made[name] for name in ("arrival_s", "first_token_s", "end_s"))
            parts.append(Latencies.of(*times, requests["output_tokens"]))
        return Latencies.together(parts)

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

    def real_capacity(self, times: Iterable[int]) -> float:
        """Requests per second when all come at once."""
        runs = [requests for time in times for requests in self.runs(SATURATED, time)]
        parts = ("arrival_us", "queue_us", "prefill_us", "decode_us")
        spans_us = [sum(requests[part].astype(int) for part in parts).max() for requests in runs]
        return 1e6 * sum(len(requests["seed"]) for requests in runs) / float(sum(spans_us))

    def predicted_capacity(self) -> float:
        """The same, simulated."""
        runs = list(self.runs(SATURATED))
        spans_s = [float(self.simulated(requests)["end_s"].max()) for requests in runs]
        return sum(len(requests["seed"]) for requests in runs) / sum(spans_s)


def rows(folder: Path = RECORDED) -> list[Row]:
    """All figures: capacity, then mean and percentiles of the latencies at each load."""
    found = []
    for form in FORMATS:
        recording = Recording.load(folder / form)
        found.append(_capacity(f"llama.cpp {form}", recording))
        for load in recording.loads:
            found += _latencies(f"llama.cpp {form} load {load:g}", recording, load)
    return found


def _capacity(name: str, recording: Recording) -> Row:
    first, second = (recording.real_capacity([time]) for time in TIMES)
    return Row(
        f"{name} capacity (requests/s)",
        recording.real_capacity(TIMES),
        recording.predicted_capacity(),
        second / first - 1,
    )


def _latencies(name: str, recording: Recording, load: float) -> Iterator[Row]:
    times = [recording.real(load, time) for time in TIMES]
    both, predicted = Latencies.together(times), recording.predicted(load)
    for metric in ("ttft", "tpot", "e2e"):
        for label, figure in FIGURES.items():
            first, second, real, simulated = (
                float(figure(getattr(latencies, metric))) for latencies in (*times, both, predicted)
            )
            yield Row(f"{name} {metric.upper()} {label}", real, simulated, second / first - 1)
