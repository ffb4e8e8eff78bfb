"""What routers and delivery policies see."""

from __future__ import annotations

from collections.abc import Sequence as Many
from math import inf
from typing import TYPE_CHECKING

from infsim.engine.reference.memory import count_hits
from infsim.engine.reference.parts import Hop, Request
from infsim.model.deployment import Deployment
from infsim.policy.interface import Answer, DeploymentView, ReplicaView
from infsim.policy.interface import Request as RequestView

if TYPE_CHECKING:
    from infsim.cost.accuracy import AccuracyTable
    from infsim.engine.reference.world import World


class Candidate:
    """A dedicated replica, or a stage of a mesh from some operator on."""

    def __init__(
        self,
        world: World,
        index: int,
        hops: tuple[Hop, ...],
        start: int,
        end: int,
        delay_s: float,
    ) -> None:
        self.world, self.index, self.hops = world, index, hops
        self.start, self.end, self.delay_s = start, end, delay_s
        self.deployment = world.experiment.deployments[hops[0].deployment]
        self.name = f"{self.deployment.name}/{index}"
        self.figures = world.view.figures(self.deployment.index, index)

    @property
    def waiting(self) -> int:
        return self.figures.waiting

    @property
    def running(self) -> int:
        return self.figures.running

    @property
    def queued_tokens(self) -> int:
        return self.figures.queued_tokens

    @property
    def kv_used(self) -> float:
        return self.figures.kv_used

    def cached_tokens(self, request: RequestView) -> int:
        made = self.world.requests[request.request_id].made
        known = [self.world.view.cached(hop) for hop in self.hops]
        hits = count_hits(request, known, request.input_tokens + made)
        return hits * request.prefix_block_tokens

    def prefill_s(self, tokens: int) -> float:
        return prefill_s(self.world, self.hops, tokens)

    def decode_s(self) -> float:
        context = self.deployment.expected_context
        return sum(self.world.cost(hop).step_s(0, 0, 0, 1, context, 1) for hop in self.hops)


def prefill_s(world: World, hops: tuple[Hop, ...], tokens: int) -> float:
    """Compute time of a whole prompt, alone."""
    pairs = tokens * (tokens + 1) / 2
    return sum(world.cost(hop).step_s(tokens, pairs, tokens, 0, 0, 1) for hop in hops)


class RoutingLook:
    """What a router sees; of a mesh, too."""

    def __init__(self, world: World, request: Request, candidates: list[Candidate]) -> None:
        self.world = world
        self.index = request.deployment
        self.client = world.client_endpoint(request.view.client)
        self.here = request.here
        self.now = world.clock.now
        self.age_s = world.view.age_s
        self.deployment = world.experiment.deployments[self.index].name
        self.operators = len(world.experiment.deployments[self.index].model.graph)
        self.replicas: Many[ReplicaView] = candidates

    @property
    def hosts(self) -> Many[ReplicaView]:
        return self.world.view.hosts(self.index, self.here)

    def delay_s(self, source: int | None, target: int | None) -> float:
        return self.world.delay_s(
            self.here if source is None else self._node(source),
            self.client if target is None else self._node(target),
        )

    def _node(self, stage: int) -> int:
        return self.world.experiment.plans[self.index].stages[stage].node

    def uniform(self) -> float:
        return self.world.routing_random[self.index]()


class DeploymentLook:
    """A deployment as a delivery policy sees it."""

    def __init__(self, world: World, deployment: Deployment) -> None:
        self.world = world
        self.index = deployment.index
        self.name = deployment.name
        self.accuracy_model = deployment.model.accuracy_model

    @property
    def up(self) -> bool:
        return self.world.view.up(self.index)

    @property
    def node(self) -> int:
        return self.world.view.first_replica(self.index)[0].node

    @property
    def queue_s(self) -> float:
        view = self.world.view
        if not self.up:
            return inf
        mesh = view.is_mesh(self.index)
        candidates = view.stages_from(self.index, 0, 0) if mesh else view.replicas(self.index, 0)
        return min(c.prefill_s(c.queued_tokens) if c.queued_tokens else 0.0 for c in candidates)

    @property
    def service_s(self) -> float:
        return prefill_s(self.world, self.world.view.first_replica(self.index), 1)


class DeliveryLook:
    """What a delivery policy sees."""

    def __init__(self, world: World, request: Request) -> None:
        self.world = world
        self.endpoint = request.here
        self.here = request.here if request.here < len(world.nodes) else None
        self.now = world.clock.now
        self.age_s = world.view.age_s
        self.deployments: Many[DeploymentView] = [
            DeploymentLook(world, deployment) for deployment in world.experiment.deployments
        ]
        self.answers: Many[Answer] = tuple(request.answers)
        self.accuracy: AccuracyTable | None = world.experiment.accuracy_validation

    def delay_s(self, node: int) -> float:
        return self.world.delay_s(self.endpoint, node)

    def uniform(self) -> float:
        return self.world.delivery_random()
