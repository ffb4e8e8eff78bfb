"""From one alternative of a scenario to the experiment that the engine runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from infsim import registry
from infsim.cluster.cluster import Cluster
from infsim.cost.costs import Costs
from infsim.engine.experiment import Experiment, Settings
from infsim.errors import InputError
from infsim.model.deployment import Deployment
from infsim.rng import Streams
from infsim.scenario.alternatives import Alternative
from infsim.scenario.build.accuracy import build_accuracy
from infsim.scenario.build.blame import blame
from infsim.scenario.build.cluster import build_cluster, client_weights
from infsim.scenario.build.costs import require_use
from infsim.scenario.build.models import build_deployments
from infsim.scenario.build.plans import build_plans, require_memory
from infsim.scenario.build.roster import roster
from infsim.scenario.build.workload import build_workload
from infsim.scenario.scenario import Scenario

if TYPE_CHECKING:
    from infsim.cost.accuracy import AccuracyTable
    from infsim.workload.closed_loop import ClosedLoop
    from infsim.workload.requests import Workload


@dataclass(frozen=True)
class _Parts:
    """Everything but the plans, which may take long to make."""

    cluster: Cluster
    deployments: tuple[Deployment, ...]
    costs: Costs
    workload: Workload | ClosedLoop
    policies: dict[str, Any]
    accuracy: AccuracyTable | None
    streams: Streams


def build_experiment(
    scenario: Scenario, alternative: Alternative, replication: int = 0
) -> Experiment:
    """Build what the engine runs.

    Parameters
    ----------
    scenario : Scenario
    alternative : Alternative
        One of ``scenario.alternatives()``.
    replication : int
        Index of the replication; it chooses the random streams, the same for all alternatives.

    Raises
    ------
    InputError
        With the place in the scenario, for whatever it names that does not exist or fit.
    """
    parts = _parts(alternative, Streams(scenario.spec.seed, replication))
    policies = parts.policies
    return Experiment(
        cluster=parts.cluster,
        deployments=parts.deployments,
        plans=build_plans(
            alternative,
            policies["placement"],
            parts.deployments,
            parts.cluster,
            parts.costs,
            parts.streams,
        ),
        costs=parts.costs,
        workload=parts.workload,
        router=policies["routing"],
        batching=policies["batching"],
        delivery=policies["delivery"],
        recovery=policies["recovery"],
        streams=parts.streams,
        settings=build_settings(alternative),
        accuracy=parts.accuracy,
        accuracy_validation=None if parts.accuracy is None else parts.accuracy.validation,
    )


def check(scenario: Scenario) -> None:
    """Build all alternatives but for their plans, and read the first one's workload through.

    Raises
    ------
    InputError
        As `build_experiment`, for a damaged trace, and for costs that price nothing.
    """
    from infsim.workload.closed_loop import ClosedLoop

    require_use(scenario)
    for i, alternative in enumerate(scenario.alternatives()):
        parts = _parts(alternative, Streams(scenario.spec.seed))
        for deployment in parts.deployments:
            require_memory(alternative, deployment, parts.costs)
        if i == 0 and alternative.spec.workload.trace is not None:
            assert not isinstance(parts.workload, ClosedLoop)  # that is instead of a trace
            for _ in parts.workload.blocks(parts.streams):
                pass


def build_settings(alternative: Alternative) -> Settings:
    """Return the rules of the engine."""
    part = alternative.spec.engine
    return Settings(
        block_tokens=part.block_tokens,
        staleness_s=part.staleness,
        detection_s=part.detection,
        transfer=part.transfer,
        sharing=part.sharing,
        prefix_cache=part.prefix_cache,
        plan_ahead=part.plan_ahead,
        horizon_s=part.horizon,
        max_attempts=part.max_attempts,
        token_bytes=part.token_bytes,
        request_bytes=part.request_bytes,
        # "auto" is found from the results, the engine does not need it
    )


def _parts(alternative: Alternative, streams: Streams) -> _Parts:
    members = roster(alternative)
    cluster = build_cluster(alternative, members, streams)
    accuracy = build_accuracy(alternative)
    deployments = build_deployments(alternative, members, accuracy)
    _require_lengths(alternative, deployments)
    workload = build_workload(
        alternative,
        [client.name for client in cluster.clients],
        client_weights(alternative, members),
        None if accuracy is None else accuracy.samples,
    )
    policies = {}
    for kind in registry.KINDS:
        with blame(alternative, "policies", kind):
            policies[kind] = registry.create(kind, getattr(alternative.spec.policies, kind))
    costs = Costs(cluster, alternative.spec.costs)
    return _Parts(cluster, deployments, costs, workload, policies, accuracy, streams)


def _require_lengths(alternative: Alternative, deployments: Sequence[Deployment]) -> None:
    """Raise InputError if a model that generates is asked for outputs of unknown length."""
    part = alternative.spec.workload
    if part.trace is not None or part.lengths is not None:
        return
    for deployment in deployments:
        if deployment.model.generative:
            raise InputError(
                f"lengths are missing, and {deployment.model.name!r} generates tokens",
                where=alternative.where("workload"),
                hint="lengths: {input: 1000, output: 200}",
            )
