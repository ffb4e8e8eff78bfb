"""The pipeline of least latency against enumeration."""

from __future__ import annotations

import time
from itertools import permutations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infsim.policy.placement.latency import Delays, minimum_latency, short_order
from infsim.policy.placement.milp import Effort, Infeasible
from infsim.policy.placement.room import Room

SECONDS = [10, 14, 25, 40]
ROOM = [3, 4, 3, 6]
DELAYS = Delays.of_client(
    [[0, 5, 30, 40], [5, 0, 35, 45], [30, 35, 0, 8], [40, 45, 8, 0]], [10, 12, 20, 25]
)


def test_published_pipeline() -> None:
    route = minimum_latency(SECONDS, ROOM, 10, DELAYS)
    assert (route.latency_s, route.order, route.layers) == (228.0, (1, 0, 2), (4, 3, 3))
    assert (route.outcome.status, route.outcome.gap) == ("optimal", 0.0)


def fits(order: tuple[int, ...], counts: tuple[int, ...], room: Room) -> bool:
    if len(order) == 1:
        return bool(counts[0] <= room.only[order[0]])
    limits = [room.first[order[0]], *(room.inner[i] for i in order[1:-1]), room.last[order[-1]]]
    return all(k <= c for k, c in zip(counts, limits, strict=True))


def enumerate_best(t: list[float], room: Room, layers: int, delays: Delays) -> float:
    best = np.inf
    for size in range(1, len(t) + 1):
        for order in permutations(range(len(t)), size):
            for counts in product(*[range(1, room.most[i] + 1) for i in order]):
                if sum(counts) == layers and fits(order, counts, room):
                    compute = sum(t[i] * k for i, k in zip(order, counts, strict=True))
                    best = min(best, compute + delays.of_route(order))
    return float(best)


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 4), st.integers(1, 6), st.integers(0, 2**32 - 1), st.booleans())
def test_pipeline_equals_enumeration(n: int, layers: int, seed: int, loop: bool) -> None:
    """In milliseconds of a real deployment, with missing links and room that depends on place."""
    rng = np.random.default_rng(seed)
    t = rng.uniform(1e-4, 1e-2, n).tolist()
    hops = rng.uniform(1e-4, 5e-2, (n, n))
    again = rng.uniform(1e-4, 5e-2, (n, n)) if loop else None
    hops[rng.random((n, n)) < 0.2] = np.inf
    delays = Delays(hops, rng.uniform(0, 0.1, n), rng.uniform(0, 0.1, n), again)
    inner, first, last, only = rng.integers(0, 4, (4, n))
    room = Room(inner, first, last, 2 * only)
    best = enumerate_best(t, room, layers, delays)
    if not np.isfinite(best):
        with pytest.raises(Infeasible):
            minimum_latency(t, room, layers, delays)
        return
    route = minimum_latency(t, room, layers, delays)
    assert route.latency_s == pytest.approx(best, rel=1e-5)
    assert sum(route.layers) == layers
    assert fits(route.order, route.layers, room)


def test_large_instance_in_some_cpu_seconds() -> None:
    """24 nodes and 80 layers, the size of a real community cluster."""
    rng = np.random.default_rng(0)
    places = rng.uniform(0, 0.03, (24, 2))
    hops = np.linalg.norm(places[:, None] - places, axis=-1) + 0.001
    client = np.linalg.norm(places - 0.015, axis=1) + 0.005
    seconds, room = rng.uniform(1e-3, 8e-3, 24), rng.integers(3, 13, 24)
    start = time.process_time()
    route = minimum_latency(seconds, room, 80, Delays.of_client(hops, client))
    assert route.outcome.gap < 1e-6
    assert sum(route.layers) == 80
    assert time.process_time() - start < 10


def test_limited_effort_is_flagged() -> None:
    route = minimum_latency(SECONDS, ROOM, 10, DELAYS, Effort(gap=0.5))
    assert route.outcome.gap <= 0.5
    assert route.outcome.bound <= 228.0 <= route.latency_s


@given(st.integers(2, 6), st.integers(0, 2**32 - 1))
def test_short_order_keeps_the_ends_and_no_reversal_helps(n: int, seed: int) -> None:
    hops = np.random.default_rng(seed).uniform(0, 1, (n, n))
    delays = Delays(hops, np.zeros(n), np.zeros(n))
    order = short_order(0, range(1, n - 1), n - 1, delays)
    assert (order[0], order[-1], sorted(order)) == (0, n - 1, list(range(n)))
    length = delays.of_route(order)
    for i in range(1, n - 2):
        for j in range(i + 2, n):
            assert delays.of_route(order[:i] + order[i:j][::-1] + order[j:]) >= length - 1e-9
