"""What a policy sees and what it answers, for each of the five decisions.

A policy is a small dataclass, registered by kind and name; its fields are its parameters in
the scenario. It sees read-only views and answers with the objects defined here. No view shows
the length of an output that has not been generated yet.

==========  ==========================================  =====================================
kind        decides                                     when
==========  ==========================================  =====================================
placement   which operators go to which node            once, before the run (a pure function)
delivery    where a request is served, and whether its  on arrival, on every forward, on every
            answer is good enough                       answer
routing     which replica (or which host for the next   on arrival at a deployment, after a
            operators) serves a request                 failure
batching    which prompts enter an iteration            at every iteration boundary
recovery    what happens to work that was lost          when a loss is detected
==========  ==========================================  =====================================
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from math import isnan
from operator import index
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

if TYPE_CHECKING:
    from infsim.cluster.cluster import Cluster
    from infsim.cost.accuracy import AccuracyTable
    from infsim.cost.costs import Costs
    from infsim.model.deployment import Deployment

# --- the request, as every policy sees it ---------------------------------------------------


@dataclass(slots=True)
class Request:
    """A request as policies see it: no output length."""

    request_id: int
    arrival_s: float
    input_tokens: int
    client: int
    session_id: int = -1
    sample_id: int = -1
    prefix_hashes: tuple[int, ...] = ()
    prefix_block_tokens: int = 512


# --- placement ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Stage:
    """Operators that one node hosts for a deployment.

    Attributes
    ----------
    node : int
        Index into ``Cluster.nodes``.
    operators : tuple of int
        Indices into ``OperatorGraph.operators`` (topological order). On a chain a stage is a
        contiguous range, see `start` and `end`.
    """

    node: int
    operators: tuple[int, ...]

    @property
    def start(self) -> int:
        return self.operators[0]

    @property
    def end(self) -> int:
        """One past the last operator."""
        return self.operators[-1] + 1


@dataclass(frozen=True)
class Plan:
    """A placement: stages, and how requests may pass through them.

    Attributes
    ----------
    stages : tuple of Stage
    pipelines : tuple of tuple of int, or None
        Dedicated replicas, each a tuple of indices into ``stages`` in topological order that
        together hold every operator once. ``None`` makes a mesh: any sequence of stages that
        covers the chain is a path, chosen per request by the router; a stage may be entered in
        its middle (partial inference).
    notes : mapping
        Solver status, objective, bound, gap: copied into the manifest.
    """

    stages: tuple[Stage, ...]
    pipelines: tuple[tuple[int, ...], ...] | None
    notes: Mapping[str, Any] = field(default_factory=dict)


class Placement(ABC):
    """Decides which operators go to which node. A pure function of its inputs."""

    @abstractmethod
    def place(self, deployment: Deployment, cluster: Cluster, costs: Costs) -> Plan:
        """Return the plan for one deployment.

        ``deployment.nodes`` lists the indices of nodes that may be used, ``costs`` prices
        operators on nodes and tells what memory is left. Raises
        `infsim.errors.InfeasibleError`, saying what is missing, if nothing fits.
        """


# --- routing --------------------------------------------------------------------------------


class ReplicaView(Protocol):
    """A candidate of the router: a dedicated replica, or in a mesh one host of the next operators.

    All figures are as old as ``RoutingView.age_s`` says, except the constants.
    """

    @property
    def name(self) -> str: ...
    @property
    def index(self) -> int:
        """Stable index of the candidate within its deployment."""

    @property
    def waiting(self) -> int:
        """Requests that wait for admission."""

    @property
    def running(self) -> int:
        """Requests admitted and not finished."""

    @property
    def queued_tokens(self) -> int:
        """Prompt tokens that are still to be computed, of waiting and running requests."""

    @property
    def kv_used(self) -> float:
        """Fraction of the KV memory in use (the fullest stage of a replica)."""

    @property
    def delay_s(self) -> float:
        """One-way network delay from where the request is to this candidate (constant)."""

    @property
    def start(self) -> int:
        """First operator the candidate would compute."""

    @property
    def end(self) -> int:
        """One past the last operator that it can compute."""

    def cached_tokens(self, request: Request) -> int:
        """Leading prompt tokens of the request whose KV is cached here."""

    def prefill_s(self, tokens: int) -> float:
        """Compute time of a prompt of this length, alone (constant)."""

    def decode_s(self) -> float:
        """Compute time of one decode token, alone (constant)."""


class RoutingView(Protocol):
    """What a router sees."""

    @property
    def now(self) -> float: ...
    @property
    def age_s(self) -> float:
        """Age of the state shown by the candidates, in seconds."""

    @property
    def replicas(self) -> Sequence[ReplicaView]:
        """Candidates that are believed to be up, never empty, in index order."""

    @property
    def deployment(self) -> str: ...
    def uniform(self) -> float:
        """A random number in [0, 1) from the router's own stream."""


