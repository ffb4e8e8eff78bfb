"""Routing in turns."""

from __future__ import annotations

from dataclasses import dataclass, field

from infsim.policy.interface import ReplicaView, Request, Router, RoutingView
from infsim.registry import register


@register("routing", "round-robin")
@dataclass
class RoundRobin(Router):
    """Send to the replicas in turns.

    After replica i comes the next higher index that is up, so that a failure or a return does
    not restart the round. In a mesh the hosts of each next operator have a round of their own.
    """

    _last: dict[tuple[str, int], int] = field(default_factory=dict, init=False, repr=False)

    def route(self, request: Request, view: RoutingView) -> ReplicaView:
        replicas = view.replicas
        turn = (view.deployment, replicas[0].start)
        last = self._last.get(turn, -1)
        chosen = next((replica for replica in replicas if replica.index > last), replicas[0])
        self._last[turn] = chosen.index
        return chosen
