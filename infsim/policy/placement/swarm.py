"""Placement by the servers themselves, as in a Petals swarm."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from infsim.policy.interface import Placement, Plan, Stage
from infsim.policy.placement.instance import (
    Instance,
    Layered,
    require_chain,
    require_positive,
    with_room_for,
)
from infsim.policy.placement.maxflow import layout_flow
from infsim.policy.placement.petals import Window, block_throughputs, join, settle, should_move
from infsim.registry import register

if TYPE_CHECKING:
    from infsim.cluster.cluster import Cluster
    from infsim.cost.costs import Costs
    from infsim.model.deployment import Deployment


@register("placement", "petals")
@dataclass
class Petals(Placement):
    """Every server chooses the blocks that need it the most, and moves when that helps the swarm.

    Servers join in the order of the scenario, each with as many blocks as it has room for, and
    then move by the rule of Petals until nobody wants to. The plan is a mesh: a request may
    change servers wherever their spans meet or overlap. See `petals.join`, `petals.should_move`.

    Attributes
    ----------
    batch : int
        Sequences of a step: it prices the layers, and their KV cache must fit beside the
        weights; halved until the model fits.
    quality : float
        A server moves if the swarm's throughput is below this share of what it could be; 0
        keeps everybody where it joined.
    """

    batch: int = 8
    quality: float = 0.75

    def __post_init__(self) -> None:
        require_positive(self, "batch")

    def place(self, deployment: Deployment, cluster: Cluster, costs: Costs) -> Plan:
        instance = Instance(deployment, cluster, costs, self.batch)
        require_chain(instance)
        return with_room_for(instance, self._plan)

    def _plan(self, instance: Instance) -> Plan:
        chain = Layered.of(instance, instance.deployment.nodes)
        room = chain.room  # a server may end up anywhere, so it takes what fits at every place
        blocks = [
            chain.layers if only else int(min(places))
            for only, *places in zip(room.only, room.inner, room.first, room.last, strict=True)
        ]
        members = [i for i, held in enumerate(blocks) if held]
        step_s = [float(chain.overhead_s[i] + blocks[i] * chain.layer_s[i]) for i in members]
        servers = [(blocks[i], instance.batch / s) for i, s in zip(members, step_s, strict=True)]
        windows = join(chain.layers, servers)
        windows = self._balance(windows, chain.layers)
        if not members or block_throughputs(windows, chain.layers).min() <= 0:
            raise instance.infeasible(chain.nodes, "the servers' blocks leave a gap")
        flow = layout_flow(
            [window.start for window in windows],
            [window.end for window in windows],
            chain.layers,
            [window.throughput for window in windows],
        )
        stages = tuple(
            Stage(chain.nodes[i], tuple(range(window.start, window.end)))
            for i, window in zip(members, windows, strict=True)
        )
        return Plan(stages, None, {"max_flow_tokens_per_s": flow.value})

    def _balance(self, windows: tuple[Window, ...], blocks: int) -> tuple[Window, ...]:
        """Let servers move, at most as often as there are servers."""
        for _ in windows:
            movers = (
                i for i in range(len(windows)) if should_move(windows, i, blocks, self.quality)
            )
            mover = next(movers, None)
            if mover is None:
                break
            windows = settle(windows, mover, blocks)
        return windows