class MeshView(RoutingView, Protocol):
    """What a router of a mesh sees in addition."""

    @property
    def operators(self) -> int:
        """Number of operators of the chain."""

    @property
    def hosts(self) -> Sequence[ReplicaView]:
        """All hosts believed to be up, with their whole spans."""

    def delay_s(self, source: int | None, target: int | None) -> float:
        """One-way delay between two hosts by ``index``.

        ``None`` as the source is where the request is now, as the target its client.
        """


class Router(ABC):
    """Chooses where a request goes."""

    @abstractmethod
    def route(self, request: Request, view: RoutingView) -> ReplicaView:
        """Choose one of ``view.replicas``.

        In a mesh it is asked once for each hop, with the hosts that hold the next operator.
        """

    def path(self, request: Request, view: MeshView) -> Sequence[ReplicaView] | None:
        """Choose the whole path through a mesh at once; ``None`` (default) goes hop by hop.

        The hosts must cover the chain: each is entered at the operator where the one before
        it ended, and is left at its own ``end``.
        """
        return None


# --- batching -------------------------------------------------------------------------------


class PromptView(Protocol):
    """A prompt that waits for, or is in the middle of, its prefill."""

    @property
    def request(self) -> Request: ...
    @property
    def remaining_tokens(self) -> int:
        """Prompt tokens still to be computed (after a preemption: with the tokens made so far)."""

    @property
    def queued_s(self) -> float:
        """When it came into this queue."""


class BatchView(Protocol):
    """What a batching policy sees at an iteration boundary of an entry host."""

    @property
    def now(self) -> float: ...
    @property
    def waiting(self) -> Sequence[PromptView]:
        """Not admitted yet, in order of arrival (preempted ones first)."""

    @property
    def prefilling(self) -> Sequence[PromptView]:
        """Admitted, prompt not finished, ready to be continued, in order of admission."""

    @property
    def decoding(self) -> int:
        """Sequences ready to decode one token."""

    @property
    def running(self) -> int:
        """Admitted and unfinished, including those in flight on other stages."""

    @property
    def stages(self) -> int:
        """Hops of the path of the prompt that joined last: how many batches can be under way."""

    def fits(self, admitted: Sequence[PromptView], prompt: PromptView) -> bool:
        """True if the KV of ``prompt`` fits beside that of ``admitted`` (waiting prompts)."""


@dataclass(frozen=True, slots=True)
class Iteration:
    """Answer of a batching policy.

    Attributes
    ----------
    chunks : sequence of (PromptView, int)
        Prompts and the number of their tokens to compute now; a waiting prompt named here is
        admitted and its whole KV is reserved.
    decode : bool
        Whether the ready sequences decode in the same iteration.
    decode_limit : int or None
        At most so many of them: those that came back first (of those that came back together,
        the ones admitted first). The others stay ready.
    wake_s : float or None
        If nothing is to run now: when to ask again at the latest.
    """

    chunks: Sequence[tuple[PromptView, int]] = ()
    decode: bool = True
    decode_limit: int | None = None
    wake_s: float | None = None

    def __post_init__(self) -> None:
        for _, tokens in self.chunks:
            index(tokens)  # a TypeError here points at the line of the policy
        if self.decode_limit is not None and index(self.decode_limit) < 0:
            raise ValueError(f"decode_limit is {self.decode_limit}, must not be negative")
        if self.wake_s is not None and isnan(self.wake_s):
            raise ValueError("wake_s is not a number")


