"""Users who think and wait: the machine repairman, to confidence, and Little's law of the loop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pytest

from infsim.engine.experiment import Experiment
from infsim.engine.reference import simulate_reference
from infsim.engine.simulation import simulate
from infsim.results.recorder import RunRecord
from infsim.workload.closed_loop import ClosedLoop
from infsim.workload.lengths import Constant, Independent, Marginal
from tests.confidence import assert_mean, batch_means
from tests.queues import MEAN_TOKENS, Floats, Queue, ones

Simulate = Callable[[Experiment], RunRecord]


@dataclass(frozen=True)
class ExponentialTokens(Marginal):
    """Exponential services of mean one second."""

    def quantile(self, u: Floats) -> Floats:
        return -MEAN_TOKENS * np.log1p(-u)


def repairman(users: int, think_s: float, think_cv: float, requests: int) -> Experiment:
    queue = Queue(np.zeros(1), ones(1), ones(1)).experiment()
    lengths = Independent(ExponentialTokens(), Constant(1))
    return replace(queue, workload=ClosedLoop(users, lengths, think_s, think_cv, requests=requests))


def mean_value_analysis(users: int, think_s: float, service_s: float = 1.0) -> float:
    """Mean response time of one exponential server and thinking users (Reiser, Lavenberg 1980)."""
    queue = response_s = 0.0
    for n in range(1, users + 1):
        response_s = service_s * (1 + queue)
        queue = n / (response_s + think_s) * response_s
    return response_s


@pytest.mark.parametrize("engine", [simulate_reference, simulate], ids=["reference", "fast"])
@pytest.mark.parametrize("think_cv", [1.0, 0.0], ids=["exponential", "constant"])
def test_responses_are_those_of_mean_value_analysis(engine: Simulate, think_cv: float) -> None:
    """Whatever the distribution of the think time: only its mean counts (BCMP 1975)."""
    requests = 20_000 if engine is simulate else 5_000
    record = engine(repairman(4, 3.0, think_cv, requests))
    responses = record.requests["end_s"] - record.requests["arrival_s"]
    order = np.argsort(record.requests["arrival_s"])
    assert_mean(batch_means(responses[order]), mean_value_analysis(4, 3.0), 0.12)


def test_users_times_throughput_is_the_time_of_a_round() -> None:
    """N = X (R + Z), which holds for any system (the interactive response time law)."""
    users, think_s = 6, 2.0
    record = simulate(repairman(users, think_s, 1.0, 30_000))
    arrival_s, end_s = record.requests["arrival_s"], record.requests["end_s"]
    throughput = len(end_s) / end_s.max()
    response_s = float((end_s - arrival_s).mean())
    assert throughput * (response_s + think_s) == pytest.approx(users, rel=0.02)


def test_nobody_asks_before_the_answer() -> None:
    record = simulate(repairman(5, 1.0, 1.0, 2_000))
    for user in range(5):
        own = record.requests["session_id"] == user
        arrival_s, end_s = record.requests["arrival_s"][own], record.requests["end_s"][own]
        order = np.argsort(arrival_s)
        assert (arrival_s[order][1:] > end_s[order][:-1]).all()
