"""Join the shortest queue."""

from __future__ import annotations

from dataclasses import dataclass

from infsim.policy.interface import ReplicaView, Request, Router, RoutingView
from infsim.policy.routing.load import LOADS, Measure
from infsim.registry import register


@register("routing", "least-loaded")
@dataclass
class LeastLoaded(Router):
    """Send to the replica with the least load (join the shortest queue).

    Among equally loaded replicas the nearest one is taken, then the first one.

    Attributes
    ----------
    by : {"requests", "tokens"}
        What is counted: requests waiting and running, or prompt tokens still to be computed.
    """

    by: Measure = "requests"

    def route(self, request: Request, view: RoutingView) -> ReplicaView:
        return min(view.replicas, key=LOADS[self.by])
