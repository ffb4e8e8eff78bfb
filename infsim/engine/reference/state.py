"""What is believed about the cluster: as it is, or as it was at the last snapshot."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from infsim.engine.reference.clock import Turn
from infsim.engine.reference.parts import Hop, Sequence, State
from infsim.engine.reference.views import Candidate

if TYPE_CHECKING:
    from infsim.engine.reference.world import World


class Figures(Protocol):
    """Load of a candidate."""

    @property
    def waiting(self) -> int: ...
    @property
    def running(self) -> int: ...
    @property
    def queued_tokens(self) -> int: ...
    @property
    def kv_used(self) -> float: ...


@dataclass(frozen=True)
class OldFigures:
    """Load of a candidate as it was."""

    waiting: int
    running: int
    queued_tokens: int
    kv_used: float


class LiveFigures:
    """Load of a candidate as it is, counted when asked."""

    def __init__(self, world: World, deployment: int, candidate: int) -> None:
        self.world, self.deployment, self.candidate = world, deployment, candidate

    def _sequences(self, admitted: bool) -> list[Sequence]:
        return [
            sequence
            for sequence in self.world.sequences
            if self._uses(sequence) and (sequence.state is State.ADMITTED) == admitted
        ]

    def _uses(self, sequence: Sequence) -> bool:
        path = sequence.path
        if path.deployment != self.deployment:
            return False
        if self.world.view.is_mesh(self.deployment):
            return any(hop.stage == self.candidate for hop in path.hops)
        return path.replica == self.candidate

    @property
    def waiting(self) -> int:
        return len(self._sequences(admitted=False))

    @property
    def running(self) -> int:
        return len(self._sequences(admitted=True))

    @property
    def queued_tokens(self) -> int:
        sequences = self._sequences(admitted=False) + self._sequences(admitted=True)
        return sum(sequence.prompt - sequence.computed for sequence in sequences)

    @property
    def kv_used(self) -> float:
        memory = self.world.memory
        nodes = {hop.node for hop in self.world.view.hops(self.deployment, self.candidate)}
        return max(
            memory.used(node) / memory.capacity[node] if memory.capacity[node] else 0.0
            for node in nodes
        )


@dataclass(frozen=True)
class Snapshot:
    """What is believed until the next one."""

    time_s: float
    ready: list[bool]
    leaving: list[bool]
    figures: dict[tuple[int, int], OldFigures]
    cached: list[set[tuple[Hop, int]]]


class View:
    """Who is ready, how loaded they are, and what they have cached."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.snapshot: Snapshot | None = None
        self.interval_s = world.experiment.settings.staleness_s
        if self.interval_s > 0:
            self._take(0)

    def _take(self, number: int) -> None:
        def take() -> None:
            self.snapshot = self._look()
            for deployment in self.world.experiment.deployments:
                self.world.dispatch.redispatch(deployment.index)
            self._take(number + 1)

        self.world.clock.at(number * self.interval_s, take, Turn.SNAPSHOT)

    def _look(self) -> Snapshot:
        figures = {}
        for index in range(len(self.world.experiment.deployments)):
            for candidate in range(self.candidates(index)):
                live = LiveFigures(self.world, index, candidate)
                figures[index, candidate] = OldFigures(
                    live.waiting, live.running, live.queued_tokens, live.kv_used
                )
        return Snapshot(
            self.world.clock.now,
            [node.status == "ready" for node in self.world.nodes],
            [node.leaving for node in self.world.nodes],
            figures,
            [set(cache) for cache in self.world.memory.cache],
        )

    # --- what is believed

    @property
    def age_s(self) -> float:
        return self.world.clock.now - self.snapshot.time_s if self.snapshot else 0.0

    def ready(self, node: int) -> bool:
        if self.snapshot:
            return self.snapshot.ready[node]
        return self.world.nodes[node].status == "ready"

    def usable(self, deployment: int) -> set[int]:
        """Nodes for new requests: those that are ready, and stay if the others can do without."""
        if self.snapshot:
            leaving = self.snapshot.leaving
        else:
            leaving = [node.leaving for node in self.world.nodes]
        ready = {node for node in range(len(self.world.nodes)) if self.ready(node)}
        staying = {node for node in ready if not leaving[node]}
        return staying if self._suffices(deployment, staying) else ready

    def _suffices(self, deployment: int, nodes: set[int]) -> bool:
        """Whether a request could be routed through these nodes alone."""
        if not self.is_mesh(deployment):
            return any(
                all(hop.node in nodes for hop in self.hops(deployment, index))
                for index in range(self.candidates(deployment))
            )
        stages = self.world.experiment.plans[deployment].stages
        held = {i for s in stages if s.node in nodes for i in range(s.start, s.end)}
        return len(held) == len(self.world.experiment.deployments[deployment].model.graph)

    def figures(self, deployment: int, candidate: int) -> Figures:
        if self.snapshot:
            return self.snapshot.figures[deployment, candidate]
        return LiveFigures(self.world, deployment, candidate)

    def cached(self, hop: Hop) -> set[int]:
        """Hashes of the blocks that are cached at a hop."""
        if self.snapshot:
            keys = self.snapshot.cached[hop.node]
        else:
            keys = set(self.world.memory.cache[hop.node])
        return {value for other, value in keys if other == hop}

    # --- candidates

    def is_mesh(self, deployment: int) -> bool:
        return self.world.experiment.plans[deployment].pipelines is None

    def candidates(self, deployment: int) -> int:
        """How many candidates there are: replicas, or the stages of a mesh."""
        plan = self.world.experiment.plans[deployment]
        return len(plan.stages if plan.pipelines is None else plan.pipelines)

    def hop(self, deployment: int, stage: int, start: int | None = None) -> Hop:
        """The hop of a stage; in a mesh it may be entered in its middle."""
        place = self.world.experiment.plans[deployment].stages[stage]
        operators = place.operators
        if start is not None:
            operators = tuple(i for i in operators if i >= start)
        return Hop(deployment, stage, operators[0], place.end, place.node, operators)

    def hops(self, deployment: int, candidate: int) -> tuple[Hop, ...]:
        """All hops of a replica, or the whole of a stage."""
        pipelines = self.world.experiment.plans[deployment].pipelines
        stages = (candidate,) if pipelines is None else pipelines[candidate]
        return tuple(self.hop(deployment, stage) for stage in stages)

    def up(self, deployment: int) -> bool:
        """Whether there is a candidate: a ready replica, or ready stages for all operators."""
        return self._suffices(deployment, self.usable(deployment))

    def replicas(self, deployment: int, here: int) -> list[Candidate]:
        """The dedicated replicas that are believed to be ready, as seen from an endpoint."""
        operators = len(self.world.experiment.deployments[deployment].model.graph)
        usable = self.usable(deployment)
        found = []
        for index in range(self.candidates(deployment)):
            hops = self.hops(deployment, index)
            if all(hop.node in usable for hop in hops):
                delay_s = self.world.delay_s(here, hops[0].node)
                found.append(Candidate(self.world, index, hops, 0, operators, delay_s))
        return found

    def stages_from(self, deployment: int, position: int, here: int) -> list[Candidate]:
        """Stages of a mesh that are believed to be ready and hold the next operator."""
        plan = self.world.experiment.plans[deployment]
        usable = self.usable(deployment)
        found = []
        for index, stage in enumerate(plan.stages):
            if stage.start <= position < stage.end and stage.node in usable:
                hop = self.hop(deployment, index, position)
                delay_s = self.world.delay_s(here, stage.node)
                found.append(Candidate(self.world, index, (hop,), position, stage.end, delay_s))
        return found

    def hosts(self, deployment: int, here: int = 0) -> list[Candidate]:
        """All stages of a mesh that are believed to be ready, whole."""
        plan = self.world.experiment.plans[deployment]
        usable = self.usable(deployment)
        return [
            Candidate(
                self.world,
                index,
                self.hops(deployment, index),
                stage.start,
                stage.end,
                self.world.delay_s(here, stage.node),
            )
            for index, stage in enumerate(plan.stages)
            if stage.node in usable
        ]

    def first_replica(self, deployment: int) -> tuple[Hop, ...]:
        """Replica 0; in a mesh, always the first stage that holds the next operator."""
        if not self.is_mesh(deployment):
            return self.hops(deployment, 0)
        stages = self.world.experiment.plans[deployment].stages
        hops: list[Hop] = []
        position = 0
        while position < len(self.world.experiment.deployments[deployment].model.graph):
            index = next(i for i, s in enumerate(stages) if s.start <= position < s.end)
            hops.append(self.hop(deployment, index, position))
            position = hops[-1].end
        return tuple(hops)
