"""The kit catches a policy that breaks a law, for each law, and says what is wrong."""

import itertools
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import pytest

from infsim.cluster.cluster import Cluster
from infsim.cost.costs import Costs
from infsim.errors import PolicyError
from infsim.model.deployment import Deployment
from infsim.policy.batching.continuous import Continuous
from infsim.policy.interface import (
    Action,
    Batching,
    BatchView,
    Delivery,
    DeliveryView,
    Forward,
    Iteration,
    Loss,
    Placement,
    Plan,
    PromptView,
    Recovery,
    ReplicaView,
    Request,
    Router,
    RoutingView,
    Serve,
    Stage,
)
from infsim.policy.routing.least_loaded import LeastLoaded
from infsim.testing import check_batching, check_delivery, check_placement, check_policy

FIRST = ["replicas"]


def broken(kind: str, policy: Any, law: str, *texts: str, experiment: str = "replicas") -> None:
    """Check that the kit names the law, the policy, the experiment, and more."""
    with pytest.raises(AssertionError) as caught:
        check_policy(kind, policy, experiments=[experiment])
    message = str(caught.value)
    for text in (f"breaks {law} (", type(policy).__name__, repr(experiment), *texts):
        assert text in message


# --- L1


@dataclass
class Starve(Batching):
    """Never admits the request with the id 7."""

    def plan(self, view: BatchView) -> Iteration:
        allowed = [prompt for prompt in view.waiting if prompt.request.request_id != 7]
        if view.prefilling or not allowed or not view.fits([], allowed[0]):
            return Iteration([(prompt, prompt.remaining_tokens) for prompt in view.prefilling])
        return Iteration([(allowed[0], allowed[0].remaining_tokens)])


def test_a_request_that_never_ends() -> None:
    broken("batching", Starve(), "L1", "request 7 never ended")


# --- L2


@dataclass
class Backdate(Router):
    """Changes what it was only shown."""

    def route(self, request: Request, view: RoutingView) -> ReplicaView:
        request.arrival_s += 1.5
        return view.replicas[0]


def test_times_that_are_not_causal() -> None:
    broken("routing", Backdate(), "L2", "request 0: start_s", "is before arrival_s")


# --- L3


@dataclass
class Overfull(Placement):
    """Puts the whole model on the first node, whatever its memory."""

    def place(self, deployment: Deployment, cluster: Cluster, costs: Costs) -> Plan:
        everything = tuple(range(len(deployment.model.graph.operators)))
        return Plan((Stage(deployment.nodes[0], everything),), ((0,),))


def test_memory_that_does_not_suffice() -> None:
    broken("placement", Overfull(), "L3", "lacks 0.01 GiB", experiment="small nodes")


def test_a_model_that_fits_nowhere_must_be_refused() -> None:
    with pytest.raises(AssertionError, match=r"'too large', in which nothing fits.*Infeasible"):
        check_placement(Overfull(), experiments=["too large"])


# --- L5


@dataclass
class Remember(Router):
    """Keeps its turns in the class, so that they outlive a run."""

    turns: ClassVar[Any] = itertools.count()

    def route(self, request: Request, view: RoutingView) -> ReplicaView:
        turn: int = next(self.turns)
        return view.replicas[turn % 7 % len(view.replicas)]


def test_state_that_outlives_a_run() -> None:
    broken("routing", Remember(), "L5", " at first, ", " again")


@dataclass
class FirstCome(Placement):
    """Answers something else when it is asked again."""

    calls: ClassVar[Any] = itertools.count()

    def place(self, deployment: Deployment, cluster: Cluster, costs: Costs) -> Plan:
        everything = tuple(range(len(deployment.model.graph.operators)))
        node = deployment.nodes[next(self.calls) % 3]
        return Plan((Stage(node, everything),), ((0,),))


def test_a_placement_that_is_not_pure() -> None:
    broken("placement", FirstCome(), "L5", "the plan is", experiment="large nodes")


# --- L6


@dataclass
class Peek(Continuous):
    """Serves the shortest output first, which it reads from the engine's own object."""

    def plan(self, view: BatchView) -> Iteration:
        outputs = [getattr(prompt, "ticket", None) for prompt in view.waiting]
        return super().plan(view) if outputs else Iteration()


def test_reading_what_is_not_declared() -> None:
    broken("batching", Peek(), "L6", "it reads PromptView.ticket, which is not part of the view")


