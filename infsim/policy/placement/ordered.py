"""Placements that take the nodes in the order of the scenario, and only decide where to cut."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from infsim.policy.interface import Placement, Plan
from infsim.policy.placement.chains import (
    bottleneck,
    minimum_sum,
    part_times,
    uniform,
    water_filling,
)
from infsim.policy.placement.instance import (
    Instance,
    Layered,
    Pipeline,
    chain_plan,
    require_chain,
    require_positive,
    spans,
    with_room_for,
)
from infsim.policy.placement.milp import Infeasible
from infsim.registry import register

if TYPE_CHECKING:
    from infsim.cluster.cluster import Cluster
    from infsim.cost.costs import Costs
    from infsim.model.deployment import Deployment


@register("placement", "uniform")
@dataclass
class Uniform(Placement):
    """Equal shares of the layers, whatever the nodes can do: the baseline.

    The chain is cut into as few equal parts as needed for one pipeline to fit, and the nodes,
    in the order of the scenario, take one part each; a node too small for the part that is next
    is left out. Pipelines repeat as long as there are nodes.

    Attributes
    ----------
    replicas : int or None
        Pipelines to make at most; as many as fit if None.
    stages : int or None
        Parts of a pipeline; as few as needed if None.
    batch : int
        Sequences whose KV cache must fit beside the weights; halved until the model fits.
    """

    replicas: int | None = None
    stages: int | None = None
    batch: int = 8

    def __post_init__(self) -> None:
        require_positive(self, "replicas", "stages", "batch")

    def place(self, deployment: Deployment, cluster: Cluster, costs: Costs) -> Plan:
        instance = Instance(deployment, cluster, costs, self.batch)
        require_chain(instance)
        return with_room_for(instance, self._plan)

    def _plan(self, instance: Instance) -> Plan:
        nodes = instance.deployment.nodes
        most = min(instance.operators, len(nodes))
        options = [self.stages] if self.stages else range(1, most + 1)
        for parts in options:
            if pipelines := self._fill(instance, uniform(instance.operators, parts)):
                return chain_plan(pipelines, {"stages": parts, "replicas": len(pipelines)})
        reason = "no number of equal parts fits" if self.stages is None else "equal parts do not"
        raise instance.infeasible(nodes, reason)

    def _fill(self, instance: Instance, counts: Sequence[int]) -> list[Pipeline]:
        """Give the nodes one part each, in order, and return the pipelines that are complete."""
        parts = [(start, end) for _, start, end in spans(range(len(counts)), counts)]
        complete: list[Pipeline] = []
        growing: list[tuple[int, int, int]] = []
        for node in instance.deployment.nodes:
            if len(complete) == self.replicas:
                break
            start, end = parts[len(growing)]
            if instance.fits(node, range(start, end)):
                growing.append((node, start, end))
            if len(growing) == len(parts):
                complete.append(growing)
                growing = []
        return complete


@dataclass
class _Grouped(Placement):
    """Groups of neighbours in the scenario's order, each a pipeline with its own cuts.

    A group takes nodes until the chain fits into it; nodes that are left at the end join the
    last group. Nodes too small for any operator are left out.

    Attributes
    ----------
    replicas : int or None
        Pipelines to make at most; as many as fit if None.
    batch : int
        Sequences of a step: it prices the layers, and their KV cache must fit beside the
        weights; halved until the model fits.
    """

    replicas: int | None = None
    batch: int = 8

    def __post_init__(self) -> None:
        require_positive(self, "replicas", "batch")

    def place(self, deployment: Deployment, cluster: Cluster, costs: Costs) -> Plan:
        instance = Instance(deployment, cluster, costs, self.batch)
        require_chain(instance)
        return with_room_for(instance, self._plan)

    def _plan(self, instance: Instance) -> Plan:
        groups, rest = self._group(instance)
        if not groups:
            raise instance.infeasible(
                instance.deployment.nodes, "no group of neighbours holds the chain"
            )
        last = [*groups[-1], *rest]
        if rest and len(last) <= instance.operators and self._try(instance, last) is not None:
            groups[-1] = last
        pipelines = [self.cut(instance, group) for group in groups]
        slowest = [max(instance.span_s(*stage) for stage in pipeline) for pipeline in pipelines]
        return chain_plan(pipelines, {"replicas": len(pipelines), "bottleneck_s": slowest})

    def _group(self, instance: Instance) -> tuple[list[list[int]], list[int]]:
        """Return the groups that hold the chain, and the nodes left at the end."""
        smallest = min(range(instance.operators), key=lambda i: instance.needs_bytes([i]))
        groups: list[list[int]] = []
        group: list[int] = []
        for node in instance.deployment.nodes:
            if len(groups) == self.replicas:
                break
            if not instance.fits(node, [smallest]):
                continue
            group = [*group, node][-instance.operators :]  # more nodes than operators: let one go
            if self._try(instance, group) is not None:
                groups.append(group)
                group = []
        return groups, group

    def _try(self, instance: Instance, group: Sequence[int]) -> Pipeline | None:
        try:
            return self.cut(instance, group)
        except Infeasible:
            return None

    @abstractmethod
    def cut(self, instance: Instance, group: Sequence[int]) -> Pipeline:
        """Cut the chain over the nodes of a group; raise `Infeasible` if it does not fit."""


@register("placement", "water-filling")
@dataclass
class WaterFilling(_Grouped):
    """Layers in proportion to the speed of the nodes, none beyond its memory (Parallax).

    Nodes form groups in the order of the scenario: each takes nodes until the chain fits into
    it, and nodes that are left at the end join the last group. See `chains.water_filling`.
    """

    def cut(self, instance: Instance, group: Sequence[int]) -> Pipeline:
        """Fill every node to the same level; one whose share rounds to nothing is left out."""
        chain = Layered.of(instance, group)
        room = chain.room.only if len(group) == 1 else chain.room.inner.copy()
        if len(group) > 1:
            room[0], room[-1] = chain.room.first[0], chain.room.last[-1]
        counts = water_filling(chain.layers, 1 / chain.layer_s, room)
        used = [(node, count) for node, count in zip(group, counts, strict=True) if count]
        pipeline = spans(*zip(*used, strict=True))
        if not all(instance.fits(node, range(start, end)) for node, start, end in pipeline):
            raise Infeasible("a node that became the first or last is too small for that")
        return pipeline


@register("placement", "chain-dp")
@dataclass
class ChainPartition(_Grouped):
    """The slowest stage or transfer as fast as possible, for the given order (PipeDream).

    Nodes form groups in the order of the scenario: each takes nodes until the chain fits into
    it, and nodes that are left at the end join the last group. The cuts are optimal within a
    group, for operators of any size, with memory and links; among the best, those are taken
    whose stages together are the fastest. See `chains.bottleneck`.
    """

    def cut(self, instance: Instance, group: Sequence[int]) -> Pipeline:
        """Find the best cuts by dynamic programming."""
        count = instance.operators
        times = np.empty((len(group), count + 1, count + 1))
        needs = np.cumsum([0.0] + [instance.needs_bytes([i]) for i in range(count)])
        for d, node in enumerate(group):
            each, stage_s = instance.operators_s(node)
            times[d] = part_times(each, [1.0])[0] + stage_s
            times[d][needs[None, :] - needs[:, None] > instance.costs.free_bytes(node)] = np.inf
        sending = self._sending_s(instance, group)
        slowest = bottleneck(times, sending).value
        times[times > slowest] = np.inf
        split = minimum_sum(times, np.where(sending > slowest, np.inf, 0.0))
        return [(node, i, j) for node, (i, j) in zip(group, pairwise(split.cuts), strict=True)]

    def _sending_s(self, instance: Instance, group: Sequence[int]) -> NDArray[np.float64]:
        """Return the seconds that each link of the group is busy with a step, for each cut."""
        sizes = [
            instance.costs.activation_bytes(instance.deployment, i) * instance.step_tokens
            for i in range(instance.operators - 1)
        ]
        seconds = {size: instance.sending_s(size) for size in set(sizes)}
        hops = [[seconds[size][a, b] for size in sizes] for a, b in pairwise(group)]
        return np.array(hops).reshape(len(group) - 1, len(sizes))
