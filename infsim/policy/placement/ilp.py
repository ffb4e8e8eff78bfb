"""Placements by integer programming: which nodes, in which order, how many layers."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from infsim.policy.interface import Placement, Plan
from infsim.policy.placement.bottleneck import Layers, bottleneck_ilp
from infsim.policy.placement.instance import (
    Instance,
    Layered,
    Pipeline,
    chain_plan,
    require_chain,
    require_positive,
    solver_notes,
    spans,
    with_room_for,
)
from infsim.policy.placement.latency import minimum_latency, short_order
from infsim.policy.placement.milp import Effort, Infeasible, NoIncumbent, Outcome
from infsim.registry import register

if TYPE_CHECKING:
    from infsim.cluster.cluster import Cluster
    from infsim.cost.costs import Costs
    from infsim.model.deployment import Deployment

Solved = tuple[list[Pipeline], list[Outcome]]


@dataclass
class _Program(Placement):
    """What the integer programs share.

    Without ``replicas`` a node that holds the whole model is a replica by itself, and the others
    form as many pipelines as are found to fit; with it, all nodes form so many pipelines.

    Attributes
    ----------
    replicas : int or None
        Pipelines to make at most; as many as fit if None.
    batch : int
        Sequences of a step: it prices the layers, and their KV cache must fit beside the
        weights; halved until the model fits.
    answer_tokens : int
        Tokens of an answer, over which the delays to and from the client are spread.
    node_limit : int
        Branch-and-bound nodes of one program.
    gap : float
        Relative gap to the proven bound at which the solver may stop.
    seed : int
        Seed of the solver.
    """

    replicas: int | None = None
    batch: int = 8
    answer_tokens: int = 128
    node_limit: int = 300
    gap: float = 0.02
    seed: int = 0

    def __post_init__(self) -> None:
        require_positive(self, "replicas", "batch", "answer_tokens")
        self._effort = Effort(self.node_limit, self.gap, self.seed)

    def place(self, deployment: Deployment, cluster: Cluster, costs: Costs) -> Plan:
        instance = Instance(deployment, cluster, costs, self.batch)
        require_chain(instance)
        return with_room_for(instance, self._plan)

    def _plan(self, instance: Instance) -> Plan:
        nodes = instance.deployment.nodes
        chain = Layered.of(instance, nodes)
        everyone = range(len(nodes))
        alone = [i for i in everyone if self.replicas is None and chain.room.only[i]]
        others = [i for i in everyone if i not in alone and chain.room.most[i]]
        pipelines: list[Pipeline] = [[(nodes[i], 0, chain.layers)] for i in alone]
        outcomes: list[Outcome] = []
        try:
            made, outcomes = self.solve(instance, chain.take(others))
            pipelines += made
        except NoIncumbent as error:
            if not pipelines:
                raise instance.infeasible(nodes, str(error)) from error
        if not pipelines:
            raise instance.infeasible(nodes, "no pipeline of these nodes holds the chain")
        notes = {"replicas": len(pipelines), **solver_notes(outcomes, "s")}
        return chain_plan(pipelines, notes)

    @abstractmethod
    def solve(self, instance: Instance, chain: Layered) -> Solved:
        """Return the pipelines, none if none fits, and how the solver ended."""


@register("placement", "ilp-bottleneck")
@dataclass
class IlpBottleneck(_Program):
    """The slowest node of all as fast as possible: the throughput of pipelines (integer program).

    Nodes may come in any order. One program shares the nodes out among all pipelines so that the
    slowest is as fast as possible; then each pipeline is solved by itself, and its inner nodes
    are ordered for short hops. Fewer pipelines (``replicas``) are deeper: their throughput is
    about the same and their latency larger, so compare both. See `bottleneck.bottleneck_ilp`.
    """

    def solve(self, instance: Instance, chain: Layered) -> Solved:
        """Solve for the largest number of pipelines that is found to fit."""
        most = int(chain.room.most.sum()) // chain.layers
        wanted = self.replicas or max(chain.room.packed(chain.layers), 1)
        stuck: NoIncumbent | None = None
        for pipelines in range(min(wanted, most), 0, -1):
            try:
                shared = self._bottleneck(chain, pipelines)
            except NoIncumbent as error:
                stuck = error
            except Infeasible:
                continue
            else:
                members = [[i for i, k in enumerate(counts) if k] for counts in shared.counts]
                made = [self._alone(instance, chain.take(nodes)) for nodes in members]
                return made, [shared.outcome]
        if stuck is not None:
            raise stuck
        return [], []

    def _alone(self, instance: Instance, chain: Layered) -> Pipeline:
        """Solve for one pipeline of all these nodes, and order them."""
        found = self._bottleneck(chain, 1)
        (counts,), ((first, last),) = found.counts, found.ends
        middle = [i for i, k in enumerate(counts) if k and i not in (first, last)]
        order = short_order(first, middle, last, chain.delays(instance, self.answer_tokens))
        return _stages(chain, order, [counts[i] for i in order])

    def _bottleneck(self, chain: Layered, pipelines: int) -> Layers:
        return bottleneck_ilp(
            chain.layer_s,
            chain.room,
            chain.layers,
            overheads=chain.overhead_s,
            last_s=chain.last_s,
            pipelines=pipelines,
            effort=self._effort,
        )


@register("placement", "ilp-latency")
@dataclass
class IlpLatency(_Program):
    """The least time from token to token of a pipeline, compute and network (integer program).

    Pipelines are made one after the other, each the best that the nodes left over can make. A
    step goes through all nodes and back to the first; the client's delays are spread over
    ``answer_tokens``. See `latency.minimum_latency`.
    """

    def solve(self, instance: Instance, chain: Layered) -> Solved:
        """Solve for one pipeline after the other."""
        made: list[Pipeline] = []
        outcomes: list[Outcome] = []
        left = chain
        while left.nodes and (self.replicas is None or len(made) < self.replicas):
            try:
                delays = left.delays(instance, self.answer_tokens)
                route = minimum_latency(left.layer_s, left.room, left.layers, delays, self._effort)
            except Infeasible:
                break
            except NoIncumbent:
                if not made:
                    raise
                break
            made.append(_stages(left, route.order, route.layers))
            outcomes.append(route.outcome)
            left = left.take([i for i in range(len(left.nodes)) if i not in route.order])
        return made, outcomes


def _stages(chain: Layered, order: Sequence[int], counts: Sequence[int]) -> Pipeline:
    return spans([chain.nodes[i] for i in order], counts)