@dataclass
class Spy(Batching):
    """Serves the shortest output first, which it finds in the engine that asks."""

    def plan(self, view: BatchView) -> Iteration:
        prompts: Sequence[PromptView] = view.prefilling or view.waiting
        if not prompts:
            return Iteration()
        shortest = min(prompts, key=self.output_tokens)
        if not view.prefilling and not view.fits([], shortest):
            return Iteration()
        return Iteration([(shortest, shortest.remaining_tokens)])

    def output_tokens(self, prompt: PromptView) -> int:
        frame = sys._getframe()
        while not hasattr(frame.f_locals.get("self"), "engine"):
            assert frame.f_back is not None
            frame = frame.f_back
        tokens: int = (
            frame.f_locals["self"].engine.desk.open[prompt.request.request_id].output_tokens
        )
        return tokens


def test_knowing_the_output_beforehand() -> None:
    broken("batching", Spy(), "L6", "it answers plan(", "are longer")


# --- L7


@dataclass
class Curfew(Router):
    """Changes its mind at a time that no parameter tells."""

    def route(self, request: Request, view: RoutingView) -> ReplicaView:
        return view.replicas[0 if view.now < 1.0 else -1]


@dataclass
class Opening(Curfew):
    """The same, with a parameter."""

    at_s: float = 1.0

    def route(self, request: Request, view: RoutingView) -> ReplicaView:
        return view.replicas[0 if view.now < self.at_s else -1]


def test_a_time_in_the_code() -> None:
    broken("routing", Curfew(), "L7", "replica is", "with all times doubled")


def test_a_time_as_a_parameter() -> None:
    check_policy("routing", Opening(), experiments=FIRST)


# --- L8


# (no view names a node, so that only a placement can break this law)


@dataclass
class Alphabetical(Placement):
    def place(self, deployment: Deployment, cluster: Cluster, costs: Costs) -> Plan:
        everything = tuple(range(len(deployment.model.graph.operators)))
        node = min(deployment.nodes, key=lambda i: cluster.nodes[i].name)
        return Plan((Stage(node, everything),), ((0,),))


def test_a_placement_by_name() -> None:
    broken("placement", Alphabetical(), "L8", "Plan(", experiment="large nodes")


# --- L10


@dataclass
class Unsteady(Continuous):
    """Says that its answers do not change, and changes them every third time."""

    steady: ClassVar[bool] = True
    asked: int = field(default=0, init=False)

    def plan(self, view: BatchView) -> Iteration:
        self.asked += 1
        if self.asked % 3 and view.decoding and not view.prefilling:
            return Iteration()
        return super().plan(view)


def test_a_policy_that_only_says_it_is_steady() -> None:
    broken("batching", Unsteady(), "L10", " in the reference engine, ")


# --- nonsense


@dataclass
class Raises(LeastLoaded):
    def route(self, request: Request, view: RoutingView) -> ReplicaView:
        if request.request_id == 3:
            raise KeyError("zone")
        return super().route(request, view)


def test_a_policy_that_raises() -> None:
    with pytest.raises(PolicyError, match=r"request 3.*KeyError") as caught:
        check_policy("routing", Raises(), experiments=FIRST)
    assert caught.value.policy == "Raises"
    assert "in the experiment 'replicas'" in caught.value.__notes__[0]


@dataclass
class Twice(Batching):
    def plan(self, view: BatchView) -> Iteration:
        prompts = [*view.prefilling, *view.waiting]
        return Iteration([(prompts[0], 1), (prompts[0], 1)])


@dataclass
class Crowd(Batching):
    """Admits everyone, whether they fit or not."""

    def plan(self, view: BatchView) -> Iteration:
        prompts = [*view.prefilling, *view.waiting]
        return Iteration([(prompt, prompt.remaining_tokens) for prompt in prompts])


@pytest.mark.parametrize("policy", [Twice(), Crowd()])
def test_answers_that_make_no_sense(policy: Batching) -> None:
    with pytest.raises(PolicyError) as caught:
        check_batching(policy)
    assert caught.value.kind == "batching"


@dataclass
class PassOn(Delivery):
    def decide(self, request: Request, view: DeliveryView) -> Serve | Forward:
        return Forward(1 if view.here == 0 else 0)


def test_a_request_that_is_passed_on_for_ever() -> None:
    with pytest.raises(PolicyError, match="32 decisions"):
        check_delivery(PassOn(), experiments=FIRST)


@dataclass
class Impatient(Batching):
    """Asks to be asked again at once, and does nothing then."""

    def plan(self, view: BatchView) -> Iteration:
        return Iteration(wake_s=view.now + 1e-7)


def test_a_policy_that_keeps_asking() -> None:
    with pytest.raises(AssertionError, match=r"'Impatient' makes no progress.*50000 times"):
        check_batching(Impatient(), experiments=FIRST)


@dataclass
class GiveUp(Recovery):
    def recover(self, loss: Loss) -> Action:
        return Action.FAIL


def test_giving_up_is_allowed() -> None:
    check_policy("recovery", GiveUp, experiments=["volatile replicas"])
