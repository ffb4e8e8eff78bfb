"""A deployment at run time: its candidates, and how a request is routed through it."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from infsim.engine.paths import Hop, Path, PathMaker, check_plan
from infsim.engine.sequence import Ticket
from infsim.engine.views import Candidate, Load, Routing
from infsim.errors import PolicyError
from infsim.policy.interface import Request
from infsim.rng import Uniform

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from infsim.engine.core import Engine
    from infsim.model.deployment import Deployment
    from infsim.policy.interface import Plan


class RunningDeployment:
    """Candidates of a deployment: its dedicated replicas, or the stages of its mesh.

    Attributes
    ----------
    here, client : int
        Endpoint from which the candidates' delays are seen at present, and the one of the client
        of the request that is being routed.
    made : int
        Tokens that the request being routed has made already: its prompt is longer by them.
    position, until : int or None
        In a mesh, the operator that is being routed, and where a lost hop that is being
        replaced ends.
    parked : deque of Ticket
        Requests for which there was no candidate.
    """

    def __init__(self, engine: Engine, spec: Deployment, plan: Plan, first_stage: int) -> None:
        settings = engine.settings
        check_plan(engine.name_of("placement"), spec, plan)
        self.engine = engine
        self.spec = spec
        self.plan = plan
        self.maker = PathMaker(
            spec, plan, engine.experiment.costs, settings.block_tokens, first_stage
        )
        self.mesh = plan.pipelines is None
        self.live = settings.staleness_s == 0
        self.nodes = tuple(dict.fromkeys(stage.node for stage in plan.stages))
        self.candidates = self._stages() if self.mesh else self._replicas()
        self.here = self.client = self.made = 0
        self.position: int | None = None
        self.until: int | None = None
        self.parked: deque[Ticket] = deque()
        self._believed: tuple[Candidate, ...] | None = None
        uniform = Uniform(engine.experiment.streams.stream("routing", spec.name))
        self._view = Routing(self, uniform)
        self._router = engine.experiment.router

    def _replicas(self) -> list[Candidate]:
        found = []
        for i, pipeline in enumerate(self.plan.pipelines or ()):
            path = self.maker.pipeline(pipeline)
            found.append(Candidate(self, i, f"{self.spec.name}/{i}", path.hops, path.nodes, path))
        return found

    def _stages(self) -> list[Candidate]:
        return [
            Candidate(
                self,
                i,
                f"{self.spec.name}/{i}",
                (self.maker.hop(i, stage.start, stage.end),),
                (stage.node,),
                None,
            )
            for i, stage in enumerate(self.plan.stages)
        ]

    # --- what is believed ----------------------------------------------------------------------

    def believed(self) -> tuple[Candidate, ...]:
        """Candidates that are believed to be ready, in index order.

        Those on nodes that are about to leave only if the others cannot do without them.
        """
        if self._believed is None:
            ready, nodes = self.engine.transport.ready, self.engine.nodes
            found = tuple(c for c in self.candidates if all(ready[n] for n in c.nodes))
            staying = tuple(c for c in found if not any(nodes[n].leaving for n in c.nodes))
            self._believed = staying if self._covers(staying) else found
        return self._believed

    def changed(self) -> None:
        """A node is about to leave, failed, or is ready again."""
        if self.live:
            self._believed = None

    def snapshot(self) -> None:
        """Show the state of this moment until the next snapshot."""
        self._believed = None
        self.believed()
        for candidate in self.candidates:
            candidate.snapshot()

    # --- figures of the views ------------------------------------------------------------------

    def kv_used(self, nodes: Sequence[int]) -> float:
        """Fraction of KV memory in use on the fullest of these nodes."""
        used = 0.0
        now = self.engine.clock.now
        for index in nodes:
            node = self.engine.nodes[index]
            if node.running is not None:
                node.running.settle(now)
            if node.memory.capacity:
                used = max(used, node.memory.used / node.memory.capacity)
        return used

    def delay_s(self, node: int) -> float:
        """One-way delay from where the request is to a node."""
        return self.engine.transport.delay[self.here][node]

    def host_delay_s(self, source: int | None, target: int | None) -> float:
        """One-way delay between two candidates; ``None`` is here at first, the client at last."""
        first = self.here if source is None else self.candidates[source].hops[-1].node
        last = self.client if target is None else self.candidates[target].hops[0].node
        return self.engine.transport.delay[first][last]

    def cached_tokens(
        self, request: Request, hops: tuple[Hop, ...], known: list[set[Hashable]] | None = None
    ) -> int:
        """Leading prompt tokens cached on these hops, now or among what was ``known``."""
        kv = self.engine.kv
        if not self.engine.settings.prefix_cache:
            return 0
        if known is None:
            self._settle(hops)
        return kv.cached_tokens(request, hops, request.input_tokens + self.made, known)

    def cached_entries(self, hops: tuple[Hop, ...]) -> list[set[Hashable]]:
        """The prefix entries on the nodes of these hops at this moment."""
        if not self.engine.settings.prefix_cache:
            return []
        self._settle(hops)
        return [self.engine.nodes[hop.node].memory.entries() for hop in hops]

    def _settle(self, hops: tuple[Hop, ...]) -> None:
        now = self.engine.clock.now
        for hop in hops:
            running = self.engine.nodes[hop.node].running
            if running is not None:
                running.settle(now)

    def first_path(self) -> tuple[Hop, ...]:
        """The first replica; in a mesh, always the first stage that holds the next operator."""
        if not self.mesh:
            return self.candidates[0].hops
        hops: list[Hop] = []
        position = 0
        while position < len(self.spec.model.graph.operators):
            holder = next(
                c.hops[0]
                for c in self.candidates
                if c.hops[0].key[2] <= position < c.hops[0].key[3]
            )
            hops.append(self.maker.hop(holder.key[1], position, holder.key[3]))
            position = holder.key[3]
        return tuple(hops)

    def complete(self) -> bool:
        """Whether a request could be routed now."""
        return self._covers(self.believed())

    def _covers(self, candidates: Sequence[Candidate]) -> bool:
        """Whether a request could be routed among these."""
        if not self.mesh:
            return bool(candidates)
        held = {op for c in candidates for op in range(c.hops[0].key[2], c.hops[0].key[3])}
        return len(held) == len(self.spec.model.graph.operators)

    def queue_s(self) -> float:
        """Compute time of what the least loaded candidate has queued; infinite if there is none."""
        if not self.complete():
            return float("inf")
        return min(
            c.prefill_s(c.queued_tokens) if c.queued_tokens else 0.0
            for c in self.believed()
            if not self.mesh or c.hops[0].key[2] == 0
        )

    # --- routing -------------------------------------------------------------------------------

    def route(self, ticket: Ticket, age_s: float) -> tuple[Path, int, tuple[Load, ...]] | None:
        """Choose the path of a request, its replica (in a mesh: first stage), whom it loads.

        Returns None if there is no candidate that is believed to be ready.
        """
        believed = self.believed()
        if not believed:
            return None
        self.here, self.client = ticket.here, ticket.client
        self.made = ticket.generated
        view = self._view
        view.now = self.engine.clock.now
        view.age_s = age_s
        if self.mesh:
            return self._route_mesh(ticket.request, believed)
        view.replicas = believed
        chosen = self._ask(ticket.request, believed)
        assert chosen.path is not None
        return chosen.path, chosen.index, (chosen.load,)

    def _ask(self, request: Request, candidates: Sequence[Candidate]) -> Candidate:
        try:
            chosen = self._router.route(request, self._view)
        except PolicyError:
            raise
        except (Exception, SystemExit) as error:
            raise self._wrong(request, f"route() raised {type(error).__name__}: {error}") from error
        if chosen not in candidates:
            raise self._wrong(request, f"route() must return one of view.replicas, got {chosen!r}")
        assert isinstance(chosen, Candidate)
        return chosen

    def _wrong(self, request: Request, reason: str) -> PolicyError:
        return PolicyError("routing", self.engine.name_of("routing"), request.request_id, reason)

    def _route_mesh(
        self, request: Request, believed: Sequence[Candidate]
    ) -> tuple[Path, int, tuple[Load, ...]] | None:
        """None if some operator is held by no stage believed to be ready."""
        operators = len(self.spec.model.graph.operators)
        if not self.complete():
            return None
        self._view.replicas = [c for c in believed if c.hops[0].key[2] == 0]
        try:
            whole = self._router.path(request, self._view)
        except (Exception, SystemExit) as error:
            raise self._wrong(request, f"path() raised {type(error).__name__}: {error}") from error
        if whole is not None:
            chosen = self._checked(request, list(whole), believed, operators)
        else:
            chosen = self._hop_by_hop(request, believed, operators)
        hops, position = [], 0
        for candidate in chosen:
            hops.append(self._hop_of(candidate, position))
            position = candidate.hops[-1].key[3]
        loads = tuple(candidate.load for candidate in chosen)
        return self.maker.chain(tuple(hops)), chosen[0].index, loads

    def _hop_by_hop(
        self, request: Request, believed: Sequence[Candidate], operators: int
    ) -> list[Candidate]:
        chosen: list[Candidate] = []
        origin, position = self.here, 0
        try:
            while position < operators:
                holders = [c for c in believed if c.hops[0].key[2] <= position < c.hops[0].key[3]]
                self.position = position
                self._view.replicas = holders
                candidate = self._ask(request, holders)
                chosen.append(candidate)
                self.here = candidate.hops[0].node
                position = candidate.hops[0].key[3]
        finally:
            self.here, self.position = origin, None
        return chosen

    def _checked(
        self,
        request: Request,
        path: list[object],
        believed: Sequence[Candidate],
        operators: int,
    ) -> list[Candidate]:
        chosen: list[Candidate] = []
        position = 0
        for candidate in path:
            if candidate not in believed or not isinstance(candidate, Candidate):
                raise self._wrong(request, f"path() must name hosts of the view, got {candidate!r}")
            hop = candidate.hops[0]
            if not hop.key[2] <= position < hop.key[3]:
                raise self._wrong(
                    request,
                    f"path() enters {candidate.name} at operator {position}, but it holds"
                    f" {hop.key[2]} to {hop.key[3] - 1}",
                )
            position = hop.key[3]
            chosen.append(candidate)
        if position != operators:
            raise self._wrong(request, f"path() ends at operator {position} of {operators}")
        return chosen

    def _hop_of(self, candidate: Candidate, position: int) -> Hop:
        _, stage, start, end = candidate.hops[0].key
        return self.maker.hop(stage, max(start, position), end)

    # --- replacement of lost hops --------------------------------------------------------------

    def replace(self, ticket: Ticket, hop: Hop, need: int, age_s: float) -> Candidate | None:
        """Choose a ready stage with ``need`` bytes of KV free that holds a lost hop's operators."""
        _, _, start, end = hop.key
        holders = [
            c
            for c in self.candidates
            if c.hops[0].key[2] <= start
            and end <= c.hops[0].key[3]
            and self.engine.transport.ready[c.hops[0].node]
            and self.engine.kv.memories[c.hops[0].node].free >= need
        ]
        if not holders:
            return None
        self.here = ticket.client
        self.made = ticket.generated
        self.position, self.until = start, end
        view = self._view
        view.now, view.age_s, view.replicas = self.engine.clock.now, age_s, holders
        try:
            return self._ask(ticket.request, holders)
        finally:
            self.position = self.until = None
