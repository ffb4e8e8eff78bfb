"""Queueing theory, on both engines, to confidence.

Where theory gives each request's times (recursions of Lindley and of Kiefer and Wolfowitz,
tandem departures) every request is compared. Where it gives means, the mean of a run has to lie
within its own confidence interval at 99.9 %, from batch means or replications, around the
theory; how wide that interval may be at most is part of each test.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import exp
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from infsim.cluster.availability import Exponential, Renewal
from infsim.engine.experiment import Experiment
from infsim.engine.reference import simulate_reference
from infsim.policy.interface import ReplicaView, Request, Router, RoutingView
from infsim.policy.routing.power_of_two import PowerOfTwo
from infsim.results.recorder import RunRecord
from tests.confidence import assert_mean, batch_means
from tests.fakes import LinearStepCost
from tests.formulas import erlang_c, shared_in_turns, shorter_of_two
from tests.queues import (
    MEAN_TOKENS,
    TICK_S,
    Everybody,
    Floats,
    HashedStepCost,
    Integers,
    Queue,
    ones,
    poisson,
)


@dataclass(frozen=True)
class Engine:
    """An engine, and how many requests it can afford."""

    simulate: Callable[[Experiment], RunRecord]
    fast: bool

    def requests(self, count: int) -> int:
        """So many requests; the reference engine takes a quarter."""
        return count if self.fast else count // 4

    def width(self, relative: float) -> float:
        """The width of an interval goes with the root of the requests."""
        return relative if self.fast else 2 * relative


@pytest.fixture(scope="module", params=["reference", "fast"])
def engine(request: pytest.FixtureRequest) -> Engine:
    if request.param == "reference":
        return Engine(simulate_reference, fast=False)
    from infsim.engine.simulation import simulate

    return Engine(simulate, fast=True)


def sojourns(record: RunRecord) -> Floats:
    """Time in the system of each request."""
    times: Floats = record.requests["end_s"] - record.requests["arrival_s"]
    return times


def load_controls(
    rate: float, arrival_s: Floats, service_s: NDArray[np.floating[Any]]
) -> tuple[Floats, Floats]:
    """How far gaps between arrivals and services (of mean 1) are from their means."""
    gaps = np.diff(arrival_s, prepend=0.0)
    return batch_means(gaps) - 1 / rate, batch_means(service_s) - 1.0


# --- one server


def exponential(rng: np.random.Generator, count: int) -> Integers:
    """Geometric numbers of tokens: exponential times, to one part in ten thousand."""
    return rng.geometric(1 / MEAN_TOKENS, count)


def constant(rng: np.random.Generator, count: int) -> Integers:
    return np.full(count, MEAN_TOKENS)


def two_point(rng: np.random.Generator, count: int) -> Integers:
    """Many short and some long services; the squared coefficient of variation is 2."""
    low, high = MEAN_TOKENS // 3, MEAN_TOKENS * 4
    share = (MEAN_TOKENS - low) / (high - low)
    return np.where(rng.random(count) < share, high, low)


Services = Callable[[np.random.Generator, int], Integers]
SECOND_MOMENTS: dict[Services, float] = {
    exponential: (2 - 1 / MEAN_TOKENS) * MEAN_TOKENS**2,
    constant: MEAN_TOKENS**2,
    two_point: MEAN_TOKENS * (MEAN_TOKENS // 3 + 4 * MEAN_TOKENS)
    - MEAN_TOKENS // 3 * 4 * MEAN_TOKENS,
}


@pytest.mark.parametrize("services", SECOND_MOMENTS)
def test_one_server_keeps_lindley_and_pollaczek_khinchine(
    engine: Engine, services: Services
) -> None:
    rng = np.random.default_rng(1)
    rate, count = 0.5, engine.requests(32_000)
    tokens = services(rng, count)
    arrival_s = poisson(rng, rate, count)
    found = sojourns(engine.simulate(Queue(arrival_s, tokens, ones(count)).experiment()))

    # W' = max(0, W + S - A): Lindley 1952
    wait, expected = 0.0, []
    for service, gap in zip(tokens * TICK_S, np.diff(arrival_s, append=np.inf), strict=True):
        expected.append(wait + service)
        wait = max(0.0, wait + service - gap)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-7)

    # E[W] = rate E[S^2] / (2 (1 - load)); for M/M/1 this is load / (mu - rate)
    second = SECOND_MOMENTS[services] * TICK_S**2
    mean_wait = rate * second / (2 * (1 - rate))
    load = load_controls(rate, arrival_s, tokens * TICK_S)
    assert_mean(batch_means(found), mean_wait + 1.0, engine.width(0.07), *load)


def test_sojourns_of_mm1_are_exponential(engine: Engine) -> None:
    rng = np.random.default_rng(2)
    rate, count = 0.5, engine.requests(32_000)
    arrival_s, tokens = poisson(rng, rate, count), exponential(rng, count)
    queue = Queue(arrival_s, tokens, ones(count))
    load = load_controls(rate, arrival_s, tokens * TICK_S)
    found = sojourns(engine.simulate(queue.experiment()))
    for time_s, width in ((0.5, 0.02), (2.0, 0.06), (6.0, 0.25)):
        longer = exp(-(1 - rate) * time_s)
        assert_mean(batch_means((found > time_s).astype(float)), longer, engine.width(width), *load)


# --- several servers


class LeastWork(Router):
    """To the server that will be free first: the same as one queue for all of them."""

    def __init__(self, servers: int) -> None:
        self.free_s = [0.0] * servers

    def route(self, request: Request, view: RoutingView) -> ReplicaView:
        chosen = min(view.replicas, key=lambda r: self.free_s[r.index])
        start_s = max(view.now, self.free_s[chosen.index])
        self.free_s[chosen.index] = start_s + request.input_tokens * TICK_S
        return chosen


def test_central_queue_keeps_kiefer_wolfowitz_and_erlang(engine: Engine) -> None:
    rng = np.random.default_rng(3)
    servers, rate, count = 3, 2.1, engine.requests(32_000)
    arrival_s, tokens = poisson(rng, rate, count), exponential(rng, count)
    queue = Queue(arrival_s, tokens, ones(count), servers=servers, router=LeastWork(servers))
    found = sojourns(engine.simulate(queue.experiment()))

    # every request starts when the first of the servers is free: Kiefer and Wolfowitz 1955
    free_s, expected = [0.0] * servers, []
    for time_s, service in zip(arrival_s, tokens * TICK_S, strict=True):
        free_s.sort()
        free_s[0] = max(time_s, free_s[0]) + service
        expected.append(free_s[0] - time_s)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-7)

    mean = 1.0 + erlang_c(servers, rate) / (servers - rate)
    load = load_controls(rate, arrival_s, tokens * TICK_S)
    assert_mean(batch_means(found), mean, engine.width(0.07), *load)


def test_the_shorter_of_two_out_of_three_queues(engine: Engine) -> None:
    rng = np.random.default_rng(4)
    rate, servers, count = 2.1, 3, engine.requests(32_000)
    arrival_s, tokens = poisson(rng, rate, count), exponential(rng, count)
    queue = Queue(
        arrival_s,
        tokens,
        ones(count),
        servers=servers,
        router=PowerOfTwo(),
    )
    found = sojourns(engine.simulate(queue.experiment()))
    load = load_controls(rate, arrival_s, tokens * TICK_S)
    mean = shorter_of_two(servers, rate / servers, 20)
    assert_mean(batch_means(found), mean, engine.width(0.09), *load)


def test_two_choices_among_many_queues(engine: Engine) -> None:
    if not engine.fast:
        pytest.skip("too many requests for the reference engine")
    # sum of load^(2^i - 2): Vvedenskaya, Dobrushin and Karpelevich 1996, Mitzenmacher 1996;
    # a hundred queues are within 1 % of infinitely many
    rate, servers, count = 90.0, 100, 40_000
    theory = sum((rate / servers) ** (2**i - 2) for i in range(1, 12))
    assert theory == pytest.approx(2.6141, abs=5e-5)
    rng = np.random.default_rng(5)
    arrival_s, tokens = poisson(rng, rate, count), exponential(rng, count)
    queue = Queue(
        arrival_s,
        tokens,
        ones(count),
        servers=servers,
        router=PowerOfTwo(),
    )
    found = sojourns(engine.simulate(queue.experiment()))
    load = load_controls(rate, arrival_s, tokens * TICK_S)
    assert_mean(batch_means(found), theory, 0.08, *load)


# --- stages one after another


def test_tandem_of_constant_services(engine: Engine) -> None:
    # the order of constant servers does not matter: one wait at the slowest (Friedman 1965)
    rng = np.random.default_rng(6)
    rate, count, quick, slow = 0.5, engine.requests(24_000), 0.6, 1.0
    costs = (LinearStepCost(base=quick), LinearStepCost(base=slow))
    arrival_s = poisson(rng, rate, count)
    queue = Queue(arrival_s, ones(count), ones(count), costs=costs)
    found = sojourns(engine.simulate(queue.experiment()))
    wait = rate * slow**2 / (2 * (1 - rate * slow))
    gaps, _ = load_controls(rate, arrival_s, np.full(count, 1.0))
    assert_mean(batch_means(found), wait + quick + slow, engine.width(0.02), gaps)


def test_tandem_of_exponential_services(engine: Engine) -> None:
    rng = np.random.default_rng(7)
    rate, count, mean = 0.5, engine.requests(24_000), 0.8
    arrival_s, tokens = poisson(rng, rate, count), exponential(rng, count)
    second = HashedStepCost(mean)
    costs = (LinearStepCost(prefill_token=TICK_S), second)
    found = sojourns(
        engine.simulate(Queue(arrival_s, tokens, ones(count), costs=costs).experiment())
    )

    # a stage starts when the request has left the one before, and it the one before it
    left_s = [0.0, 0.0]
    expected = []
    for time_s, n in zip(arrival_s, tokens.tolist(), strict=True):
        left_s[0] = max(time_s, left_s[0]) + n * TICK_S
        left_s[1] = max(left_s[0], left_s[1]) + second.step_s(n, 0, 0, 0, 0, 1)
        expected.append(left_s[1] - time_s)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-7)

    # each stage is an M/M/1 queue of its own: Burke 1956, Jackson 1957
    load = load_controls(rate, arrival_s, tokens * TICK_S)
    theory = 1 / (1 - rate) + 1 / (1 / mean - rate)
    assert_mean(batch_means(found), theory, engine.width(0.06), *load)


# --- processor sharing


def test_turns_of_one_token(engine: Engine) -> None:
    rng = np.random.default_rng(8)
    rate, mean_tokens, count = 0.5, 10, engine.requests(20_000)
    quantum_s = 1 / mean_tokens
    arrival_s, tokens = poisson(rng, rate, count), rng.geometric(1 / mean_tokens, count)
    queue = Queue(
        arrival_s,
        ones(count),
        tokens,
        costs=(LinearStepCost(sequence=quantum_s),),
        batching=Everybody(),
    )
    found = sojourns(engine.simulate(queue.experiment()))
    theory = shared_in_turns(rate, quantum_s, 1 / mean_tokens)
    load = load_controls(rate, arrival_s, tokens * quantum_s)
    assert_mean(batch_means(found), theory, engine.width(0.06), *load)
    # with ever smaller turns this is processor sharing
    assert shared_in_turns(rate, 1e-3, 1e-3) == pytest.approx(1 / (1 - rate), rel=2e-3)


@pytest.mark.parametrize("tokens", [(200, 200), (20, 1820)])
def test_processor_sharing_does_not_mind_the_distribution(
    engine: Engine, tokens: tuple[int, int]
) -> None:
    if not engine.fast:
        pytest.skip("too many iterations for the reference engine")
    # E[T] = E[S] / (1 - load) whatever the services (Sakata, Noguchi and Oizumi 1971); turns of
    # 1/200 of a mean service make up for less than 0.5 %
    rng = np.random.default_rng(9)
    rate, count = 0.5, 32_000
    arrival_s, outputs = poisson(rng, rate, count), np.where(rng.random(count) < 0.9, *tokens)
    queue = Queue(
        arrival_s,
        ones(count),
        outputs,
        costs=(LinearStepCost(sequence=1 / 200),),
        batching=Everybody(),
    )
    found = sojourns(engine.simulate(queue.experiment()))
    load = load_controls(rate, arrival_s, outputs / 200)
    assert_mean(batch_means(found), 1 / (1 - rate), 0.1, *load)


# --- laws of averages


class Watching(PowerOfTwo):
    """Notes how many requests each arrival finds."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[int] = []

    def route(self, request: Request, view: RoutingView) -> ReplicaView:
        self.found.append(sum(r.waiting + r.running for r in view.replicas))
        return super().route(request, view)