class Batching(ABC):
    """Chooses what enters an iteration.

    Attributes
    ----------
    token_budget : int
        Tokens of one iteration; downstream stages merge what has arrived up to it.
    steady : bool
        Declares that on a replica of one stage all ready sequences decode or none, that they do
        if no prompt is pending, and that an answer without chunks would be repeated until
        a request arrives, leaves or is preempted, whatever the time: the engine may then run
        many decode iterations in one event.
    """

    steady: ClassVar[bool] = False
    token_budget: int = 2048

    @abstractmethod
    def plan(self, view: BatchView) -> Iteration:
        """Choose the next iteration; asked whenever there are prompts or ready sequences.

        A steady policy is not asked on a replica of one stage while no prompt is pending.
        """


# --- delivery -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Serve:
    """Serve the request with this deployment (by index)."""

    deployment: int

    def __post_init__(self) -> None:
        index(self.deployment)


@dataclass(frozen=True, slots=True)
class Forward:
    """Send the request on to another node (by index), which decides again."""

    node: int

    def __post_init__(self) -> None:
        index(self.node)


@dataclass(frozen=True, slots=True)
class Accept:
    """The answer goes to the client."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a deployment answered: only what a real system would know (not correctness)."""

    deployment: int
    node: int
    confidence: float | None
    prediction: int | None


class DeploymentView(Protocol):
    """A deployment as the delivery policy sees it."""

    @property
    def name(self) -> str: ...
    @property
    def index(self) -> int: ...
    @property
    def up(self) -> bool:
        """Whether it is believed to be able to serve."""

    @property
    def node(self) -> int:
        """The node where requests enter it (of its first replica)."""

    @property
    def accuracy_model(self) -> str | None:
        """Row of the accuracy table."""

    @property
    def queue_s(self) -> float:
        """Estimated time until a new request would start (least loaded replica)."""

    @property
    def service_s(self) -> float:
        """Compute time of one request of one token, alone."""


class DeliveryView(Protocol):
    """What a delivery policy sees."""

    @property
    def now(self) -> float: ...
    @property
    def age_s(self) -> float: ...
    @property
    def here(self) -> int | None:
        """The node where the request (or its answer) is; None if it is at its client."""

    @property
    def deployments(self) -> Sequence[DeploymentView]: ...
    @property
    def answers(self) -> Sequence[Answer]:
        """Answers this request already has, oldest first."""

    @property
    def accuracy(self) -> AccuracyTable | None:
        """The validation split of the accuracy table (what could be learnt beforehand)."""

    def delay_s(self, node: int) -> float:
        """One-way network delay from here to a node."""

    def uniform(self) -> float: ...


class Delivery(ABC):
    """Decides where a request is served and whether its answer is good enough."""

    @abstractmethod
    def decide(self, request: Request, view: DeliveryView) -> Serve | Forward:
        """Called where the request is: at its client's node or where it was forwarded to."""

    def review(
        self, request: Request, answer: Answer, view: DeliveryView
    ) -> Accept | Serve | Forward:
        """Called with an answer at the node that made it; accepts by default."""
        return Accept()


# --- recovery -------------------------------------------------------------------------------


class Action(Enum):
    """What to do with a request that lost work."""

    RESTART = "restart"
    REPLAY = "replay"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Loss:
    """A detected loss."""

    request: Request
    now: float
    attempts: int
    generated_tokens: int
    lost_nodes: tuple[int, ...]


class Recovery(ABC):
    """Decides what happens to a request whose node failed.

    RESTART forgets the tokens made so far; REPLAY keeps them, gives the lost operators a new
    host and computes the KV of prompt and tokens again there (everywhere, if the whole replica
    has to change); FAIL ends the request.
    """

    @abstractmethod
    def recover(self, loss: Loss) -> Action: ...
