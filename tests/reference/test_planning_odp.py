"""Optimal operator placement against enumeration on small graphs."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infsim.policy.placement.milp import Infeasible
from infsim.policy.placement.odp import OBJECTIVES, Application, Resources, evaluate, place


def cost(name: str, metrics: dict[str, float]) -> float:
    return -np.log(metrics[name]) if name == "availability" else metrics[name]


def feasible(app: Application, resources: Resources) -> Iterator[dict[str, float]]:
    """Metrics of every placement that respects capacities, pins and links."""
    operators, nodes = app.seconds.shape
    for choice in product(range(nodes), repeat=operators):
        if any(choice[i] != u for i, u in app.pinned.items()):
            continue
        if len({choice[i] for i in app.together}) > 1:
            continue
        used = np.zeros_like(resources.capacities)
        np.add.at(used.T, list(choice), app.demands.T)
        metrics = evaluate(choice, app, resources)
        if (used <= resources.capacities).all() and np.isfinite(metrics["response_time"]):
            yield metrics


@st.composite
def instances(draw: st.DrawFn) -> tuple[Application, Resources]:
    operators, nodes = draw(st.integers(1, 4)), draw(st.integers(1, 3))
    seed = draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    pairs = [(i, j) for j in range(operators) for i in range(j)]
    edges = [pair for pair in pairs if rng.random() < 0.7]
    delays = rng.uniform(1e-3, 0.1, (nodes, nodes))
    delays[rng.random((nodes, nodes)) < 0.15] = np.inf
    np.fill_diagonal(delays, 0.0)
    seconds = rng.uniform(1e-3, 0.05, (operators, nodes))
    seconds[rng.random(seconds.shape) < 0.1] = np.inf
    app = Application(
        seconds=seconds,
        edges=edges,
        rates=rng.uniform(1e3, 1e6, len(edges)),
        demands=np.stack([rng.integers(1, 8, operators) * 2.0**30, rng.integers(0, 3, operators)]),
        pinned={0: int(rng.integers(nodes))} if rng.random() < 0.5 else {},
        together=range(min(2, operators)) if rng.random() < 0.3 else (),
    )
    links = rng.uniform(0.9, 1.0, (nodes, nodes))
    np.fill_diagonal(links, 1.0)
    resources = Resources(
        delays_s=delays,
        capacities=np.stack([rng.integers(4, 16, nodes) * 2.0**30, rng.integers(1, 5, nodes)]),
        availability=rng.uniform(0.5, 1.0, nodes),
        link_availability=links if rng.random() < 0.5 else None,
    )
    return app, resources


@pytest.mark.parametrize("objective", OBJECTIVES)
@settings(deadline=None, max_examples=25)
@given(instance=instances())
def test_each_objective_equals_enumeration(
    objective: str, instance: tuple[Application, Resources]
) -> None:
    app, resources = instance
    options = list(feasible(app, resources))
    if not options:
        with pytest.raises(Infeasible):
            place(app, resources, {objective: 1.0})
        return
    result = place(app, resources, {objective: 1.0})
    assert dict(result.metrics) in options
    best = min(cost(objective, metrics) for metrics in options)
    assert cost(objective, dict(result.metrics)) == pytest.approx(best, rel=1e-5, abs=1e-9)
    assert result.outcome.objective == pytest.approx(best, rel=1e-5, abs=1e-9)


@settings(deadline=None, max_examples=15)
@given(instance=instances())
def test_weighted_sum_equals_enumeration(instance: tuple[Application, Resources]) -> None:
    app, resources = instance
    options = list(feasible(app, resources))
    if not options:
        return
    alone = [place(app, resources, {name: 1.0}).metrics for name in OBJECTIVES]
    spans = {}
    for name in OBJECTIVES:
        costs = [cost(name, dict(metrics)) for metrics in alone]
        spans[name] = (min(costs), max(costs) - min(costs))

    def total(metrics: dict[str, float]) -> float:
        return sum(
            (cost(name, metrics) - low) / width for name, (low, width) in spans.items() if width
        )

    result = place(app, resources, dict.fromkeys(OBJECTIVES, 1.0))
    assert total(dict(result.metrics)) == pytest.approx(min(map(total, options)), abs=1e-5)


def diamond() -> tuple[Application, Resources]:
    """A source on a device, two branches, a sink in the cloud."""
    app = Application(
        seconds=np.array([[1.0, 1.0], [4.0, 1.0], [2.0, 1.0], [1.0, 1.0]]),
        edges=[(0, 1), (0, 2), (1, 3), (2, 3)],
        rates=np.array([10.0, 5.0, 1.0, 1.0]),
        demands=np.zeros((0, 4)),
        pinned={0: 0, 3: 1},
    )
    resources = Resources(
        delays_s=np.array([[0.0, 2.0], [2.0, 0.0]]),
        capacities=np.zeros((0, 2)),
        availability=np.array([0.9, 0.99]),
    )
    return app, resources


def test_critical_path_is_the_longer_branch() -> None:
    app, resources = diamond()
    result = place(app, resources)
    # 1 s at the source, 2 s of delay, 1 s in the cloud, 1 s at the sink; one branch has slack.
    assert result.metrics["response_time"] == pytest.approx(5.0)
    assert result.nodes[1] == 1


def test_network_usage_keeps_heavy_streams_local() -> None:
    app, resources = diamond()
    result = place(app, resources, {"network_usage": 1.0})
    assert result.nodes == (0, 0, 0, 1)
    assert result.metrics["network_usage"] == pytest.approx(2.0 * (1 + 1))


def test_availability_prefers_good_nodes() -> None:
    app, resources = diamond()
    result = place(app, resources, {"availability": 1.0})
    assert result.nodes == (0, 1, 1, 1)
    assert result.metrics["availability"] == pytest.approx(0.9 * 0.99**3)


def test_unknown_objective_and_weights() -> None:
    app, resources = diamond()
    with pytest.raises(ValueError, match="unknown objective"):
        place(app, resources, {"latency": 1.0})
    with pytest.raises(ValueError, match="positive"):
        place(app, resources, {"response_time": 0.0})


def test_no_node_for_an_operator() -> None:
    app, resources = diamond()
    app.seconds[2] = np.inf
    with pytest.raises(Infeasible, match=r"operators \[2\]"):
        place(app, resources)
