"""Delivery over tiers: what the simulation finds is what table, queueing theory and sums say."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from infsim.cost.accuracy import AccuracyTable
from infsim.engine.experiment import Experiment
from infsim.engine.simulation import simulate
from infsim.results.recorder import Columns
from infsim.rng import Streams
from infsim.scenario.build import build_experiment
from infsim.scenario.load import load
from infsim.workload.requests import Requests

OVERHEAD_S = {"device": 0.002, "cloud": 0.005}
DELAY_S = 0.03
REQUEST_BYTES = 784
BYTES_PER_S = 1e6
LOCAL, REMOTE = "mlp32", "cnn"


def scenario(delivery: Any, **changes: Any) -> dict[str, Any]:
    """Two tiers: a device with mlp32 and its client, and a cloud with the CNN."""

    def device(tier: str) -> dict[str, Any]:
        # so fast that an image takes the overhead and nothing else
        return {
            "name": tier,
            "memory": "8 GiB",
            "bandwidth": "1e9 GB/s",
            "peak": {"fp32": "1e9 TFLOP/s"},
            "idle_power": "1 W",
            "active_power": "3 W",
            "overhead": f"{OVERHEAD_S[tier]} s",
            "layer_overhead": 0,
        }

    link = {"between": ["device", "cloud"], "delay": f"{DELAY_S} s", "bandwidth": "1 MB/s"}
    return {
        "name": "two-tiers",
        "format": "fp32",
        "accuracy": "fashion-mnist",
        "deployments": [
            {"name": "device", "model": f"fashion-mnist/{LOCAL}", "nodes": ["device"]},
            {"name": "cloud", "model": f"fashion-mnist/{REMOTE}", "nodes": ["cloud"]},
        ],
        "cluster": {
            "nodes": [{"name": tier, "device": device(tier)} for tier in OVERHEAD_S],
            "network": {"links": [link]},
            "clients": [{"node": "device"}],
        },
        "workload": {"arrivals": {"process": "deterministic", "rate": "1 /s"}, "requests": 10},
        "policies": {
            "delivery": delivery,
            "batching": {"name": "continuous", "max_sequences": 1},
        },
        "engine": {"request_bytes": f"{REQUEST_BYTES} B"},
    } | changes


def experiment(delivery: Any, **changes: Any) -> Experiment:
    made = load(scenario(delivery, **changes))
    return build_experiment(made, made.alternatives()[0])


@dataclass(frozen=True)
class EverySample:
    """Each image of the test split once, so far apart that none waits for another."""

    samples: int

    def blocks(self, streams: Streams) -> Iterator[Requests]:
        n = self.samples
        ones, none = np.ones(n, np.int64), np.full(n, -1, np.int64)
        yield Requests(np.arange(n, dtype=np.float64), ones, ones, 0 * ones, none, np.arange(n))


def every_sample(delivery: Any) -> tuple[AccuracyTable, Columns]:
    """Deliver each image once; return the table that judged, and what happened, by image."""
    made = experiment(delivery)
    table = made.accuracy
    assert table is not None
    return table, simulate(replace(made, workload=EverySample(table.samples))).requests


def check_policy(
    table: AccuracyTable, requests: Columns, forwarded: NDArray[np.bool_]
) -> tuple[float, float]:
    """Check each answer against the table; return share forwarded, and how often they are right."""
    assert np.array_equal(requests["deployment"] == 1, forwarded)
    right = np.where(forwarded, table.correct[REMOTE], table.correct[LOCAL])
    assert np.array_equal(requests["correct"] == 1, right)
    sure = np.where(forwarded, table.confidence[REMOTE], table.confidence[LOCAL])
    assert np.array_equal(requests["confidence"], sure)
    return float(forwarded.mean()), float(table.correct[REMOTE][forwarded].mean())


OFFLOAD_S = 2 * DELAY_S + OVERHEAD_S["cloud"]


@pytest.mark.parametrize("threshold", [0.5, 0.8])
def test_a_cascade_of_two_answers_as_the_table_says(threshold: float) -> None:
    table, requests = every_sample({"name": "cascade", "threshold": threshold})
    share, remote = check_policy(table, requests, table.confidence[LOCAL] < threshold)
    accuracy = float((requests["correct"] == 1).mean())
    assert accuracy == pytest.approx(1 - table.forwarding_loss(LOCAL, REMOTE, threshold, 0.0))
    if threshold == 0.8:
        # what an independently trained ladder of the same networks had: .26 and .735, not .905
        assert share == pytest.approx(0.26, abs=0.02)
        assert remote == pytest.approx(0.735, abs=0.02)
        assert table.accuracy(REMOTE) > 0.9


@pytest.mark.parametrize("error_cost_s", [0.3, 0.65, 1.3])
@pytest.mark.parametrize("given", [None, 0.6])
def test_forward_or_serve_answers_as_the_table_says(
    given: float | None, error_cost_s: float
) -> None:
    policy = {"name": "forward-or-serve", "threshold": given or "auto"}
    table, requests = every_sample(policy | {"error_cost_s": error_cost_s})
    price = OFFLOAD_S / error_cost_s
    limit = given or table.validation.best_threshold(LOCAL, REMOTE, price)
    gains = [table.expected_gain(LOCAL, REMOTE, float(sure)) for sure in table.confidence[LOCAL]]
    forwarded = (table.confidence[LOCAL] < limit) & (np.array(gains) > price)
    assert 0 < forwarded.mean() < 1
    check_policy(table, requests, forwarded)


def total_cost_s(delivery: Any, error_cost_s: float) -> float:
    """Return the mean of delay and price of errors (the cost of INFIDA)."""
    _, requests = every_sample(delivery)
    taken = requests["end_s"] - requests["arrival_s"]
    return float(np.mean(taken + error_cost_s * (requests["correct"] != 1)))


def test_forwarding_what_is_unsure_costs_less_than_all_or_nothing() -> None:
    # offloading takes about 66 ms: .05 of an error of 1.3 s
    forward = total_cost_s({"name": "forward-or-serve", "error_cost_s": 1.3}, 1.3)
    local, cloud = total_cost_s("local", 1.3), total_cost_s("remote", 1.3)
    assert forward < local < cloud
    # losses of an independently trained ladder: .1121, never .1320, always .1454
    served = OVERHEAD_S["device"] / 1.3
    assert forward / 1.3 - served == pytest.approx(0.1121, abs=0.004)
    assert local / 1.3 - served == pytest.approx(0.1320, abs=0.004)
    assert cloud / 1.3 == pytest.approx(0.1454, abs=0.004)


def test_an_answer_takes_the_sum_of_its_ways_and_services() -> None:
    table, requests = every_sample({"name": "cascade", "threshold": 0.8})
    taken = requests["end_s"] - requests["arrival_s"]
    forwarded = table.confidence[LOCAL] < 0.8
    offload_s = DELAY_S + REQUEST_BYTES / BYTES_PER_S + OVERHEAD_S["cloud"] + DELAY_S
    expected = OVERHEAD_S["device"] + np.where(forwarded, offload_s, 0.0)
    # some picoseconds of computation, and 10,000 s in a float
    assert np.abs(taken - expected).max() < 1e-9


@pytest.mark.parametrize(("tier", "utilization"), [("device", 0.5), ("cloud", 0.8)])
def test_images_one_at_a_time_wait_as_in_md1(tier: str, utilization: float) -> None:
    service_s = OVERHEAD_S[tier]
    n = 20_000
    policy = "local" if tier == "device" else "remote"
    made = experiment(
        policy,
        workload={
            "arrivals": {"process": "poisson", "rate": f"{utilization / service_s} /s"},
            "requests": n,
        },
        # an unlimited link, or arrivals at the cloud would no longer be Poisson
        engine={"request_bytes": "0 B"},
    )
    requests = simulate(made).requests
    way_s = DELAY_S if tier == "cloud" else 0.0
    waits = requests["start_s"] - requests["arrival_s"] - way_s
    # Pollaczek-Khinchine with constant service
    expected = utilization * service_s / (2 * (1 - utilization))
    means = waits[n % 20 :].reshape(20, -1).mean(axis=1)
    error = float(means.std(ddof=1)) / math.sqrt(20)
    assert error < 0.15 * expected  # or the next line says nothing
    assert abs(means.mean() - expected) < 3.5 * error
    took = requests["end_s"] - requests["start_s"]
    assert took == pytest.approx(service_s + way_s, abs=1e-9)
