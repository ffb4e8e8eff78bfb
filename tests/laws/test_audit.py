"""The audit at the end of a run: what does not add up is an error, not a result."""

from __future__ import annotations

from collections.abc import Callable
from math import inf, nan

import pytest

from infsim.engine.experiment import Experiment
from infsim.engine.reference import simulate_reference
from infsim.engine.simulation import Simulation, simulate
from infsim.errors import ConservationError, CostError
from infsim.results.recorder import RunRecord
from tests.experiments import Shape, build
from tests.fakes import LinearStepCost


def lose_a_token(simulation: Simulation) -> None:
    simulation.engine.tokens_made += 1


def lose_bytes(simulation: Simulation) -> None:
    simulation.engine.transport.sent[0] += 1000.0


def keep_memory(simulation: Simulation) -> None:
    simulation.engine.nodes[0].memory.used += 1


def exceed_memory(simulation: Simulation) -> None:
    simulation.engine.nodes[0].memory.peak = simulation.engine.nodes[0].memory.capacity + 1


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lose_a_token, "tokens were made"),
        (lose_bytes, "neither received nor lost"),
        (keep_memory, "still holds 1 bytes"),
        (exceed_memory, "bytes of KV memory"),
    ],
)
@pytest.mark.parametrize("layout", ["pipelines", "mesh"])
def test_what_does_not_add_up_is_an_error(
    damage: Callable[[Simulation], None], said: str, layout: str
) -> None:
    simulation = Simulation(build(Shape(seed=3, layout=layout, churn="trace")))
    loop = simulation._loop

    def damaged() -> None:
        loop()
        damage(simulation)

    simulation._loop = damaged  # type: ignore[method-assign]
    with pytest.raises(ConservationError, match=said):
        simulation.run()


@pytest.mark.parametrize("layout", ["pipelines", "mesh", "graph"])
@pytest.mark.parametrize("recovery", ["restart", "replay", "in-turn"])
def test_what_adds_up_is_none(layout: str, recovery: str) -> None:
    shape = Shape(seed=5, layout=layout, churn="renewal", recovery=recovery, delivery="wander")
    Simulation(build(shape)).run()


@pytest.mark.parametrize("run", [simulate, simulate_reference])
@pytest.mark.parametrize("layout", ["pipelines", "mesh"])
@pytest.mark.parametrize("duration_s", [-1.0, inf, nan])
def test_a_time_that_no_iteration_can_take_is_an_error(
    run: Callable[[Experiment], RunRecord],
    layout: str,
    duration_s: float,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    experiment = build(Shape(seed=3, layout=layout))
    monkeypatch.setattr(LinearStepCost, "step_s", lambda *_: duration_s)
    with pytest.raises(CostError, match=f"lasts {duration_s} s"):
        run(experiment)
