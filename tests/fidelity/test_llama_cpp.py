"""The simulator against llama.cpp, which served the same requests."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from infsim.calibrate.fit.engine_steps import Steps, fit, predicted_s
from infsim.calibrate.llama_cpp import clock
from infsim.calibrate.llama_cpp.clock import Elasticity, Steadiness, SteadyClock
from infsim.calibrate.llama_cpp.server import DEFAULT_LIMITS, Server, trace
from infsim.cost.engine_steps import EngineStepCost
from infsim.engine.simulation import simulate
from infsim.fidelity.comparison import Row
from infsim.fidelity.served import Recording, compare_served
from infsim.paths import data_folder
from infsim.policy.batching.continuous import Continuous
from tests.fakes import LinearStepCost
from tests.fidelity.llama_cpp.weights import FORMATS
from tests.fidelity.serving import MadeUp, Run, agreeing
from tests.queues import Queue

RECORDED = data_folder("calibration/recorded") / "llama-cpp"

# a decode costs as much as a piece of one token: the engine cannot tell them apart
COST = LinearStepCost(2e-3, 4e-4, 1e-7, 1e-6, 4e-4, 1.1e-6, 1e-4)


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    """All figures, with the name of their run."""
    found = [compare_served(RECORDED / form) for form in FORMATS]
    return [row._replace(name=f"{run.name} {row.name}") for run in found for row in run.rows]


@given(rate=st.sampled_from([3.0, 30.0, 90.0, np.inf]), seed=st.integers(0, 2**31))
@settings(max_examples=10, deadline=None)
def test_the_simulator_batches_as_the_server_does(rate: float, seed: int) -> None:
    requests = trace(rate, 60, seed)
    pretended = MadeUp(COST)
    server = Server(pretended, 10, pretended)
    served = server.serve(requests, seed)
    queue = Queue(*requests, costs=(COST,), batching=Continuous(*DEFAULT_LIMITS))
    record = simulate(queue.experiment())
    for name in ("start_s", "first_token_s", "end_s"):
        real = [getattr(request, name) for request in served]
        np.testing.assert_allclose(record.requests[name], real, rtol=1e-9)
    assert record.nodes["iterations"][0] == len(server.steps)


@pytest.mark.parametrize("form", FORMATS)
def test_capacity_is_within_2_percent(rows: list[Row], form: str) -> None:
    (row,) = (row for row in rows if row.name == f"llama.cpp {form} capacity (requests/s)")
    assert row.error == pytest.approx(0, abs=0.02)


ASKED = {0.3: 0.05, 0.6: 0.05, 0.85: 0.1}
"""Largest error of a figure by load."""


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("load", ASKED)
def test_latencies_are_as_close_as_is_asked(rows: list[Row], form: str, load: float) -> None:
    start = f"llama.cpp {form} load {load:g} "
    own = [row for row in rows if row.name.startswith(start) and not row.name.endswith("MAPE")]
    assert len(own) == 15
    assert {row.name: row.error for row in own if abs(row.error) > ASKED[load]} == {}


@pytest.mark.parametrize("form", FORMATS)
def test_the_engine_repeats_itself(form: str) -> None:
    """Or else the errors would say nothing."""
    assert 0 < np.median(np.abs(Recording.load(RECORDED / form).repeated())) < 0.04


@cache
def fitted(form: str) -> EngineStepCost:
    return Recording.load(RECORDED / form).cost


@given(
    sequences=st.integers(1, DEFAULT_LIMITS.sequences),
    context=st.integers(1, 1200),
    form=st.sampled_from(FORMATS),
)
@settings(deadline=None)  # the first case fits
def test_a_line_of_decodes_is_the_step(sequences: int, context: int, form: str) -> None:
    cost = fitted(form)
    base_s, slope_s, limit = cost.decode_line(sequences, context)
    assert limit >= context
    for at in (context, limit):
        step_s = cost.step_s(0, 0, 0, sequences, at, sequences)
        assert step_s == pytest.approx(base_s + slope_s * at, rel=1e-12)
        assert step_s > 0


def test_the_fit_finds_the_mean_of_noisy_steps() -> None:
    """Noise of a fifth must not bias it: weights by what was measured would, by 4 %."""
    rng = np.random.default_rng(0)
    tokens = rng.integers(1, DEFAULT_LIMITS.tokens + 1, 4000).astype(float)
    decodes = np.concatenate([np.zeros(2000), rng.integers(1, DEFAULT_LIMITS.sequences + 1, 2000)])
    prompts = np.where(decodes == 0, tokens, 0.0)
    nothing = np.zeros(4000)
    exact_s = 1e-3 + 3e-4 * (prompts + decodes)
    noisy_s = exact_s * rng.gamma(25, 1 / 25, 4000)
    steps = Steps(prompts, nothing, prompts, decodes, decodes, decodes, noisy_s)
    assert predicted_s(fit(steps), steps).sum() == pytest.approx(exact_s.sum(), rel=0.01)


class Machine:
    """Computes a reference in a millisecond, or longer when others disturb it."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.slowness = 1.0

    def now(self) -> float:
        return self.now_s

    def compute(self, time_s: float = 1e-3) -> None:
        self.now_s += time_s * self.slowness


