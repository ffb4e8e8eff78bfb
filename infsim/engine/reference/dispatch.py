"""Where a request goes: delivery decisions, the choice of a path, and how a request ends."""

from __future__ import annotations

from collections.abc import Callable
from math import nan
from typing import TYPE_CHECKING

from infsim.engine.reference.answers import judged
from infsim.engine.reference.parts import Hop, Path, Request, Sequence, State
from infsim.engine.reference.views import Candidate, DeliveryLook, RoutingLook
from infsim.policy.interface import Accept, Answer, Forward, Serve

if TYPE_CHECKING:
    from infsim.engine.reference.world import World

MOST_DECISIONS = 32


class Dispatch:
    """Takes requests from their arrival to a waiting queue, and out of the run."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.parked: list[list[Request]] = [[] for _ in world.experiment.deployments]
        self.on_end: Callable[[Request, bool], None] | None = None

    # --- delivery

    def decide(self, request: Request) -> None:
        """Ask the delivery policy where to serve a request."""
        policy = self.world.experiment.delivery
        self._count_decision(request)
        view = DeliveryLook(self.world, request)
        answer = self.world.ask("delivery", policy, request, policy.decide, request.view, view)
        if not isinstance(answer, Serve | Forward):
            raise self.world.nonsense("delivery", policy, request, f"it answered {answer!r}")
        self._obey(request, answer)

    def _count_decision(self, request: Request) -> None:
        request.decisions += 1
        if request.decisions > MOST_DECISIONS:
            policy = self.world.experiment.delivery
            reason = f"it has decided more than {MOST_DECISIONS} times"
            raise self.world.nonsense("delivery", policy, request, reason)

    def _obey(self, request: Request, answer: Serve | Forward) -> None:
        experiment = self.world.experiment
        if isinstance(answer, Serve):
            chosen, known = answer.deployment, len(experiment.deployments)
        else:
            chosen, known = answer.node, len(self.world.nodes)
        if chosen not in range(known):
            reason = f"it answered {answer!r}"
            raise self.world.nonsense("delivery", experiment.delivery, request, reason)
        if isinstance(answer, Serve):
            self._serve(request, chosen)
        else:
            self._forward(request, chosen)

    def _serve(self, request: Request, index: int) -> None:
        model = self.world.experiment.deployments[index].model
        limit, prompt = model.max_context, request.view.input_tokens
        if limit is not None and prompt >= limit:
            self.end(request, "rejected", "context limit")
            return
        request.deployment = index
        request.total = request.output_tokens if model.generative else 1
        if limit is not None:
            request.total = min(request.total, limit - prompt)
        self.dispatch(request)

    def _forward(self, request: Request, node: int) -> None:
        request.forwards += 1
        if request.here == node:
            self.decide(request)
            return
        source = request.here
        nodes = [n for n in (source, node) if n < len(self.world.nodes)]
        failures = {n: self.world.nodes[n].failures for n in nodes}

        def delivered() -> None:
            request.here = node
            self.decide(request)

        size = self._size(request.view.input_tokens)
        lost = lambda: self.world.churn.lose_forward(request, failures)  # noqa: E731
        self.world.transport.send(source, node, size, delivered, lost)

    def _size(self, tokens: int) -> int:
        """Bytes of a prompt on the wire."""
        settings = self.world.experiment.settings
        if settings.request_bytes is not None:
            return settings.request_bytes
        return tokens * settings.token_bytes

    # --- dispatch

    def dispatch(self, request: Request) -> None:
        """Choose a path and send the prompt there; park the request if there is none."""
        path = self._choose(request)
        if path is None:
            self.parked[request.deployment].append(request)
            return
        world = self.world
        request.dispatched = (request.deployment, path.replica)
        sequence = Sequence(
            request,
            path,
            prompt=request.view.input_tokens + request.made,
            failures={node: world.nodes[node].failures for node in path.nodes},
        )
        world.sequences.append(sequence)
        if request.here == path.entry.node:
            self._join(sequence)
        else:
            world.transport.send(
                request.here,
                path.entry.node,
                self._size(sequence.prompt),
                lambda: self._join(sequence),
                lambda: world.churn.lose(sequence),
            )

    def redispatch(self, deployment: int) -> None:
        """Dispatch all parked requests of a deployment again, in order."""
        parked, self.parked[deployment] = self.parked[deployment], []
        for request in parked:
            self.dispatch(request)

    def _join(self, sequence: Sequence) -> None:
        """The prompt is at the entry: it joins the waiting queue."""
        world, path = self.world, sequence.path
        if world.churn.broken(sequence):
            world.churn.lose(sequence)
        elif not world.memory.possible(path, sequence.prompt):
            world.iterations.leave(sequence)
            self.end(sequence.request, "rejected", "kv capacity")
        else:
            sequence.state = State.WAITING
            sequence.queued_s = world.clock.now
            host = world.iterations.host(path.entry)
            host.waiting.append(sequence)
            host.stages = len(path.hops)
            world.touch(path.entry.node)

    def _choose(self, request: Request) -> Path | None:
        """Ask the router for a path; None if there is no candidate."""
        index, world = request.deployment, self.world
        if not world.view.up(index):
            return None
        if not world.view.is_mesh(index):
            candidates = world.view.replicas(index, request.here)
            chosen = self.route(request, candidates)
            return Path(chosen.index, chosen.hops)
        hops = self._whole_path(request) or self._hop_by_hop(request)
        return Path(hops[0].stage, tuple(hops))

    def route(self, request: Request, candidates: list[Candidate]) -> Candidate:
        """Ask the router for one of some candidates."""
        policy = self.world.experiment.router
        view = RoutingLook(self.world, request, candidates)
        chosen = self.world.ask("routing", policy, request, policy.route, request.view, view)
        for candidate in candidates:
            if candidate is chosen:
                return candidate
        reason = f"it answered {chosen!r}, which is none of the candidates"
        raise self.world.nonsense("routing", policy, request, reason)

    def _whole_path(self, request: Request) -> list[Hop] | None:
        policy, world, index = self.world.experiment.router, self.world, request.deployment
        candidates = world.view.stages_from(index, 0, request.here)
        view = RoutingLook(world, request, candidates)
        chosen = world.ask("routing", policy, request, policy.path, request.view, view)
        if chosen is None:
            return None
        hops: list[Hop] = []
        position, known = 0, world.view.hosts(index)
        for choice in chosen:
            host = next((h for h in (*known, *candidates) if h.index == choice.index), None)
            if host is None or not host.start <= position < host.end:
                reason = f"its path does not go on at operator {position}"
                raise world.nonsense("routing", policy, request, reason)
            hops.append(world.view.hop(index, host.index, position))
            position = host.end
        if position < len(world.experiment.deployments[index].model.graph):
            reason = f"its path ends before operator {position}"
            raise world.nonsense("routing", policy, request, reason)
        return hops

    def _hop_by_hop(self, request: Request) -> list[Hop]:
        world, index = self.world, request.deployment
        hops: list[Hop] = []
        position, at = 0, request.here
        while position < len(world.experiment.deployments[index].model.graph):
            chosen = self.route(request, world.view.stages_from(index, position, at))
            hops += chosen.hops
            position, at = chosen.end, hops[-1].node
        return hops

    # --- the end of a request

    def answered(self, request: Request, node: int) -> None:
        """All tokens are made, at a node: ask the delivery policy whether the answer is good."""
        world, policy = self.world, self.world.experiment.delivery
        request.here = node
        answer = self._answer(request, node)
        request.answers.append(answer)
        self._count_decision(request)
        view = DeliveryLook(world, request)
        verdict = world.ask("delivery", policy, request, policy.review, request.view, answer, view)
        if isinstance(verdict, Accept):
            to_client_s = world.delay_now_s(node, world.client_endpoint(request.view.client))
            self.end(request, "completed", at_s=world.clock.now + to_client_s)
        elif isinstance(verdict, Serve | Forward):
            request.made = 0
            request.first_token_s = nan
            self._obey(request, verdict)
        else:
            raise world.nonsense("delivery", policy, request, f"it answered {verdict!r}")

    def _answer(self, request: Request, node: int) -> Answer:
        found = judged(self.world.experiment, request.deployment, request.view.sample_id)
        if found is None:
            return Answer(request.deployment, node, None, None)
        return Answer(request.deployment, node, found.confidence, found.prediction)

    def end(
        self, request: Request, status: str, error: str = "", at_s: float | None = None
    ) -> None:
        """A request leaves the run: now, or when its answer reaches the client."""
        request.ended = True
        request.end_s = self.world.clock.now
        if at_s is not None:  # an earlier token may have come from farther away
            request.end_s = max(at_s, request.first_token_s)
        self.world.books.request(request, status, error)
        if self.on_end is not None:
            self.on_end(request, status == "completed")
