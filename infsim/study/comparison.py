"""From the runs of a study to what may be said: estimates, and differences beyond noise.

With two replications or more, intervals come from them. A single run is cut into ten consecutive
batches instead, wherever these hold enough requests; figures of nodes then have no interval.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from infsim.results.metrics import (
    METRICS,
    Objectives,
    Window,
    arrivals_window,
    measure,
    measure_requests,
    warmup_end_s,
)
from infsim.results.runs import Run
from infsim.results.statistics import (
    Difference,
    Estimate,
    batch_interval,
    holm,
    paired_difference,
    t_interval,
)

Floats = NDArray[np.float64]
Warmup = float | Literal["auto"]

BATCHES = 10
LEVEL = 0.05


@dataclass(frozen=True, slots=True)
class Contrast:
    """An alternative against the first one, in one metric.

    Attributes
    ----------
    alternative, metric : str
    first, second : float
        The two values.
    difference : Estimate
        Second minus first; its interval is not adjusted for several comparisons.
    p_value : float
        Adjusted by Holm's method over all contrasts of the study; NaN if it cannot be told.
    """

    alternative: str
    metric: str
    first: float
    second: float
    difference: Estimate
    p_value: float

    @property
    def beyond_noise(self) -> bool | None:
        """Whether the difference exceeds noise; None if there is nothing to tell it by."""
        return None if math.isnan(self.p_value) else self.p_value < LEVEL

    @property
    def relative(self) -> float:
        """Difference over the first value, NaN if that is not positive (costs may be negative)."""
        return self.difference.value / self.first if self.first > 0 else math.nan


class Observations:
    """The metrics of all runs of a study.

    Runs that were interrupted are left out, unless their alternative has no other.

    Parameters
    ----------
    runs : sequence of Run
        The first alternative among them is the one that the others are compared with.
    objectives : Objectives, optional
    warmup : float or "auto"
        Seconds to leave out at the beginning, or ``auto`` to find them by MSER-5; the longest
        warm-up among the alternatives of a replication then holds for all of them, so that they
        are compared on the same requests.
    """

    def __init__(
        self,
        runs: Sequence[Run],
        objectives: Objectives | None = None,
        warmup: Warmup = 0.0,
    ) -> None:
        self.objectives = objectives or Objectives()
        self.alternatives = tuple(dict.fromkeys(run.alternative for run in runs))
        self._runs = {name: _counted(name, runs) for name in self.alternatives}
        self.warmups_unsure = 0  # runs too short to tell where their warm-up ends
        self.warmups_s = self._find_warmups(warmup)
        self.values: dict[str, dict[int, dict[str, float]]] = {
            name: {r: self._measure(run) for r, run in found.items()}
            for name, found in self._runs.items()
        }

    @property
    def replications(self) -> int:
        """Number of replications that every alternative has."""
        return min((len(runs) for runs in self._runs.values()), default=0)

    @cached_property
    def metrics(self) -> list[str]:
        """Names of the metrics that exist in any run."""
        rows = [values for found in self.values.values() for values in found.values()]
        return [name for name in METRICS if any(not math.isnan(row[name]) for row in rows)]

    def estimate(self, alternative: str, metric: str) -> Estimate:
        """Return the mean of a metric over the replications, with its 95 % interval."""
        values = [row[metric] for row in self.values[alternative].values()]
        if len(values) != 1:
            return t_interval(values)
        return batch_interval(values[0], self._batched(alternative, metric))

    @cached_property
    def contrasts(self) -> list[Contrast]:
        """All alternatives but the first, in all headline metrics, against the first."""
        first = self.alternatives[0] if self.alternatives else ""
        headline = [name for name in self.metrics if METRICS[name].headline]
        pairs = [(name, metric) for name in self.alternatives[1:] for metric in headline]
        differences = [self._difference(first, name, metric) for name, metric in pairs]
        told = [at for at, found in enumerate(differences) if not math.isnan(found.p_value)]
        adjusted = dict(zip(told, holm([differences[at].p_value for at in told]), strict=True))
        return [
            Contrast(
                name,
                metric,
                self.estimate(first, metric).value,
                self.estimate(name, metric).value,
                found.estimate,
                adjusted.get(at, math.nan),
            )
            for at, ((name, metric), found) in enumerate(zip(pairs, differences, strict=True))
        ]

    def _find_warmups(self, warmup: Warmup) -> dict[int, float]:
        """Return the end of the warm-up of each replication."""
        found: dict[int, float] = {}
        for runs in self._runs.values():
            for replication, run in runs.items():
                end_s = self._warmup(run) if warmup == "auto" else float(warmup)
                found[replication] = max(end_s, found.get(replication, 0.0))
        return found

    def _warmup(self, run: Run) -> float:
        end_s, cut = warmup_end_s(run.record)
        if not cut.reliable:
            self.warmups_unsure += 1
        return end_s

    def _measure(self, run: Run) -> dict[str, float]:
        return measure(
            run.record,
            objectives=self.objectives,
            start_s=self.warmups_s[run.replication],
            single_stage=run.single_stage,
        )

    def _difference(self, first: str, second: str, metric: str) -> Difference:
        """Return the paired difference over the replications, or over the batches of one."""
        ones, twos = self.values[first], self.values[second]
        common = sorted(ones.keys() & twos.keys())
        values = np.array([[ones[r][metric], twos[r][metric]] for r in common]).reshape(-1, 2)
        if len(common) != 1:
            return _told(paired_difference(values[:, 0], values[:, 1]))
        overall = float(values[0, 1] - values[0, 0])
        one, two = self._batched(first, metric), self._batched(second, metric)
        if len(one) != len(two):
            return Difference(Estimate(overall), math.nan)
        found = _told(paired_difference(one, two))
        return Difference(batch_interval(overall, two - one), found.p_value)

    def _batched(self, alternative: str, metric: str) -> Floats:
        """Return a metric of each batch of the only run, empty where batches do not tell it."""
        least = METRICS[metric].batch_requests
        if least is None:
            return np.empty(0)
        rows = self._batches[alternative]
        enough = all(row["requests"] >= least for row in rows)
        return np.array([row[metric] for row in rows]) if enough else np.empty(0)

    @cached_property
    def _batches(self) -> Mapping[str, list[dict[str, float]]]:
        """Metrics of equal consecutive parts of the time of arrivals, the same for all."""
        runs = {name: next(iter(found.values())) for name, found in self._runs.items()}
        start_s = max(self.warmups_s.values())
        end_s = min(arrivals_window(run.record, start_s).end_s for run in runs.values())
        parts = Window(start_s, max(start_s, end_s)).split(BATCHES)
        return {
            name: [measure_requests(run.record, part, self.objectives) for part in parts]
            for name, run in runs.items()
        }


def _counted(alternative: str, runs: Sequence[Run]) -> dict[int, Run]:
    """Return the runs of an alternative that count, by replication."""
    own = [run for run in runs if run.alternative == alternative]
    whole = [run for run in own if not run.record.interrupted]
    return {run.replication: run for run in whole or own}


def _told(found: Difference) -> Difference:
    """Return the difference with p NaN if there is nothing to tell.

    That is without an interval, and where all values are equal: no noise, and no difference.
    """
    estimate = found.estimate
    if math.isnan(estimate.low) or estimate.low == estimate.high == 0:
        return Difference(estimate, math.nan)
    return found
