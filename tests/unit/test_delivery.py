"""What each delivery policy answers when the view is known."""

from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from numpy.typing import NDArray

from infsim import registry
from infsim.cost.accuracy import LEVELS, AccuracyTable, ModelFacts
from infsim.engine.simulation import simulate
from infsim.policy.delivery.cascade import Cascade
from infsim.policy.delivery.forward_or_serve import ForwardOrServe
from infsim.policy.delivery.local import Local
from infsim.policy.delivery.remote import Remote
from infsim.policy.interface import Accept, Answer, Delivery, Serve
from infsim.testing.experiments import Given, requests, tiers
from infsim.testing.views import DeliverySight, DeploymentSight, request

SAMPLES = 1000
Levels = NDArray[np.uint16]


@pytest.fixture(scope="module")
def table() -> AccuracyTable:
    """Two models on 1000 samples.

    ``small`` is .999 sure and always right on the first 600, .6 sure and right on every fourth
    of the others; ``large`` is right on all but every tenth sample, wherever that is.
    """
    i = np.arange(SAMPLES)
    label = np.zeros(SAMPLES, dtype=np.uint8)
    small_right = (i < 600) | (i % 4 == 0)
    small = np.where(i < 600, 0.999, 0.6)
    large_right = i % 10 != 9
    levels = {
        "small": _levels(small, small_right),
        "large": _levels(np.full(SAMPLES, 0.9), large_right),
    }
    facts = {name: ModelFacts(1, 1, 1, 32) for name in levels}
    return AccuracyTable(Path("made-up"), "validation", label, facts, levels)


def _levels(confidence: NDArray[np.float64], right: NDArray[np.bool_]) -> Levels:
    first = np.where(right, confidence, 1 - confidence)
    levels: Levels = np.rint(np.column_stack([first, 1 - first]) * LEVELS).astype(np.uint16)
    return levels


DEVICE = DeploymentSight("device", 0, node=0, accuracy_model="small", service_s=0.02)
EDGE = DeploymentSight("edge", 1, node=1, accuracy_model="small", service_s=0.01)
CLOUD = DeploymentSight("cloud", 2, node=2, accuracy_model="large", service_s=0.03)


def sight(
    table: AccuracyTable | None = None,
    *deployments: DeploymentSight,
    here: int | None = 0,
    answers: tuple[Answer, ...] = (),
) -> DeliverySight:
    return DeliverySight(
        deployments or (DEVICE, EDGE, CLOUD),
        here=here,
        accuracy=table,
        answers=answers,
        delays_s=[0.0, 0.01, 0.05],
    )


def down(deployment: DeploymentSight) -> DeploymentSight:
    return DeploymentSight(
        deployment.name,
        deployment.index,
        deployment.node,
        up=False,
        accuracy_model=deployment.accuracy_model,
        queue_s=float("inf"),
        service_s=deployment.service_s,
    )


def answer(confidence: float | None, deployment: DeploymentSight = DEVICE) -> Answer:
    return Answer(deployment.index, deployment.node, confidence, 0)


class TestLocal:
    def test_where_the_request_is(self) -> None:
        assert Local().decide(request(), sight(here=1)) == Serve(1)

    def test_elsewhere_if_there_is_none(self) -> None:
        assert Local().decide(request(), sight(here=7)) == Serve(0)
        assert Local().decide(request(), sight(None, down(DEVICE), EDGE, CLOUD)) == Serve(1)

    def test_it_waits_where_it_is_if_all_are_down(self) -> None:
        assert Local().decide(request(), sight(None, down(DEVICE), down(EDGE))) == Serve(0)

    def test_answers_are_accepted(self) -> None:
        assert Local().review(request(), answer(0.1), sight()) == Accept()


