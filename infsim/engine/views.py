"""What policies see of the running system."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import TYPE_CHECKING

from infsim.engine.paths import Hop, Path
from infsim.policy.interface import Answer, Request

if TYPE_CHECKING:
    from infsim.cost.accuracy import AccuracyTable
    from infsim.engine.deployments import RunningDeployment


class Load:
    """Counts of a candidate: a dedicated replica or a stage of a mesh."""

    __slots__ = ("queued_tokens", "running", "waiting")

    def __init__(self, waiting: int = 0, running: int = 0, queued_tokens: int = 0) -> None:
        self.waiting = waiting
        self.running = running
        self.queued_tokens = queued_tokens


class Candidate:
    """A `ReplicaView`: a dedicated replica, or a stage of a mesh.

    It shows its live load, or with a stale view the copy that the last snapshot took.
    """

    __slots__ = (
        "_cached",
        "_deployment",
        "_kv_used",
        "hops",
        "index",
        "load",
        "name",
        "nodes",
        "path",
        "shown",
    )

    def __init__(
        self,
        deployment: RunningDeployment,
        index: int,
        name: str,
        hops: tuple[Hop, ...],
        nodes: tuple[int, ...],
        path: Path | None,
    ) -> None:
        self._deployment = deployment
        self.index = index
        self.name = name
        self.hops = hops
        self.nodes = nodes
        self.path = path
        self.load = self.shown = Load()
        self._kv_used = 0.0
        self._cached: list[set[Hashable]] = []

    def snapshot(self) -> None:
        """Show the figures of this moment until the next snapshot."""
        load = self.load
        self.shown = Load(load.waiting, load.running, load.queued_tokens)
        self._kv_used = self._deployment.kv_used(self.nodes)
        self._cached = self._deployment.cached_entries(self.hops)

    @property
    def waiting(self) -> int:
        """Requests that wait for admission."""
        return self.shown.waiting

    @property
    def running(self) -> int:
        """Requests admitted and not finished."""
        return self.shown.running

    @property
    def queued_tokens(self) -> int:
        """Prompt tokens that are still to be computed."""
        return self.shown.queued_tokens

    @property
    def kv_used(self) -> float:
        """Fraction of the KV memory in use, of the fullest node."""
        if self._deployment.live:
            return self._deployment.kv_used(self.nodes)
        return self._kv_used

    @property
    def delay_s(self) -> float:
        """One-way delay from where the request is."""
        return self._deployment.delay_s(self.hops[0].node)

    @property
    def start(self) -> int:
        """First operator it would compute."""
        position = self._deployment.position
        return self.hops[0].key[2] if position is None else position

    @property
    def end(self) -> int:
        """One past the last operator it can compute."""
        until = self._deployment.until
        return self.hops[-1].key[3] if until is None else until

    def cached_tokens(self, request: Request) -> int:
        """Leading prompt tokens whose KV is cached here."""
        known = None if self._deployment.live else self._cached
        return self._deployment.cached_tokens(request, self._computed(), known)

    def prefill_s(self, tokens: int) -> float:
        """Compute time of a prompt, alone."""
        pairs = tokens * (tokens + 1) / 2
        return sum(hop.cost.step_s(tokens, pairs, tokens, 0, 0.0, 1) for hop in self._computed())

    def decode_s(self) -> float:
        """Compute time of one decode token, alone."""
        context = self._deployment.spec.expected_context
        return sum(hop.cost.step_s(0, 0.0, 0.0, 1, context, 1) for hop in self._computed())

    def _computed(self) -> tuple[Hop, ...]:
        """The hops it would compute: on a mesh its operators from the one that is routed on."""
        if self._deployment.position is None:
            return self.hops
        stage = self.hops[0].key[1]
        return (self._deployment.maker.hop(stage, self.start, self.end),)


class Routing:
    """A `MeshView` of one deployment, for the request that is being routed."""

    __slots__ = ("_deployment", "age_s", "deployment", "now", "replicas", "uniform")

    def __init__(self, deployment: RunningDeployment, uniform: Callable[[], float]) -> None:
        self._deployment = deployment
        self.deployment = deployment.spec.name
        self.uniform = uniform
        self.now = 0.0
        self.age_s = 0.0
        self.replicas: Sequence[Candidate] = ()

    @property
    def operators(self) -> int:
        """Number of operators of the chain."""
        return len(self._deployment.spec.model.graph.operators)

    @property
    def hosts(self) -> Sequence[Candidate]:
        """All hosts believed to be up, with their whole spans."""
        return self._deployment.believed()

    def delay_s(self, source: int | None, target: int | None) -> float:
        """One-way delay between two hosts; see `MeshView`."""
        return self._deployment.host_delay_s(source, target)


class DeploymentSight:
    """A `DeploymentView`."""

    __slots__ = ("_deployment", "_service_s", "accuracy_model", "index", "name", "node")

    def __init__(self, deployment: RunningDeployment) -> None:
        self._deployment = deployment
        self.name = deployment.spec.name
        self.index = deployment.spec.index
        self.node = deployment.first_path()[0].node
        self.accuracy_model = deployment.spec.model.accuracy_model
        self._service_s: float | None = None

    @property
    def up(self) -> bool:
        """Whether it is believed to be able to serve."""
        return self._deployment.complete()

    @property
    def queue_s(self) -> float:
        """Compute time of the prompt tokens that the least loaded candidate has queued."""
        return self._deployment.queue_s()

    @property
    def service_s(self) -> float:
        """Compute time of one request of one token, alone."""
        if self._service_s is None:
            self._service_s = sum(
                hop.cost.step_s(1, 1.0, 1.0, 0, 0.0, 1) for hop in self._deployment.first_path()
            )
        return self._service_s


class DeliverySight:
    """A `DeliveryView`, for the request that is being decided about."""

    __slots__ = (
        "_delay_row",
        "accuracy",
        "age_s",
        "answers",
        "deployments",
        "here",
        "now",
        "uniform",
    )

    def __init__(
        self,
        deployments: Sequence[DeploymentSight],
        accuracy: AccuracyTable | None,
        uniform: Callable[[], float],
    ) -> None:
        self.deployments = deployments
        self.accuracy = accuracy
        self.uniform = uniform
        self.now = self.age_s = 0.0
        self.here: int | None = None
        self.answers: Sequence[Answer] = ()
        self._delay_row: Sequence[float] = ()

    def look(
        self,
        now: float,
        age_s: float,
        here: int | None,
        answers: Sequence[Answer],
        delay_row: Sequence[float],
    ) -> DeliverySight:
        """Turn to another request."""
        self.now = now
        self.age_s = age_s
        self.here = here
        self.answers = answers
        self._delay_row = delay_row
        return self

    def delay_s(self, node: int) -> float:
        """One-way network delay from here to a node."""
        return self._delay_row[node]
