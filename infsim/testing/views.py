"""Views made by hand, to ask a policy one question without running the engine.

>>> from infsim.policy.routing.least_loaded import LeastLoaded
>>> view = RoutingSight([Replica(0, waiting=3), Replica(1, waiting=1)])
>>> LeastLoaded().route(request(), view).index
1
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from infsim.policy.interface import Answer, PromptView, Request
from infsim.rng import Streams, Uniform

if TYPE_CHECKING:
    from infsim.cost.accuracy import AccuracyTable


def request(
    request_id: int = 0, input_tokens: int = 100, session_id: int = -1, sample_id: int = -1
) -> Request:
    """Return a request that arrives at time 0 from the first client."""
    return Request(request_id, 0.0, input_tokens, 0, session_id, sample_id)


def uniform(seed: int = 0) -> Uniform:
    """Return random numbers in [0, 1), the same for the same seed."""
    return Uniform(Streams(seed).stream("testing"))


@dataclass
class Replica:
    """A `ReplicaView` of which every figure can be set.

    Attributes
    ----------
    cached : mapping of int to int
        Cached tokens by request id.
    prefill_token_s, decode_token_s : float
        Compute time of one token.
    """

    index: int
    waiting: int = 0
    running: int = 0
    queued_tokens: int = 0
    kv_used: float = 0.0
    delay_s: float = 0.0
    start: int = 0
    end: int = 1
    cached: Mapping[int, int] = field(default_factory=dict)
    prefill_token_s: float = 1e-4
    decode_token_s: float = 1e-2

    @property
    def name(self) -> str:
        return f"replica-{self.index}"

    def cached_tokens(self, request: Request) -> int:
        return self.cached.get(request.request_id, 0)

    def prefill_s(self, tokens: int) -> float:
        return self.prefill_token_s * tokens

    def decode_s(self) -> float:
        return self.decode_token_s


@dataclass
class RoutingSight:
    """A `RoutingView`, and with ``between_s`` and ``client_s`` a `MeshView`.

    Attributes
    ----------
    between_s : sequence of sequences of float
        One-way delays between hosts.
    client_s : sequence of float
        One-way delays between the client and each host.
    """

    replicas: Sequence[Replica]
    now: float = 0.0
    age_s: float = 0.0
    deployment: str = "model"
    operators: int = 1
    between_s: Sequence[Sequence[float]] = ()
    client_s: Sequence[float] = ()
    uniform: Uniform = field(default_factory=uniform)

    @property
    def hosts(self) -> Sequence[Replica]:
        return self.replicas

    def delay_s(self, source: int | None, target: int | None) -> float:
        if source is not None and target is not None:
            return self.between_s[source][target]
        end = source if source is not None else target
        return 0.0 if end is None else self.client_s[end]


@dataclass(eq=False)
class Prompt:
    """A `PromptView`."""

    remaining_tokens: int
    queued_s: float = 0.0
    request: Request = field(default_factory=request)


@dataclass
class BatchSight:
    """A `BatchView` in which ``free_tokens`` tokens of KV fit."""

    waiting: Sequence[Prompt] = ()
    prefilling: Sequence[Prompt] = ()
    decoding: int = 0
    running: int = 0
    stages: int = 1
    now: float = 0.0
    free_tokens: int = 10**9

    def fits(self, admitted: Sequence[PromptView], prompt: PromptView) -> bool:
        taken = sum(other.remaining_tokens for other in admitted)
        return taken + prompt.remaining_tokens <= self.free_tokens


@dataclass
class DeploymentSight:
    """A `DeploymentView`."""

    name: str
    index: int
    node: int
    up: bool = True
    accuracy_model: str | None = None
    queue_s: float = 0.0
    service_s: float = 0.0


@dataclass
class DeliverySight:
    """A `DeliveryView`; ``delays_s[node]`` is the delay from here."""

    deployments: Sequence[DeploymentSight]
    here: int | None = None
    now: float = 0.0
    age_s: float = 0.0
    answers: Sequence[Answer] = ()
    accuracy: AccuracyTable | None = None
    delays_s: Sequence[float] = ()
    uniform: Uniform = field(default_factory=uniform)

    def delay_s(self, node: int) -> float:
        return self.delays_s[node] if self.delays_s else 0.0
