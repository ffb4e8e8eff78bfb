"""Each request takes the path that looks fastest for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from infsim.policy.interface import MeshView, ReplicaView, Request, Router, RoutingView
from infsim.policy.routing.shortest import cheapest_path
from infsim.registry import register


@register("routing", "greedy-latency")
@dataclass
class GreedyLatency(Router):
    """Send to the replica, or along the path through a mesh, of least estimated latency.

    Estimated are the network, the prompts ahead in the queue, the own prompt (without what is
    cached), ``output_tokens`` decode steps, and, as far as KV memory is used up, the wait until
    as many running requests have ended as wait for admission. In a mesh this is a shortest path
    over the hosts' spans, as in Petals' client (Borzunov et al., NeurIPS'23), with the wait of
    each host on its way in. Greedy: what is best for this request, not for all.

    Attributes
    ----------
    output_tokens : float
        Expected length of an answer; the real one is not known.
    """

    output_tokens: float = 200
    _delays: dict[tuple[str, tuple[int, ...]], NDArray[np.float64]] = field(
        default_factory=dict, init=False, repr=False
    )

    def __post_init__(self) -> None:
        if not self.output_tokens >= 0:
            raise ValueError(f"output_tokens must not be negative, got {self.output_tokens}")

    def route(self, request: Request, view: RoutingView) -> ReplicaView:
        def latency_s(replica: ReplicaView) -> float:
            return replica.delay_s + self._wait_s(replica) + self._service_s(request, replica)

        return min(view.replicas, key=latency_s)

    def path(self, request: Request, view: MeshView) -> Sequence[ReplicaView] | None:
        hosts = view.hosts
        # the prompt crosses each hop once, and so does every further token
        passes = 1 + self.output_tokens
        wait_s = [self._wait_s(host) for host in hosts]
        client_s = [passes * view.delay_s(None, host.index) for host in hosts]
        found = cheapest_path(
            spans=[(host.start, host.end) for host in hosts],
            operators=view.operators,
            operator_s=[self._service_s(request, h) / (h.end - h.start) for h in hosts],
            entry_s=[away + wait for away, wait in zip(client_s, wait_s, strict=True)],
            hop_s=(passes * self._between(hosts, view) + np.array(wait_s)).tolist(),
            exit_s=[passes * view.delay_s(host.index, None) for host in hosts],
        )
        return None if found is None else [hosts[i] for i in found.hosts]

    def _wait_s(self, replica: ReplicaView) -> float:
        """Return how long the queue ahead may last."""
        prompts = max(replica.waiting, 1)
        queued = replica.queued_tokens
        prompts_s = prompts * replica.prefill_s(-(-queued // prompts)) if queued else 0.0
        generations = replica.waiting / max(replica.running, 1)
        return prompts_s + replica.kv_used * generations * self.output_tokens * replica.decode_s()

    def _service_s(self, request: Request, replica: ReplicaView) -> float:
        """Return the compute time of the request, alone."""
        prompt = max(request.input_tokens - replica.cached_tokens(request), 1)
        return replica.prefill_s(prompt) + self.output_tokens * replica.decode_s()

    def _between(self, hosts: Sequence[ReplicaView], view: MeshView) -> NDArray[np.float64]:
        """Return the delays between all hosts, which are asked for once per set of hosts."""
        indices = tuple([host.index for host in hosts])
        key = (view.deployment, indices)
        if key not in self._delays:
            rows = [[view.delay_s(i, j) for j in indices] for i in indices]
            self._delays[key] = np.array(rows)
        return self._delays[key]
