"""Nodes that fail and return, and what becomes of the requests that this hits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import inf
from typing import TYPE_CHECKING

from infsim.cluster.availability import Outage
from infsim.engine.reference.clock import Turn
from infsim.engine.reference.parts import Node, Request, Sequence, State
from infsim.policy.interface import Action, Loss

if TYPE_CHECKING:
    from infsim.engine.reference.world import World


class Churn:
    """Failures, returns, losses and recoveries."""

    def __init__(self, world: World) -> None:
        self.world = world
        for node in world.nodes:
            machine = node.machine
            self._expect(node, machine.availability.outages(world.experiment.streams, machine.name))

    # --- nodes

    def _expect(self, node: Node, outages: Iterator[Outage]) -> None:
        """Wait for the next outage of a node."""
        outage = next(outages, None)
        if outage is None or outage.down_s == inf:
            return
        down_at, up_at, notice_s = outage

        def give_notice() -> None:
            self.world.recorder.incident(self.world.clock.now, node.index, "notice")
            node.leaving = True

        def come_back() -> None:
            self._return(node)
            self._expect(node, outages)

        def go() -> None:
            self._fail(node)
            if up_at < inf:
                self.world.clock.at(up_at, come_back, Turn.FAILURE)

        if notice_s > 0:
            notice_at = max(down_at - notice_s, self.world.clock.now)
            self.world.clock.at(notice_at, give_notice, Turn.FAILURE)
        self.world.clock.at(down_at, go, Turn.FAILURE)

    def _fail(self, node: Node) -> None:
        world = self.world
        world.recorder.incident(world.clock.now, node.index, "down")
        if node.running is not None:
            world.iterations.record(node, finished=False)
        self._change(node, "down")
        node.leaving = False
        node.failures += 1
        hit = [
            sequence
            for sequence in world.sequences
            if sequence.state is not State.SENT and node.index in sequence.path.nodes
        ]
        for sequence in sorted(hit, key=lambda sequence: sequence.request.id):
            self.lose(sequence)
        world.memory.clear(node.index)
        node.hosts = {}

    def _return(self, node: Node) -> None:
        world = self.world
        world.recorder.incident(world.clock.now, node.index, "up")
        self._change(node, "loading")
        failures = node.failures
        load_s = world.experiment.costs.load_s(node.index, node.weight_bytes)

        def ready() -> None:
            if node.failures == failures:
                self._ready(node)

        world.clock.at(world.clock.now + load_s, ready, Turn.FAILURE)

    def _ready(self, node: Node) -> None:
        world = self.world
        world.recorder.incident(world.clock.now, node.index, "ready")
        self._change(node, "ready")
        if world.view.interval_s:
            return  # it is believed at the next snapshot
        for deployment, plan in enumerate(world.experiment.plans):
            if any(stage.node == node.index for stage in plan.stages):
                world.dispatch.redispatch(deployment)

    def _change(self, node: Node, status: str) -> None:
        self.world.meters[node.index].read(self.world.clock.now)
        node.status = status

    # --- losses

    def broken(self, sequence: Sequence) -> bool:
        """Whether a node of its path is not ready, or has failed since the dispatch."""
        return bool(self._lost_nodes(sequence.failures))

    def _lost_nodes(self, failures: Mapping[int, int]) -> set[int]:
        nodes = self.world.nodes
        return {
            n
            for n, before in failures.items()
            if nodes[n].failures != before or nodes[n].status != "ready"
        }

    def lose(self, sequence: Sequence) -> None:
        """A sequence is lost now; that is detected later."""
        if not sequence.alive:
            return
        world = self.world
        lost_nodes = self._lost_nodes(sequence.failures)
        self._record_loss(sequence.request, lost_nodes)
        world.iterations.leave(sequence)
        world.lost.append(sequence)
        world.touch(sequence.path.entry.node)
        detection_s = world.clock.now + world.experiment.settings.detection_s
        world.clock.at(detection_s, lambda: self._detect(sequence, lost_nodes))

    def lose_forward(self, request: Request, failures: Mapping[int, int]) -> None:
        """A request is lost on its way to another node."""
        world = self.world
        lost_nodes = self._lost_nodes(failures)
        self._record_loss(request, lost_nodes)

        def detect() -> None:
            action = self._recover(request, lost_nodes)
            if action is not None:
                world.dispatch.decide(request)

        world.clock.at(world.clock.now + world.experiment.settings.detection_s, detect)

    def _record_loss(self, request: Request, lost_nodes: set[int]) -> None:
        node = min(lost_nodes, default=-1)
        self.world.recorder.incident(self.world.clock.now, node, "loss", request.id)

    def failed_since(self, failures: Mapping[int, int]) -> set[int]:
        """Nodes that have failed more often than they had at some earlier time."""
        return {n for n, before in failures.items() if self.world.nodes[n].failures != before}

    # --- recovery

    def _detect(self, sequence: Sequence, lost_nodes: set[int]) -> None:
        """A loss is known: recover the request."""
        world, request = self.world, sequence.request
        action = self._recover(request, lost_nodes, sequence)
        if action is Action.REPLAY and world.replay.try_in_place(sequence):
            return
        if sequence in world.lost:
            world.iterations.give_up(sequence)
        if action is None:
            return
        if action is Action.RESTART:
            request.made = 0
        world.dispatch.dispatch(request)

    def _recover(
        self, request: Request, lost_nodes: set[int], sequence: Sequence | None = None
    ) -> Action | None:
        """Ask the recovery policy; None if the request has failed."""
        world, policy = self.world, self.world.experiment.recovery
        if request.attempts > world.experiment.settings.max_attempts:
            self._fail_request(request, sequence, "max attempts")
            return None
        loss = Loss(
            request=request.view,
            now=world.clock.now,
            attempts=request.attempts,
            generated_tokens=request.made,
            lost_nodes=tuple(sorted(lost_nodes)),
        )
        action = world.ask("recovery", policy, request, policy.recover, loss)
        if not isinstance(action, Action):
            raise world.nonsense("recovery", policy, request, f"it answered {action!r}")
        if action is Action.FAIL:
            self._fail_request(request, sequence, "given up")
            return None
        node = min(lost_nodes, default=-1)
        world.recorder.incident(world.clock.now, node, "recover", request.id, action.value)
        request.attempts += 1
        return action

    def _fail_request(self, request: Request, sequence: Sequence | None, error: str) -> None:
        if sequence is not None:
            self.world.iterations.give_up(sequence)
        self.world.dispatch.end(request, "failed", error)