class TestRemote:
    def test_by_name(self) -> None:
        assert Remote("edge").decide(request(), sight()) == Serve(1)

    def test_down_or_not(self) -> None:
        assert Remote("edge").decide(request(), sight(None, DEVICE, down(EDGE))) == Serve(1)

    def test_a_wrong_name(self) -> None:
        with pytest.raises(ValueError, match=r"no deployment 'egde'; did you mean 'edge'"):
            Remote("egde").decide(request(), sight())

    def test_the_most_accurate(self, table: AccuracyTable) -> None:
        assert Remote().decide(request(), sight(table)) == Serve(2)
        near = DeploymentSight("regional", 3, node=1, accuracy_model="large")
        assert Remote().decide(request(), sight(table, DEVICE, CLOUD, near)) == Serve(3)

    def test_nobody_knows_who_is_accurate(self) -> None:
        with pytest.raises(ValueError, match="name the deployment"):
            Remote().decide(request(), sight())
        assert Remote().decide(request(), sight(None, CLOUD)) == Serve(2)


class TestForwardOrServe:
    def test_serves_locally_first(self, table: AccuracyTable) -> None:
        assert ForwardOrServe(error_cost_s=100).decide(request(), sight(table)) == Serve(0)

    @pytest.mark.parametrize(("error_cost_s", "chosen"), [(0.45, 1), (0.55, 2)])
    def test_where_nobody_is_cost_decides(
        self, table: AccuracyTable, error_cost_s: float, chosen: int
    ) -> None:
        # mean accuracy .7 and .9: the edge costs 30 ms and .3 errors, the cloud 130 ms and .1
        policy = ForwardOrServe(error_cost_s=error_cost_s)
        view = sight(table, EDGE, CLOUD, here=None)
        assert policy.decide(request(), view) == Serve(chosen)

    # Unsure answers are right in 1/4, and the cloud on these in .9: the gain is .65. The cloud's
    # answer takes 2 * 50 ms + 30 ms = 130 ms, so that forwarding pays from an error of .2 s on.
    @pytest.mark.parametrize(
        ("error_cost_s", "confidence", "expected"),
        [
            (0.19, 0.6, Accept()),
            (0.21, 0.6, Serve(2)),
            (0.21, 0.999, Accept()),
            (100.0, 0.999, Accept()),
        ],
    )
    def test_gain_against_cost(
        self,
        table: AccuracyTable,
        error_cost_s: float,
        confidence: float,
        expected: Accept | Serve,
    ) -> None:
        policy = ForwardOrServe(error_cost_s=error_cost_s)
        assert policy.review(request(), answer(confidence), sight(table)) == expected

    def test_a_queue_and_a_price_hold_back(self, table: AccuracyTable) -> None:
        policy = ForwardOrServe(error_cost_s=0.3)  # 195 ms of gain
        busy = DeploymentSight("cloud", 2, 2, True, "large", queue_s=0.07, service_s=0.03)
        assert policy.review(request(), answer(0.6), sight(table)) == Serve(2)
        assert policy.review(request(), answer(0.6), sight(table, DEVICE, EDGE, busy)) == Accept()
        priced = ForwardOrServe(error_cost_s=0.3, offload_cost_s=0.07)
        assert priced.review(request(), answer(0.6), sight(table)) == Accept()

    @pytest.mark.parametrize(("threshold", "expected"), [(0.5, Accept()), (0.7, Serve(2))])
    def test_a_given_threshold(
        self, table: AccuracyTable, threshold: float, expected: Accept | Serve
    ) -> None:
        policy = ForwardOrServe(error_cost_s=1.0, threshold=threshold)
        assert policy.review(request(), answer(0.6), sight(table)) == expected

    def test_not_to_who_is_down_or_has_answered(self, table: AccuracyTable) -> None:
        policy = ForwardOrServe(error_cost_s=1.0)
        view = sight(table, DEVICE, EDGE, down(CLOUD))
        assert policy.review(request(), answer(0.6), view) == Accept()
        both = (answer(0.5, CLOUD), answer(0.6))
        assert policy.review(request(), both[-1], sight(table, answers=both)) == Accept()

    def test_without_confidence_there_is_nothing_to_weigh(self, table: AccuracyTable) -> None:
        assert ForwardOrServe().review(request(), answer(None), sight(table)) == Accept()
        assert ForwardOrServe().review(request(), answer(0.1), sight()) == Accept()

    def test_bad_parameters(self) -> None:
        with pytest.raises(ValueError, match="error_cost_s must be positive, got 0"):
            ForwardOrServe(error_cost_s=0)
        with pytest.raises(ValueError, match="offload_cost_s must not be negative"):
            ForwardOrServe(offload_cost_s=-1.0)
        with pytest.raises(ValueError, match=r"threshold must be 'auto' or in \[0, 1\], got 1.5"):
            ForwardOrServe(threshold=1.5)