def test_littles_law(engine: Engine) -> None:
    # Poisson arrivals see time averages (Wolff 1982): they find rate * E[T] requests
    rng = np.random.default_rng(10)
    rate, count, router = 1.2, engine.requests(16_000), Watching()
    queue = Queue(
        poisson(rng, rate, count),
        ones(count),
        rng.geometric(0.2, count),
        costs=(LinearStepCost(base=0.05, sequence=0.15),),
        batching=Everybody(),
        servers=2,
        router=router,
    )
    by_time = rate * sojourns(engine.simulate(queue.experiment()))
    # the two averages go up and down together: their difference is known well
    excess = batch_means(np.array(router.found, dtype=float)) - batch_means(by_time)
    assert_mean(1 + excess / by_time.mean(), 1.0, engine.width(0.04))


# --- failures


def test_availability(engine: Engine) -> None:
    mean_up_s, mean_down_s, horizon_s = 8.0, 2.0, 300.0
    queue = Queue(
        np.array([horizon_s - 1e-3]),
        ones(1),
        ones(1),
        costs=(LinearStepCost(base=1.0),),
        servers=100,
        availability=Renewal(Exponential(mean_up_s), Exponential(mean_down_s)),
        horizon_s=horizon_s,
    )
    nodes = engine.simulate(queue.experiment()).nodes
    assert (nodes["up_s"] + nodes["down_s"]) == pytest.approx(horizon_s)
    theory = mean_up_s / (mean_up_s + mean_down_s)
    assert_mean(nodes["up_s"] / horizon_s, theory, 0.025)


