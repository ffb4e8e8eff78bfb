"""Paths through placed operators: what follows what, and what crosses between."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from infsim.cost.costs import Costs
from infsim.cost.interface import StepCost
from infsim.errors import PolicyError
from infsim.model.deployment import Deployment
from infsim.policy.interface import Plan

HopKey = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True, eq=False)
class Hop:
    """Operators of a stage that a request computes there.

    Attributes
    ----------
    key : (deployment, stage, start, end)
        Identity, and the order in which hosts of a node take turns.
    stage : int
        Index into the stages of all plans, one after another, for the record.
    node : int
    share : float
        Its part of the deployment's operators.
    block_bytes : int
        KV bytes of one block of tokens.
    cost : StepCost
    """

    key: HopKey
    stage: int
    node: int
    share: float
    block_bytes: int
    cost: StepCost


@dataclass(frozen=True, slots=True, eq=False)
class Path:
    """Hops with a successor relation, in topological order; the first is the entry.

    Attributes
    ----------
    hops : tuple of Hop
    successors : tuple of tuple of (int, float)
        For each hop the positions that follow it and the bytes a token carries there.
    joins : tuple of int
        For each hop how many hops come before it.
    ends : int
        How many hops have no successor.
    nodes : tuple of int
        The nodes of the path, each once.
    """

    hops: tuple[Hop, ...]
    successors: tuple[tuple[tuple[int, float], ...], ...]
    joins: tuple[int, ...]
    ends: int
    nodes: tuple[int, ...] = field(default=())

    @property
    def entry(self) -> Hop:
        """Where prompts wait and batches are formed."""
        return self.hops[0]


class PathMaker:
    """Makes the hops and paths of one deployment, each once.

    Parameters
    ----------
    deployment, plan, costs : Deployment, Plan, Costs
    block_tokens : int
        Tokens of a KV block.
    first_stage : int
        Index of the plan's first stage among the stages of all plans.
    """

    def __init__(
        self,
        deployment: Deployment,
        plan: Plan,
        costs: Costs,
        block_tokens: int,
        first_stage: int,
    ) -> None:
        self.deployment = deployment
        self.plan = plan
        self._costs = costs
        self._block_tokens = block_tokens
        self._first_stage = first_stage
        self._hops: dict[HopKey, Hop] = {}
        self._chains: dict[tuple[HopKey, ...], Path] = {}

    def hop(self, stage: int, start: int, end: int) -> Hop:
        """The hop of operators ``[start, end)`` on a stage of a chain."""
        return self._hop(stage, tuple(range(start, end)))

    def _hop(self, stage: int, operators: tuple[int, ...]) -> Hop:
        key = (self.deployment.index, stage, operators[0], operators[-1] + 1)
        hop = self._hops.get(key)
        if hop is None:
            node = self.plan.stages[stage].node
            kv_bytes = self._costs.kv_bytes_per_token(self.deployment, operators)
            hop = Hop(
                key=key,
                stage=self._first_stage + stage,
                node=node,
                share=len(operators) / len(self.deployment.model.graph.operators),
                block_bytes=self._block_tokens * kv_bytes,
                cost=self._costs.step(node, self.deployment, operators),
            )
            self._hops[key] = hop
        return hop

    def edge_bytes(self, position: int) -> float:
        """Bytes a token carries into the operator at ``position`` of a chain."""
        return self._costs.activation_bytes(self.deployment, position - 1, position)

    def chain(self, hops: tuple[Hop, ...]) -> Path:
        """The path that follows these hops of a chain, one after the other."""
        key = tuple(hop.key for hop in hops)
        path = self._chains.get(key)
        if path is None:
            last = len(hops) - 1
            path = Path(
                hops=hops,
                successors=tuple(
                    ((i + 1, self.edge_bytes(hop.key[3])),) if i < last else ()
                    for i, hop in enumerate(hops)
                ),
                joins=(0, *([1] * last)),
                ends=1,
                nodes=tuple(dict.fromkeys(hop.node for hop in hops)),
            )
            self._chains[key] = path
        return path

    def pipeline(self, stages: tuple[int, ...]) -> Path:
        """The path of a dedicated replica, on any operator graph."""
        owner = {op: i for i, s in enumerate(stages) for op in self.plan.stages[s].operators}
        crossing: list[dict[int, float]] = [{} for _ in stages]
        joins = [0] * len(stages)
        for source, target, _ in self.deployment.model.graph.edges:
            i, j = owner[source], owner[target]
            if i != j:
                joins[j] += j not in crossing[i]
                size = self._costs.activation_bytes(self.deployment, source, target)
                crossing[i][j] = crossing[i].get(j, 0.0) + size
        hops = tuple(self._hop(s, self.plan.stages[s].operators) for s in stages)
        return Path(
            hops=hops,
            successors=tuple(tuple(sorted(targets.items())) for targets in crossing),
            joins=tuple(joins),
            ends=sum(not targets for targets in crossing),
            nodes=tuple(dict.fromkeys(hop.node for hop in hops)),
        )


def check_plan(policy: str, deployment: Deployment, plan: Plan) -> None:
    """Refuse a plan that cannot be run.

    Raises
    ------
    PolicyError
        Naming the stage or pipeline and what is wrong with it.
    """

    def wrong(reason: str) -> PolicyError:
        return PolicyError("placement", policy, None, f"deployment {deployment.name!r}: {reason}")

    graph = deployment.model.graph
    everything = range(len(graph.operators))
    if not plan.stages:
        raise wrong("the plan has no stages")
    for i, stage in enumerate(plan.stages):
        if stage.node not in deployment.nodes:
            raise wrong(f"stage {i} is on node {stage.node}, which the deployment may not use")
        if not stage.operators or list(stage.operators) != sorted(set(stage.operators)):
            raise wrong(f"stage {i} lists its operators not in order: {stage.operators}")
        if stage.operators[0] < 0 or stage.operators[-1] not in everything:
            raise wrong(f"stage {i} names operators outside of 0..{len(everything) - 1}")
        if graph.is_chain and stage.end - stage.start != len(stage.operators):
            raise wrong(f"stage {i} is not a contiguous part of the chain: {stage.operators}")
    if plan.pipelines is None:
        if not graph.is_chain:
            raise wrong("a mesh needs a chain of operators; name pipelines for a general graph")
        held = {operator for stage in plan.stages for operator in stage.operators}
        missing = [operator for operator in everything if operator not in held]
        if missing:
            raise wrong(f"no stage holds operators {missing}")
        return
    for i, pipeline in enumerate(plan.pipelines):
        _check_pipeline(wrong, deployment, plan, i, pipeline)
    if not plan.pipelines:
        raise wrong("the plan has no pipelines")


def _check_pipeline(
    wrong: Callable[[str], PolicyError],
    deployment: Deployment,
    plan: Plan,
    i: int,
    pipeline: tuple[int, ...],
) -> None:
    graph = deployment.model.graph
    if any(not 0 <= stage < len(plan.stages) for stage in pipeline):
        raise wrong(f"pipeline {i} names a stage that does not exist: {pipeline}")
    held = [operator for stage in pipeline for operator in plan.stages[stage].operators]
    if sorted(held) != list(range(len(graph.operators))):
        raise wrong(f"pipeline {i} does not hold every operator exactly once: {sorted(held)}")
    owner = {op: at for at, stage in enumerate(pipeline) for op in plan.stages[stage].operators}
    backwards = [(a, b) for a, b, _ in graph.edges if owner[a] > owner[b]]
    if backwards:
        raise wrong(f"pipeline {i} is not in topological order: operator edges {backwards}")
    fed = {owner[b] for a, b, _ in graph.edges if owner[a] != owner[b]}
    entries = [at for at in range(len(pipeline)) if at not in fed]
    if entries != [0]:
        raise wrong(f"pipeline {i} has {len(entries)} entries; all inputs must meet in one stage")
