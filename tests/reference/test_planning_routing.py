"""Paths through spans, weighted turns, and what two choices buy."""

from __future__ import annotations

from collections import Counter
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infsim.policy.routing.shortest import cheapest_path
from infsim.policy.routing.weighted import SmoothRoundRobin

OVERHEAD_S = 0.018  # Petals' measured serialisation overhead per hop to a server


def test_petals_instance() -> None:
    client = np.array([20, 30, 10, 200]) / 2e3
    between = np.zeros((4, 4))
    between[0, 1] = between[1, 0] = 20 / 2e3
    between[0, 3] = between[3, 0] = 160 / 2e3
    path = cheapest_path(
        spans=[(0, 4), (4, 8), (0, 8), (4, 8)],
        operators=8,
        operator_s=[1 / 200, 1 / 100, 1 / 50, 1 / 400],
        entry_s=(client + OVERHEAD_S).tolist(),
        hop_s=(between + OVERHEAD_S).tolist(),
        exit_s=client.tolist(),
    )
    assert path is not None
    assert (path.hosts, path.bounds) == ((0, 1), (0, 4, 8))
    assert path.latency_s == pytest.approx(0.131)


def test_no_path() -> None:
    assert cheapest_path([(0, 3), (4, 8)], 8, [1, 1], [0, 0], [[0, 0]] * 2, [0, 0]) is None
    assert cheapest_path([], 8, [], [], [], []) is None


@settings(deadline=None, max_examples=100)
@given(st.data())
def test_path_equals_enumeration(data: st.DataObject) -> None:
    operators, n = data.draw(st.integers(1, 6)), data.draw(st.integers(1, 4))
    cost = st.floats(0.0, 1.0)
    costs = st.lists(cost, min_size=n, max_size=n)
    spans = [
        (start, data.draw(st.integers(start, operators)))
        for start in data.draw(st.lists(st.integers(0, operators), min_size=n, max_size=n))
    ]
    own, entry, leave = data.draw(costs), data.draw(costs), data.draw(costs)
    hop = data.draw(st.lists(costs, min_size=n, max_size=n))
    best = np.inf
    for size in range(1, n + 1):
        for hosts in permutations(range(n), size):
            at, latency_s, before = 0, 0.0, -1
            for h in hosts:
                start, end = spans[h]
                if not start <= at < end:
                    break
                latency_s += (entry[h] if before < 0 else hop[before][h]) + own[h] * (end - at)
                at, before = end, h
            else:
                if at == operators:
                    best = min(best, latency_s + leave[before])
    path = cheapest_path(spans, operators, own, entry, hop, leave)
    if path is None:
        assert best == np.inf
    else:
        assert path.latency_s == pytest.approx(best)
        assert path.bounds[-1] == operators
        assert all(spans[h][1] == b for h, b in zip(path.hosts, path.bounds[1:], strict=True))


def test_interleaved_turns() -> None:
    turns = SmoothRoundRobin([5, 1, 1])
    assert "".join("abc"[turns.next()] for _ in range(7)) == "aabacaa"


@given(st.lists(st.integers(0, 6), min_size=1, max_size=6).filter(any))
def test_turns_are_exact_over_a_cycle(weights: list[int]) -> None:
    turns = SmoothRoundRobin(weights)
    count = Counter(turns.next() for _ in range(sum(weights)))
    assert [count[i] for i in range(len(weights))] == weights


@pytest.mark.parametrize("weights", [[], [0.0], [1.0, -1.0]])
def test_weights_are_checked(weights: list[float]) -> None:
    with pytest.raises(ValueError, match="weights"):
        SmoothRoundRobin(weights)


def mean_time_of_d_choices(load: float, choices: int) -> float:
    """Mean time in system over mean service, in the mean field (Mitzenmacher 2001)."""
    if choices == 1:
        return 1 / (1 - load)
    terms = (load ** ((choices**i - choices) / (choices - 1)) for i in range(1, 200 // choices))
    return float(sum(terms))


@pytest.mark.parametrize(
    ("load", "choices", "expected"),
    [
        (0.9, 1, 10.0),
        (0.9, 2, 2.6141),
        (0.9, 3, 2.0279),
        (0.99, 1, 100.0),
        (0.99, 2, 5.4320),
        (0.99, 3, 3.8578),
    ],
)
def test_mean_field_of_d_choices(load: float, choices: int, expected: float) -> None:
    assert mean_time_of_d_choices(load, choices) == pytest.approx(expected, abs=6e-5)
