"""What a run is made of: hops and paths, requests and their sequences, batches, hosts, nodes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from math import inf, nan

from infsim.cluster.node import Node as Machine
from infsim.cost.interface import StepCost
from infsim.policy.interface import Answer
from infsim.policy.interface import Request as RequestView


@dataclass(frozen=True, order=True)
class Hop:
    """Operators of a deployment that a stage computes for a request.

    The order of the fields is the order in which the hosts of a node take turns.
    """

    deployment: int
    stage: int
    start: int
    end: int
    node: int
    operators: tuple[int, ...]


@dataclass(frozen=True)
class Path:
    """The hops of a request in topological order.

    ``replica`` is the candidate that the router chose: the dedicated replica, or in a mesh the
    stage of the entry hop.
    """

    replica: int
    hops: tuple[Hop, ...]

    @property
    def deployment(self) -> int:
        return self.hops[0].deployment

    @property
    def entry(self) -> Hop:
        return self.hops[0]

    @property
    def nodes(self) -> set[int]:
        return {hop.node for hop in self.hops}


@dataclass(eq=False)
class Request:
    """A request and what became of it."""

    view: RequestView
    output_tokens: int
    here: int
    """The endpoint where it is: a node, or its client."""
    deployment: int = -1
    """Where it is to be served now."""
    total: int = 0
    """Tokens that this deployment will make."""
    made: int = 0
    """Tokens made and not forgotten."""
    answers: list[Answer] = field(default_factory=list)
    decisions: int = 0
    attempts: int = 1
    forwards: int = 0
    preemptions: int = 0
    cached_tokens: int = 0
    wasted: float = 0.0
    dispatched: tuple[int, int] = (-1, -1)
    """Deployment and replica of the last dispatch."""
    start_s: float = nan
    first_token_s: float = nan
    end_s: float = nan
    ended: bool = False

    @property
    def id(self) -> int:
        return self.view.request_id


class State(Enum):
    """Where a sequence is in its life."""

    SENT = "sent"
    WAITING = "waiting"
    ADMITTED = "admitted"
    GONE = "gone"
    """Ended, lost, or preempted (then another sequence takes its place)."""


@dataclass(eq=False)
class Holding:
    """KV of a sequence at one hop: blocks of its own, and entries of the prefix cache."""

    private: int
    hashes: list[int] = field(default_factory=list)


@dataclass(eq=False)
class Sequence:
    """One attempt of a request: from its dispatch until it ends, is lost, or is preempted."""

    request: Request
    path: Path
    prompt: int
    """Tokens to compute before the next one is made."""
    failures: Mapping[int, int]
    """Failures so far of each node of the path, at the dispatch."""
    state: State = State.SENT
    queued_s: float = nan
    order: int = -1
    """Order of admission."""
    computed: int = 0
    """Tokens of the prompt that have passed the entry, or were cached."""
    kv: int = 0
    """Tokens in its KV at the entry."""
    at_hand: bool = False
    back_s: float = nan
    """When it came back to the entry for its next token."""
    passed: bool = False
    """Whether its prompt has passed the last hop."""
    held: dict[Hop, Holding] = field(default_factory=dict)
    pending: set[Hop] = field(default_factory=set)
    """New hops that still have to compute what a lost one held."""

    @property
    def alive(self) -> bool:
        return self.state is not State.GONE

    @property
    def worked(self) -> int:
        """Tokens whose KV its entry has computed."""
        return max(0, self.kv - self.request.cached_tokens)

    @property
    def unfinished(self) -> bool:
        """Whether a part of its prompt is ready to be computed."""
        return self.at_hand and self.computed < self.prompt

    @property
    def ready(self) -> bool:
        """Whether it is ready to decode."""
        return self.at_hand and self.computed == self.prompt


class Kind(Enum):
    """What an iteration does for a sequence."""

    CHUNK = "chunk"
    DECODE = "decode"
    REPLAY = "replay"


@dataclass(frozen=True, eq=False)
class Item:
    """The part of a sequence in an iteration: so many tokens after those that came before."""

    sequence: Sequence
    kind: Kind
    tokens: int
    before: int
    last: bool
    """Whether logits are needed: it decodes, or finishes its prompt."""


@dataclass(eq=False)
class Batch:
    """Items of one iteration that go the same way; they stay together."""

    path: Path
    client: int
    items: list[Item]
    finished: set[Hop] = field(default_factory=set)
    """Hops without successors that have computed it."""

    @property
    def tokens(self) -> int:
        return sum(item.tokens for item in self.items)


@dataclass(eq=False)
class Host:
    """The work of one hop on its node."""

    hop: Hop
    waiting: list[Sequence] = field(default_factory=list)
    admitted: list[Sequence] = field(default_factory=list)
    queue: list[Batch] = field(default_factory=list)
    parts: dict[Batch, set[Hop]] = field(default_factory=dict)
    """Batches at a join, with the hops from which they have arrived."""
    questions: int = 0
    """How often it was asked for work; a wake-up of an earlier time is stale."""
    stages: int = 1
    """Hops of the path of the prompt that joined last."""
    since_s: float = inf
    """Where iterations are planned ahead: when the one that has just ended began."""
    ending: list[Sequence] = field(default_factory=list)
    """Sequences that ended with it, whose KV is not known to be free."""


@dataclass(eq=False)
class Iteration:
    """An iteration that runs."""

    host: Host
    start_s: float
    items: list[Item]
    batches: list[Batch]
    """What arrived from other hops; empty at an entry."""


@dataclass(eq=False)
class Node:
    """A node and its hosts."""

    index: int
    machine: Machine
    weight_bytes: int
    status: str = "ready"  # or "down", "loading"
    leaving: bool = False
    failures: int = 0
    hosts: dict[Hop, Host] = field(default_factory=dict)
    last_ran: Hop | None = None
    running: Iteration | None = None
    iterations: int = 0
    tokens: int = 0


def iteration_s(cost: StepCost, items: list[Item]) -> float:
    """Duration of an iteration of these items."""
    prompts = [item for item in items if item.kind is not Kind.DECODE]
    decodes = [item for item in items if item.kind is Kind.DECODE]
    return cost.step_s(
        sum(item.tokens for item in prompts),
        sum(item.tokens * item.before + item.tokens * (item.tokens + 1) // 2 for item in prompts),
        sum(item.before + item.tokens for item in prompts),
        len(decodes),
        sum(item.before + 1 for item in decodes),
        sum(item.last for item in items),
    )
