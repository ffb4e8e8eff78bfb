"""How a mixed-integer program can end, each way of it."""

from __future__ import annotations

import numpy as np
import pytest

from infsim.policy.placement.milp import (
    Effort,
    Infeasible,
    Model,
    NoIncumbent,
    outcome,
    unit_of,
    value,
    whole,
)


def knapsack() -> Model:
    """A knapsack whose root node does not close the gap."""
    rng = np.random.default_rng(4)
    weights = rng.integers(1000, 2000, 40).tolist()
    values = [w + d for w, d in zip(weights, rng.integers(-50, 50, 40).tolist(), strict=True)]
    model = Model("knapsack")
    x = [model.integer(f"x_{i}", 0, 10) for i in range(40)]
    used = model.sum(w * v for w, v in zip(weights, x, strict=True))
    model.add(used <= int(3.3 * sum(weights)))
    model.minimise(model.sum(-v * y for v, y in zip(values, x, strict=True)))
    return model


def test_optimal() -> None:
    model = Model("small")
    x, y = model.integer("x", 0, 10), model.continuous("y")
    unused = model.binary("unused")
    model.add(x + y >= 3.5)
    model.minimise(2 * x + 3 * y)
    result = model.solve(Effort())
    assert (result.status, result.gap) == ("optimal", 0.0)
    assert result.objective == pytest.approx(7.5)
    assert result.bound == pytest.approx(7.5)
    assert (whole(x), whole(unused)) == (3, 0)
    assert value(y) == pytest.approx(0.5)


def test_linear_program_is_its_own_bound() -> None:
    model = Model("lp")
    x = model.continuous("x")
    model.add(x >= 2)
    model.minimise(x + 0)
    result = model.solve(Effort())
    assert (result.objective, result.bound, result.gap) == (2.0, 2.0, 0.0)


def test_infeasible() -> None:
    model = Model("impossible")
    x = model.binary("x")
    model.add(x >= 2)
    model.minimise(x + 0)
    with pytest.raises(Infeasible, match="impossible: no feasible"):
        model.solve(Effort())


def test_node_limit_with_incumbent_shows_its_gap() -> None:
    limited = knapsack().solve(Effort(nodes=1))
    full = knapsack().solve(Effort())
    assert (limited.status, full.status) == ("node limit", "optimal")
    assert limited.gap > 0
    assert limited.bound <= full.objective <= limited.objective
    assert limited.gap == pytest.approx(abs(limited.bound / limited.objective - 1))


def test_relative_gap_stops_early() -> None:
    result = knapsack().solve(Effort(gap=0.01))
    assert result.status == "optimal"
    assert result.gap <= 0.01


def test_node_limit_without_incumbent() -> None:
    """Market split: equations over binaries, where no heuristic finds a point."""
    rng = np.random.default_rng(1)
    model = Model("market_split")
    x = [model.binary(f"x_{i}") for i in range(30)]
    for row in rng.integers(0, 100, (4, 30)).tolist():
        terms = model.sum(a * v for a, v in zip(row, x, strict=True))
        model.add(terms == sum(row) // 2)
    model.minimise(model.sum(x))
    with pytest.raises(NoIncumbent, match="in 10 nodes"):
        model.solve(Effort(nodes=10))


def test_unbounded_is_an_error_of_the_program() -> None:
    model = Model("unbounded")
    x = model.continuous("x")
    model.minimise(-1 * x)
    with pytest.raises(RuntimeError, match="Unbounded"):
        model.solve(Effort())


def test_same_program_same_plan() -> None:
    assert knapsack().solve(Effort(nodes=5)) == knapsack().solve(Effort(nodes=5))


@pytest.mark.parametrize("bad", [{"nodes": 0}, {"gap": -0.1}])
def test_effort_is_checked(bad: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="effort"):
        Effort(**bad)  # type: ignore[arg-type]


def test_gap_of_zero_objective() -> None:
    assert outcome("optimal", 0.0, 0.0).gap == 0.0
    assert outcome("node limit", 0.0, -1.0).gap == float("inf")


def test_unit_ignores_infinities() -> None:
    assert unit_of([1.0, np.inf], np.array([[-4.0]])) == 4.0
    assert unit_of([], [0.0]) == 1.0
