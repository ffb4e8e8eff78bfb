"""Where the operators of the deployments go: asking the placement, and checking its answer."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from hashlib import blake2b
from typing import Any

from infsim.cluster.cluster import Cluster
from infsim.cluster.node import Client, Node
from infsim.cost.costs import Costs
from infsim.errors import InfeasibleError, InfsimError, PolicyError
from infsim.model.deployment import Deployment
from infsim.policy.interface import Placement, Plan
from infsim.rng import Streams
from infsim.scenario.alternatives import Alternative
from infsim.scenario.build.blame import blame
from infsim.scenario.schema.electricity import Electricity, SeriesProfile
from infsim.units import format_quantity

_known: dict[tuple[type, str], tuple[Plan, ...]] = {}


def build_plans(
    alternative: Alternative,
    placement: Placement,
    deployments: tuple[Deployment, ...],
    cluster: Cluster,
    costs: Costs,
    streams: Streams,
) -> tuple[Plan, ...]:
    """Return one plan per deployment; each sees the memory that those before it left.

    A placement is a pure function, and may take long: what it answered in this process is kept.

    Raises
    ------
    InfeasibleError
        If a model fits nowhere; says what is missing.
    PolicyError
        If the placement fails, or its plan makes no sense.
    """
    # a class that was changed (in a file, in a notebook) is another class, and is asked anew
    key = (type(placement), _inputs(alternative, cluster, streams))
    if key not in _known:
        plans = []
        for deployment in deployments:
            require_memory(alternative, deployment, costs)
            plan = _plan(alternative, placement, deployment, cluster, costs)
            with blame(alternative, "policies", "placement"):
                costs = costs.reserve(deployment, plan.stages)
            plans.append(plan)
        _known[key] = tuple(plans)
    return _known[key]


def require_memory(alternative: Alternative, deployment: Deployment, costs: Costs) -> None:
    """Raise `InfeasibleError` if a model is larger than all its nodes together."""
    needed = costs.weight_bytes(deployment, range(len(deployment.model.graph.operators)))
    free = sum(costs.free_bytes(node) for node in deployment.nodes)
    if needed > free:
        path = ("deployments", deployment.index) if alternative.spec.deployments else ("model",)
        raise InfeasibleError(
            f"{deployment.name!r} needs {format_quantity(needed, 'memory')} for its weights,"
            f" its nodes ({len(deployment.nodes)}) have {format_quantity(free, 'memory')}:"
            f" {(needed - free) / 2**30:.2f} GiB are missing",
            where=alternative.where(*path),
        )


def _inputs(alternative: Alternative, cluster: Cluster, streams: Streams) -> str:
    """Return all that a placement may depend on, as text."""
    spec = alternative.spec
    named: Any = {"model", "format", "accuracy", "deployments", "cluster", "energy"}
    data = spec.model_dump(mode="json", include=named)
    # of what is drawn for each replication: electricity by its seed, the others by what came out
    electricity: list[Electricity] = [spec.energy, *spec.cluster.regions.values()]
    is_drawn = any(
        isinstance(entry, SeriesProfile)
        for each in electricity
        for entry in (each.carbon, each.price)
    )
    seed = (streams.seed, streams.replication) if is_drawn else None
    return json.dumps([data, spec.policies.placement, seed, _digest(cluster)])


def _digest(cluster: Cluster) -> str:
    """Return a digest of delays and rates, which may have been drawn."""
    ends: list[Node | Client] = [*cluster.nodes, *cluster.clients]
    lines = [(end.uplink_bytes_per_s, end.downlink_bytes_per_s) for end in ends]
    digest = blake2b(repr(lines).encode(), digest_size=16)
    digest.update(cluster.network.delay_s.tobytes())
    digest.update(cluster.network.bandwidth.tobytes())
    return digest.hexdigest()


def _plan(
    alternative: Alternative,
    placement: Placement,
    deployment: Deployment,
    cluster: Cluster,
    costs: Costs,
) -> Plan:
    """Ask for one plan."""
    entry = alternative.spec.policies.placement
    name = entry if isinstance(entry, str) else entry["name"]
    try:
        with blame(alternative, "policies", "placement"):
            plan = placement.place(deployment, cluster, costs)
    except InfsimError:
        raise
    except (Exception, SystemExit) as error:
        reason = f"it raised {type(error).__name__}: {error}"
        raise PolicyError("placement", name, None, reason) from error
    for problem in _problems(plan, deployment):
        raise PolicyError("placement", name, None, f"plan for {deployment.name!r}: {problem}")
    return plan


def _problems(plan: Any, deployment: Deployment) -> Iterable[str]:
    """Yield what is wrong with a plan."""
    if not isinstance(plan, Plan):
        yield f"{plan!r} is not a Plan"
        return
    everything = set(range(len(deployment.model.graph.operators)))
    for stage in plan.stages:
        if stage.node not in deployment.nodes:
            yield f"{stage} is on a node that it may not use"
        if not stage.operators or not everything.issuperset(stage.operators):
            yield f"{stage} holds operators that do not exist, or none"
    for path in [range(len(plan.stages))] if plan.pipelines is None else plan.pipelines:
        if not all(0 <= i < len(plan.stages) for i in path):
            yield f"pipeline {tuple(path)} names a stage that does not exist"
            return
        held = Counter(op for i in path for op in plan.stages[i].operators)
        if everything - held.keys():
            yield f"operators {sorted(everything - held.keys())} are nowhere"
        if plan.pipelines is not None and max(held.values()) > 1:
            yield f"pipeline {tuple(path)} holds an operator twice"
    if plan.pipelines is not None and not plan.pipelines:
        yield "it has no pipeline"
