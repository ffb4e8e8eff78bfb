"""The power of d choices."""

from __future__ import annotations

from dataclasses import dataclass

from infsim.policy.interface import ReplicaView, Request, Router, RoutingView
from infsim.policy.routing.load import LOADS, Measure
from infsim.registry import register


@register("routing", "power-of-two")
@dataclass
class PowerOfTwo(Router):
    """Draw d replicas at random and send to the least loaded of them.

    Two choices instead of one already shorten the tail of the queues from geometric to doubly
    exponential (Mitzenmacher, IEEE TPDS 2001; Vvedenskaya et al. 1996), and suffer less than
    the shortest queue of all when the view is old.

    Attributes
    ----------
    d : int
        Replicas drawn, without repetition.
    by : {"requests", "tokens"}
        How load is measured, as for ``least-loaded``.
    """

    d: int = 2
    by: Measure = "requests"

    def __post_init__(self) -> None:
        if self.d < 1:
            raise ValueError(f"d must be at least 1, got {self.d}")

    def route(self, request: Request, view: RoutingView) -> ReplicaView:
        candidates = list(view.replicas)
        drawn: list[ReplicaView] = []
        for _ in range(min(self.d, len(candidates))):
            at = int(view.uniform() * len(candidates))
            drawn.append(candidates[at])
            candidates[at] = candidates[-1]
            candidates.pop()
        return min(drawn, key=LOADS[self.by])
