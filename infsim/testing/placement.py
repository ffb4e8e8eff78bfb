"""Check placements: plans that hold the model, fit the memory, and do not change on a whim."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from infsim.cluster.cluster import Cluster
from infsim.cost.costs import Costs
from infsim.engine.experiment import Experiment
from infsim.engine.paths import check_plan
from infsim.errors import InfeasibleError, InputError, PolicyError
from infsim.model.deployment import Deployment
from infsim.model.model import Model
from infsim.policy.interface import Plan
from infsim.testing import laws
from infsim.testing.experiments import (
    OPERATORS,
    cluster,
    deployment,
    experiment,
    language_model,
    node,
    requests,
    stream_model,
)
from infsim.testing.variants import FACTOR, renamed, scaled


@dataclass(frozen=True)
class Task:
    """Something to place.

    Attributes
    ----------
    model : Model
    layers : tuple of int
        How many layers, with the KV of some requests, each node holds.
    banned : tuple of int
        Nodes that the deployment may not use.
    feasible : bool
        Whether there is a plan at all.
    """

    model: Callable[[], Model]
    layers: tuple[int, ...]
    banned: tuple[int, ...] = ()
    feasible: bool = True

    def build(self) -> tuple[Deployment, Cluster]:
        """Return what is to be placed, and where."""
        place = cluster([node(i, layers) for i, layers in enumerate(self.layers)])
        everywhere = deployment(place, self.model())
        allowed = tuple(i for i in everywhere.nodes if i not in self.banned)
        return replace(everywhere, nodes=allowed), place


TASKS: Mapping[str, Task] = {
    "large nodes": Task(language_model, (OPERATORS + 1, OPERATORS + 2, OPERATORS + 1)),
    "small nodes": Task(language_model, (3, 2, 4, 2, 3)),
    "some nodes": Task(language_model, (3, 9, 4, 2, 3), banned=(1,)),
    "stream": Task(stream_model, (3, 2, 4)),
    "too large": Task(lambda: language_model(12), (2, 3, 2), feasible=False),
}


def check_plans(
    name: str, policy: Any, tasks: Sequence[str] | None = None, *, reference: bool = True
) -> None:
    """Place small models and check the plans, and runs with them.

    Parameters
    ----------
    name : str
        Of the policy, for messages.
    policy : Placement
        Copied for every question.
    tasks : sequence of str, optional
        Keys of `TASKS`; default all.
    reference : bool
        Whether to run the plans in the reference engine as well.

    Raises
    ------
    AssertionError, PolicyError
        If a law is broken, or the policy raises; says which and where.
    """
    for task in tasks if tasks is not None else TASKS:
        _check(name, policy, task, reference)


def _check(name: str, policy: Any, task: str, reference: bool) -> None:
    what, place = TASKS[task].build()
    if not TASKS[task].feasible:
        _check_refusal(name, policy, task, what, place)
        return
    plan = _place(name, policy, task, what, place)
    if plan is None:
        return
    check_plan(name, what, plan)
    try:
        Costs(place).reserve(what, plan.stages)
    except InputError as error:
        raise _broken(name, "L3", task, str(error)) from error
    again = _place(name, policy, task, what, place)
    _require_same(name, "L5", task, plan, again)
    run = replace(experiment(place, plan, requests(12, 0.4), model=what.model), deployments=(what,))
    _require_same(name, "L7", task, plan, _place_in(name, policy, task, scaled(run, FACTOR)))
    _require_same(name, "L8", task, plan, _place_in(name, policy, task, renamed(run)))
    _check_run(name, task, run, reference)


def _place(name: str, policy: Any, task: str, what: Deployment, place: Cluster) -> Plan | None:
    """Return the plan; None if the policy says that it only places chains."""
    try:
        plan = copy.deepcopy(policy).place(what, place, Costs(place))
    except InfeasibleError as error:
        raise AssertionError(
            f"placement policy {name!r} finds no plan for the task {task!r}, which has one: {error}"
        ) from error
    except InputError:
        if what.model.graph.is_chain:
            raise
        return None
    except Exception as error:
        reason = f"place() raised {type(error).__name__}: {error}"
        raise PolicyError("placement", name, None, f"{reason} (task {task!r})") from error
    if not isinstance(plan, Plan):
        raise PolicyError("placement", name, None, f"place() must return a Plan, got {plan!r}")
    return plan


def _place_in(name: str, policy: Any, task: str, run: Experiment) -> Plan | None:
    return _place(name, policy, task, run.deployments[0], run.cluster)


def _check_refusal(name: str, policy: Any, task: str, what: Deployment, place: Cluster) -> None:
    try:
        plan = copy.deepcopy(policy).place(what, place, Costs(place))
    except InfeasibleError as error:
        if "GiB" not in str(error):
            raise AssertionError(
                f"placement policy {name!r} refuses the task {task!r} without saying how much"
                f" memory is missing, in GiB: {error}"
            ) from error
        return
    raise AssertionError(
        f"placement policy {name!r} answers the task {task!r}, in which nothing fits, with"
        f" {plan.stages}; expected an InfeasibleError that says what is missing"
    )


def _check_run(name: str, task: str, run: Experiment, reference: bool) -> None:
    """Serve some requests with the plan."""
    from infsim.engine.simulation import simulate

    record = simulate(run)
    _require(name, "L1", task, laws.conserved(record, run))
    _require(name, "L2", task, laws.causal(record))
    _require(name, "L3", task, laws.bounded(record))
    if reference:
        expected = simulate(run, engine="reference")
        whose = ("in the reference engine", "in the fast engine")
        _require(name, "L10", task, laws.same_results(expected, record, whose))


def _require(name: str, law: str, task: str, complaints: Iterable[str]) -> None:
    for complaint in complaints:
        raise _broken(name, law, task, complaint)


def _require_same(name: str, law: str, task: str, plan: Plan, other: Plan | None) -> None:
    if other is None or (plan.stages, plan.pipelines) != (other.stages, other.pipelines):
        raise _broken(name, law, task, f"the plan is {plan}, and then {other}")


def _broken(name: str, law: str, task: str, complaint: str) -> AssertionError:
    return AssertionError(
        f"placement policy {name!r} breaks {law} ({laws.LAWS[law]}) in the task {task!r}:"
        f" {complaint}"
    )