def test_work_that_starts_anew_after_every_failure(engine: Engine) -> None:
    # n steps in a row without a failure, each with probability q, take (1 - q^n) / (p q^n)
    # steps (Feller: runs of successes); their time is M (e^(n s / M) - 1)
    steps, step_s, mean_up_s, count = 10, 0.5, 10.0, 40
    arrival_s = np.arange(count, dtype=np.float64) * 200.0
    queue = Queue(
        arrival_s,
        ones(count),
        np.full(count, steps),
        costs=(LinearStepCost(base=step_s),),
        batching=Everybody(),
        availability=Renewal(Exponential(mean_up_s), Exponential(1e-6), stationary=False),
    )
    started, attempts, busy_s = [], [], []
    for seed in range(25):
        record = engine.simulate(replace(queue, seed=seed).experiment())
        stopped = (record.requests["attempts"] - 1).sum()
        started.append((record.nodes["iterations"][0] + stopped) / count)
        attempts.append(record.requests["attempts"].mean())
        busy_s.append(record.nodes["busy_s"][0] / count)
    q = exp(-step_s / mean_up_s)
    assert_mean(np.array(started), (1 - q**steps) / ((1 - q) * q**steps), 0.1)
    assert_mean(np.array(attempts), q**-steps, 0.1)
    assert_mean(np.array(busy_s), mean_up_s * (exp(steps * step_s / mean_up_s) - 1), 0.1)