class TestCascade:
    def test_from_the_least_accurate_up(self, table: AccuracyTable) -> None:
        policy = Cascade(threshold=0.8)
        view = sight(table, CLOUD, DEVICE)
        assert policy.decide(request(), view) == Serve(0)
        view = sight(table)
        assert policy.review(request(), answer(0.7), view) == Serve(2)
        assert policy.review(request(), answer(0.8), view) == Accept()
        assert policy.review(request(), answer(0.2, CLOUD), view) == Accept()

    def test_each_model_is_asked_once_where_it_answers_soonest(self, table: AccuracyTable) -> None:
        policy = Cascade()
        assert policy.decide(request(), sight(table)) == Serve(0)  # 20 ms against 30 at the edge
        assert policy.decide(request(), sight(table, down(DEVICE), EDGE, CLOUD)) == Serve(1)
        assert policy.review(request(), answer(0.1, EDGE), sight(table)) == Serve(2)

    def test_a_ladder_by_name(self) -> None:
        policy = Cascade(ladder=("device", "edge", "cloud"))
        view = sight()
        assert policy.decide(request(), view) == Serve(0)
        assert policy.review(request(), answer(0.1), view) == Serve(1)
        assert policy.review(request(), answer(0.1, EDGE), view) == Serve(2)
        assert policy.review(request(), answer(0.1, CLOUD), view) == Accept()

    def test_rungs_that_are_down_are_left_out(self) -> None:
        policy = Cascade(ladder=("device", "edge", "cloud"))
        view = sight(None, DEVICE, down(EDGE), CLOUD)
        assert policy.review(request(), answer(0.1), view) == Serve(2)
        view = sight(None, down(DEVICE), EDGE, CLOUD)
        assert policy.decide(request(), view) == Serve(1)
        view = sight(None, down(DEVICE), down(EDGE), down(CLOUD))
        assert policy.decide(request(), view) == Serve(0)

    def test_wrong_parameters(self) -> None:
        with pytest.raises(ValueError, match=r"threshold must be in \[0, 1\], got 2"):
            Cascade(threshold=2)
        with pytest.raises(ValueError, match="no deployment 'fog'"):
            Cascade(ladder=("fog",)).decide(request(), sight())


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"name": "forward-or-serve", "threshold": 0.7}, ForwardOrServe(threshold=0.7)),
        ({"name": "forward-or-serve", "threshold": "auto"}, ForwardOrServe()),
        ({"name": "cascade", "ladder": ["a", "b"]}, Cascade(ladder=("a", "b"))),
        ({"name": "remote", "deployment": "cloud"}, Remote("cloud")),
    ],
)
def test_parameters_of_a_scenario(spec: dict[str, object], expected: Delivery) -> None:
    assert registry.create("delivery", spec) == expected


def cost_s(delivery: Delivery, error_cost_s: float) -> float:
    """Return the mean cost of an answer in the tiers of the kit: delay, and price of errors."""
    experiment = tiers()
    table = requests(1000, 0.02, samples=200)
    workload = Given(replace(table, input_tokens=np.ones(len(table), dtype=np.int64)))
    rows = simulate(replace(experiment, delivery=delivery, workload=workload)).requests
    delay_s = rows["end_s"] - rows["arrival_s"]
    return float((delay_s + error_cost_s * (rows["correct"] == 0)).mean())


@pytest.mark.parametrize("error_cost_s", [0.02, 0.2, 1.0, 5.0])
@pytest.mark.parametrize("threshold", ["auto", 1.0])
def test_forwarding_costs_no_more_than_the_cheaper_baseline(
    error_cost_s: float, threshold: float | Literal["auto"]
) -> None:
    forward = cost_s(ForwardOrServe(error_cost_s, threshold=threshold), error_cost_s)
    baselines = [cost_s(Local(), error_cost_s), cost_s(Remote(), error_cost_s)]
    assert forward <= min(baselines)
    if error_cost_s == 0.2:  # both alternatives are worth something
        assert forward < 0.85 * min(baselines)
