"""What the engine runs: one alternative, one replication."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from infsim.cluster.cluster import Cluster
from infsim.cost.costs import Costs
from infsim.errors import InputError
from infsim.model.deployment import Deployment
from infsim.policy.interface import Batching, Delivery, Plan, Recovery, Router
from infsim.rng import Streams
from infsim.workload.requests import Workload

if TYPE_CHECKING:
    from infsim.cost.accuracy import AccuracyTable
    from infsim.workload.closed_loop import ClosedLoop


@dataclass(frozen=True)
class Settings:
    """Rules of the engine that a scenario may choose; see ``docs/explanation/engine.md``.

    Attributes
    ----------
    block_tokens : int
        Tokens of a KV block.
    staleness_s : float
        Interval at which policies see the state of the cluster; 0 shows it as it is.
    detection_s : float
        Time from a loss to its detection.
    transfer : {"push", "relay"}
        Activations go from node to node, or by way of the client.
    sharing : {"fifo", "max-min"}
        How messages share uplinks, links and downlinks.
    prefix_cache : bool
        Whether KV blocks of equal prompt prefixes are shared, and those of preempted requests
        kept while there is room.
    plan_ahead : bool
        Whether an iteration is planned while the one before it runs.
    horizon_s : float or None
        The run ends here at the latest.
    drain_s : float
        The run ends at the latest this long after the last arrival.
    max_attempts : int
        A request that lost its work more often fails.
    token_bytes : int
        Bytes of one token on the wire.
    request_bytes : int or None
        Bytes of a whole request, for models whose input is not tokens.
    """

    block_tokens: int = 16
    staleness_s: float = 0.0
    detection_s: float = 1.0
    transfer: Literal["push", "relay"] = "push"
    sharing: Literal["fifo", "max-min"] = "fifo"
    prefix_cache: bool = False
    plan_ahead: bool = False
    horizon_s: float | None = None
    drain_s: float = 86400.0
    max_attempts: int = 10
    token_bytes: int = 4
    request_bytes: int | None = None


@dataclass(frozen=True)
class Experiment:
    """Everything that one run of the engine needs, built by ``infsim.scenario.build``.

    ``plans[i]`` places ``deployments[i]``. ``accuracy`` judges answers (test split),
    ``accuracy_validation`` is what policies may have learnt from.
    """

    cluster: Cluster
    deployments: tuple[Deployment, ...]
    plans: tuple[Plan, ...]
    costs: Costs
    workload: Workload | ClosedLoop
    router: Router
    batching: Batching
    delivery: Delivery
    recovery: Recovery
    streams: Streams
    settings: Settings = field(default_factory=Settings)
    accuracy: AccuracyTable | None = None
    accuracy_validation: AccuracyTable | None = None


def check_plan_ahead(experiment: Experiment) -> None:
    """Raise `InputError` where iterations are to be planned ahead and cannot be.

    What the next iteration holds is known before the present one ends only where a node
    computes all of a deployment, and nothing else.
    """
    if not experiment.settings.plan_ahead:
        return
    nodes = [stage.node for plan in experiment.plans for stage in plan.stages]
    whole = all(
        plan.pipelines is not None and all(len(pipeline) == 1 for pipeline in plan.pipelines)
        for plan in experiment.plans
    )
    if not whole or len(nodes) != len(set(nodes)):
        raise InputError("plan_ahead needs nodes that each hold one whole deployment")
    if not experiment.batching.steady:
        raise InputError("plan_ahead needs a steady batching policy, such as 'continuous'")
