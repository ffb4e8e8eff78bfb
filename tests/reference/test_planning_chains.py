"""Chain partitions against enumeration and published instances."""

from __future__ import annotations

from itertools import combinations, pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infsim.policy.placement.bottleneck import bottleneck_exact, bottleneck_ilp
from infsim.policy.placement.chains import (
    bottleneck,
    minimum_sum,
    part_times,
    proportional,
    uniform,
    water_filling,
)
from infsim.policy.placement.milp import Infeasible

WEIGHTS = [4, 2, 6, 3, 5, 4, 1, 5]
SPEEDS = [1, 2, 1.5]
TRANSFERS = np.array([8, 1, 6, 2, 7, 3, 5]) / 4
positive = st.floats(0.1, 10.0)


def test_published_chain() -> None:
    times = part_times(WEIGHTS, SPEEDS)
    for transfers in (0.0, TRANSFERS):
        split = bottleneck(times, transfers)
        assert (split.value, split.cuts) == (7.0, (0, 2, 5, 8))
    split = minimum_sum(times, TRANSFERS)
    assert (split.value, split.cuts) == (20.0, (0, 2, 6, 8))
    assert bottleneck(part_times(WEIGHTS, [1, 1, 1])).value == 12.0


@settings(deadline=None, max_examples=60)
@given(
    st.lists(positive, min_size=1, max_size=7),
    st.lists(positive, min_size=1, max_size=4),
    st.data(),
)
def test_chain_equals_enumeration(
    weights: list[float], speeds: list[float], data: st.DataObject
) -> None:
    layers, nodes = len(weights), len(speeds)
    times = part_times(weights, speeds)
    hops = data.draw(
        st.lists(
            st.lists(positive, min_size=layers - 1, max_size=layers - 1),
            min_size=nodes - 1,
            max_size=nodes - 1,
        )
    )
    transfers = np.array(hops).reshape(nodes - 1, layers - 1)
    if nodes > layers:
        with pytest.raises(Infeasible):
            bottleneck(times, transfers)
        return

    def terms(cuts: tuple[int, ...]) -> list[float]:
        parts = [sum(weights[i:j]) / speeds[d] for d, (i, j) in enumerate(pairwise(cuts))]
        return parts + [transfers[d, cut - 1] for d, cut in enumerate(cuts[1:-1])]

    every = [(0, *inner, layers) for inner in combinations(range(1, layers), nodes - 1)]
    for solve, total in ((bottleneck, max), (minimum_sum, sum)):
        split = solve(times, transfers)
        assert split.value == pytest.approx(min(total(terms(cuts)) for cuts in every))
        assert total(terms(split.cuts)) == pytest.approx(split.value)


def test_memory_forbids_parts() -> None:
    times = part_times([1, 1, 1, 1], [1, 1])
    times[0, 0, 2:] = np.inf  # the first node has room for one layer
    assert bottleneck(times).cuts == (0, 1, 4)


def test_uniform() -> None:
    assert uniform(10, 4) == (3, 3, 2, 2)
    assert uniform(80, 24) == (4,) * 8 + (3,) * 16
    with pytest.raises(Infeasible):
        uniform(3, 4)


def test_water_filling_of_parallax() -> None:
    assert water_filling(20, [312, 165, 82.6], [13, 5, 4]) == (12, 5, 3)
    assert water_filling(22, [312, 165, 82.6], [13, 5, 4]) == (13, 5, 4)
    with pytest.raises(Infeasible, match="room for 22"):
        water_filling(23, [312, 165, 82.6], [13, 5, 4])


@settings(deadline=None)
@given(st.lists(st.tuples(positive, st.integers(0, 9)), min_size=1, max_size=6), st.integers(1, 60))
def test_water_filling_is_level(nodes: list[tuple[float, int]], layers: int) -> None:
    """Everybody below capacity holds the same number of layers per speed, up to rounding."""
    speeds, room = zip(*nodes, strict=True)
    if sum(room) < layers:
        with pytest.raises(Infeasible):
            water_filling(layers, speeds, room)
        return
    counts = water_filling(layers, speeds, room)
    assert sum(counts) == layers
    assert all(0 <= x <= c for x, c in zip(counts, room, strict=True))
    level = max((x - 1) / f for x, f in zip(counts, speeds, strict=True))
    assert all(
        x == c or (x + 1) / f > level - 1e-9 for x, f, c in zip(counts, speeds, room, strict=True)
    )


def test_ring_of_exo() -> None:
    assert proportional(32, [16, 16, 8]) == (13, 13, 6)


def test_published_bottleneck() -> None:
    for solve in (bottleneck_ilp, bottleneck_exact):
        result = solve([10, 14, 25, 40], [3, 4, 3, 6], 10)
        assert (result.bottleneck_s, result.counts) == (56.0, ((3, 4, 2, 1),))
        assert result.outcome.status == "optimal"


@settings(deadline=None, max_examples=30)
@given(
    st.lists(st.tuples(st.floats(1e-4, 1e-2), st.integers(0, 4)), min_size=1, max_size=4),
    st.integers(1, 8),
)
def test_bottleneck_equals_enumeration(nodes: list[tuple[float, int]], layers: int) -> None:
    """The program, the closed form and enumeration agree, in seconds of a real layer."""
    seconds, room = zip(*nodes, strict=True)
    grid = np.stack(np.meshgrid(*[range(c + 1) for c in room], indexing="ij"), -1)
    splits = grid.reshape(-1, len(room))
    splits = splits[splits.sum(axis=1) == layers]
    if not len(splits):
        for solve in (bottleneck_ilp, bottleneck_exact):
            with pytest.raises(Infeasible):
                solve(seconds, room, layers)
        return
    best = (splits * np.array(seconds)).max(axis=1).min()
    for solve in (bottleneck_ilp, bottleneck_exact):
        result = solve(seconds, room, layers)
        assert result.bottleneck_s == pytest.approx(best, rel=1e-6)
        assert sum(result.counts[0]) == layers
        assert all(x <= c for x, c in zip(result.counts[0], room, strict=True))