@pytest.mark.parametrize("elasticity", [1.0, 0.8])
def test_the_clock_does_not_see_how_slow_the_machine_is(elasticity: float) -> None:
    machine = Machine()
    steady = SteadyClock(machine.compute, machine.now)
    steady.elasticity = Elasticity(elasticity, 0.0)
    steady.watch()
    times_s = []
    for machine.slowness in [1.0] * 100 + [1.3] * 300:
        steady.start()
        machine.compute(5e-3 * machine.slowness ** (elasticity - 1))
        times_s.append(steady.stop(1))
        steady.refresh()
    assert times_s[:100] == pytest.approx([5e-3] * 100)
    assert times_s[100 + clock.RECENT :] == pytest.approx([5e-3] * (300 - clock.RECENT))
    steadiness = steady.watched()
    assert steadiness.slowdown == pytest.approx(1.3)
    assert steadiness.moved == pytest.approx(0.3)
    assert steadiness.longest_s == pytest.approx(5e-3 * 1.3**elasticity)


@pytest.mark.parametrize("true", [Elasticity(1.2, -0.1), Elasticity(0.8, 0.05)])
def test_it_is_learned_how_much_steps_slow_down(true: Elasticity) -> None:
    rng = np.random.default_rng(0)

    def repeats(tokens: NDArray[np.float64], *, still: bool) -> list[NDArray[np.float64]]:
        powers = np.array([true.of(int(n)) for n in tokens])
        found = []
        for _ in range(8):
            slow = np.repeat(rng.uniform(1, 1 if still else 1.4, 10), 50)
            scatter = rng.normal(1, 0.02, (2, 500))
            step_s, reference_s = 1e-4 * tokens * slow**powers, 6e-4 * slow
            found.append(np.column_stack([step_s * scatter[0], reference_s * scatter[1], tokens]))
        return found

    one, many = np.ones(500), rng.integers(5, 49, 500).astype(float)
    found = clock.elasticity([repeats(one, still=False), repeats(many, still=False)])
    for tokens in (1, 24, 48):
        assert found.of(tokens) == pytest.approx(true.of(tokens), abs=0.04)
    assert clock.elasticity([repeats(one, still=True), repeats(many, still=True)]) == (1.0, 0.0)


def test_of_the_times_that_a_trace_was_served_those_are_kept_that_agree() -> None:
    steadiness = Steadiness(slowdown=1.0, moved=0.0, longest_s=1e-3)
    runs = [
        Run(0.3, 1, time, trace(1.0, 3, 1), [], busy_s, steadiness)
        for time, busy_s in enumerate([2.0, 2.1, 2.011])
    ]
    assert agreeing(runs[:2]) == []
    assert agreeing(runs) == [runs[0], runs[2]]
