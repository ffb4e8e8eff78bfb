"""The pipeline of least latency against enumeration."""

from __future__ import annotations

import time
from itertools import permutations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infsim.policy.placement.latency import minimum_latency, route_latency_s
from infsim.policy.placement.milp import Effort, Infeasible

SECONDS = [10, 14, 25, 40]
ROOM = [3, 4, 3, 6]
DELAYS = [[0, 5, 30, 40], [5, 0, 35, 45], [30, 35, 0, 8], [40, 45, 8, 0]]
CLIENT = [10, 12, 20, 25]


def test_published_pipeline() -> None:
    route = minimum_latency(SECONDS, ROOM, 10, DELAYS, CLIENT)
    assert (route.latency_s, route.order, route.layers) == (228.0, (1, 0, 2), (4, 3, 3))
    assert (route.outcome.status, route.outcome.gap) == ("optimal", 0.0)


def enumerate_best(
    t: list[float], room: list[int], layers: int, d: np.ndarray, client: list[float]
) -> float:
    best = np.inf
    for size in range(1, len(t) + 1):
        for order in permutations(range(len(t)), size):
            for counts in product(*[range(1, room[i] + 1) for i in order]):
                if sum(counts) == layers:
                    best = min(best, route_latency_s(order, counts, t, d, client))
    return float(best)


@settings(deadline=None, max_examples=25)
@given(st.data())
def test_pipeline_equals_enumeration(data: st.DataObject) -> None:
    """In milliseconds of a real deployment, with missing links."""
    n = data.draw(st.integers(1, 4))
    seconds = st.floats(1e-4, 5e-2)
    t = data.draw(st.lists(seconds, min_size=n, max_size=n))
    client = data.draw(st.lists(seconds, min_size=n, max_size=n))
    room = data.draw(st.lists(st.integers(0, 3), min_size=n, max_size=n))
    link = st.one_of(seconds, st.just(float("inf")))
    d = np.array(data.draw(st.lists(link, min_size=n * n, max_size=n * n))).reshape(n, n)
    layers = data.draw(st.integers(1, 6))
    best = enumerate_best(t, room, layers, d, client)
    if not np.isfinite(best):
        with pytest.raises(Infeasible):
            minimum_latency(t, room, layers, d, client)
        return
    route = minimum_latency(t, room, layers, d, client)
    assert route.latency_s == pytest.approx(best, rel=1e-5)
    assert sum(route.layers) == layers
    assert all(1 <= k <= room[i] for i, k in zip(route.order, route.layers, strict=True))


def test_large_instance_in_some_cpu_seconds() -> None:
    """24 nodes and 80 layers, the size of a real community cluster."""
    rng = np.random.default_rng(0)
    places = rng.uniform(0, 0.03, (24, 2))
    delays = np.linalg.norm(places[:, None] - places, axis=-1) + 0.001
    start = time.process_time()
    route = minimum_latency(
        rng.uniform(1e-3, 8e-3, 24),
        rng.integers(3, 13, 24),
        80,
        delays,
        np.linalg.norm(places - 0.015, axis=1) + 0.005,
    )
    assert route.outcome.gap < 1e-6
    assert sum(route.layers) == 80
    assert time.process_time() - start < 10


def test_limited_effort_is_flagged() -> None:
    route = minimum_latency(SECONDS, ROOM, 10, DELAYS, CLIENT, Effort(gap=0.5))
    assert route.outcome.gap <= 0.5
    assert route.outcome.bound <= 228.0 <= route.latency_s
