"""Routing to where the beginning of the prompt is cached."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from infsim.policy.interface import ReplicaView, Request, Router, RoutingView
from infsim.policy.routing.load import in_requests
from infsim.registry import register


@register("routing", "kv-affinity")
@dataclass
class KvAffinity(Router):
    """Keep requests where their prefix is cached, unless the load is out of balance.

    The rules of SGLang's cache-aware router (Zheng et al., "SGLang", NeurIPS'24, and its
    router since v0.4), with sticky sessions in addition:

    1. out of balance (most minus least loaded above ``balance_requests``, and most above
       ``balance_ratio`` times least): the least loaded replica;
    2. the replica that served the session's last request;
    3. the longest cached prefix, if it is at least ``match`` of the prompt;
    4. the smallest cache, as the router knows it: the fewest prompt tokens sent there.

    Attributes
    ----------
    balance_requests, balance_ratio : float
        When the load, in requests, is out of balance.
    match : float
        Share of the prompt that must be cached for a prefix to count.
    sticky : bool
        Whether sessions stay where they are (rule 2).
    """

    balance_requests: float = 64
    balance_ratio: float = 1.5
    match: float = 0.3
    sticky: bool = True
    _homes: dict[tuple[str, int, int], int] = field(default_factory=dict, init=False, repr=False)
    _sent: dict[tuple[str, int], int] = field(default_factory=dict, init=False, repr=False)

    def route(self, request: Request, view: RoutingView) -> ReplicaView:
        replicas = view.replicas
        home = (view.deployment, replicas[0].start, request.session_id)
        cached = [replica.cached_tokens(request) for replica in replicas]
        at = self._choose(request, view.deployment, replicas, cached, self._homes.get(home))
        chosen = replicas[at]
        if self.sticky and request.session_id >= 0:
            self._homes[home] = chosen.index
        place = (view.deployment, chosen.index)
        self._sent[place] = self._sent.get(place, 0) + request.input_tokens - cached[at]
        return chosen

    def _choose(
        self,
        request: Request,
        deployment: str,
        replicas: Sequence[ReplicaView],
        cached: Sequence[int],
        home: int | None,
    ) -> int:
        """Return the position of the chosen replica."""
        everyone = range(len(replicas))
        loads = [replica.waiting + replica.running for replica in replicas]
        most, least = max(loads), min(loads)
        if most - least > self.balance_requests and most > self.balance_ratio * least:
            return min(everyone, key=lambda i: in_requests(replicas[i]))
        if home is not None:
            for i in everyone:
                if replicas[i].index == home:
                    return i
        best = max(everyone, key=lambda i: (cached[i], -loads[i]))
        if cached[best] > self.match * request.input_tokens:
            return best
        return min(
            everyone, key=lambda i: (self._sent.get((deployment, replicas[i].index), 0), loads[i])
        )
