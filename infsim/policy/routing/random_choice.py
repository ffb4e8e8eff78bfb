"""Routing by chance."""

from __future__ import annotations

from dataclasses import dataclass

from infsim.policy.interface import ReplicaView, Request, Router, RoutingView
from infsim.registry import register


@register("routing", "random")
@dataclass
class Random(Router):
    """Send each request to a replica drawn uniformly: the baseline that sees nothing."""

    def route(self, request: Request, view: RoutingView) -> ReplicaView:
        replicas = view.replicas
        return replicas[int(view.uniform() * len(replicas))]
