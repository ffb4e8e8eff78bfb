"""Routing in turns that are proportional to speed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from infsim.policy.interface import ReplicaView, Request, Router, RoutingView
from infsim.policy.routing.weighted import SmoothRoundRobin
from infsim.registry import register


@register("routing", "weighted-round-robin")
@dataclass
class WeightedRoundRobin(Router):
    """Send to the replicas in turns, to each as often as its weight says.

    Smooth (interleaved): with weights 5, 1, 1 the turns are a a b a c a a. When the set of
    replicas that are up changes, a new cycle begins.

    Attributes
    ----------
    weights : sequence of float, optional
        Weight of each replica, by index; without them the decode speed of each.
    """

    weights: tuple[float, ...] = ()
    _cycles: dict[tuple[str, int, tuple[int, ...]], SmoothRoundRobin] = field(
        default_factory=dict, init=False, repr=False
    )

    def __post_init__(self) -> None:
        if self.weights and (min(self.weights) < 0 or not any(self.weights)):
            raise ValueError(f"weights must not be negative, nor all zero; got {self.weights}")

    def route(self, request: Request, view: RoutingView) -> ReplicaView:
        replicas = view.replicas
        up = tuple([replica.index for replica in replicas])
        key = (view.deployment, replicas[0].start, up)
        cycle = self._cycles.get(key)
        if cycle is None:
            cycle = self._cycles[key] = SmoothRoundRobin(self._weights(replicas))
        return replicas[cycle.next()]

    def _weights(self, replicas: Sequence[ReplicaView]) -> list[float]:
        if not self.weights:
            return [1 / replica.decode_s() for replica in replicas]
        last = replicas[-1].index
        if last >= len(self.weights):
            raise ValueError(f"{len(self.weights)} weights, but a replica has the index {last}")
        given = [self.weights[replica.index] for replica in replicas]
        return given if any(given) else [1.0] * len(given)  # only those of weight 0 are up
