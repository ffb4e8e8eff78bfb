"""Nodes fail and return; what was lost is detected and recovered."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from infsim.cluster.availability import Outage
from infsim.engine.clock import FIRST, Call
from infsim.engine.memory import KvMemory
from infsim.engine.node import DOWN, LOADING, READY, RunningNode
from infsim.engine.paths import Hop
from infsim.engine.pipeline import EntryHost
from infsim.engine.sequence import RUNNING, TRAVELLING, Batch, Sequence, Ticket
from infsim.errors import PolicyError
from infsim.policy.interface import Action, Loss
from infsim.results.recorder import Status

if TYPE_CHECKING:
    from infsim.engine.core import Engine
    from infsim.engine.dispatch import Dispatcher


class Lost:
    """A loss that has not been detected yet."""

    __slots__ = ("held", "nodes", "resumable", "sequence", "ticket")

    def __init__(self, ticket: Ticket, sequence: Sequence | None, nodes: tuple[int, ...]) -> None:
        self.ticket = ticket
        self.sequence = sequence
        self.nodes = nodes
        # Hops on which it has KV, and the epochs of their nodes.
        self.held: dict[int, int] = {}
        self.resumable = False

    @property
    def node(self) -> int:
        """The first node to blame, -1 if it was none of the path (but where it came from)."""
        return self.nodes[0] if self.nodes else -1


class Failures:
    """Churn of nodes, losses of requests, and their recovery."""

    def __init__(self, engine: Engine, desk: Dispatcher) -> None:
        self.engine = engine
        self.desk = desk
        self.undetected: set[Lost] = set()
        self._outages: list[Iterator[Outage]] = []
        self._replaying: dict[Sequence, set[int]] = {}

    def start(self) -> None:
        """Await the first outage of each node."""
        streams = self.engine.experiment.streams
        for node in self.engine.nodes:
            self._outages.append(node.spec.availability.outages(streams, node.spec.name))
            self._await_outage(node)

    def _await_outage(self, node: RunningNode) -> None:
        outage = next(self._outages[node.index], None)
        if outage is None:
            return
        clock = self.engine.clock
        if outage.notice_s > 0:
            notice_s = max(outage.down_s - outage.notice_s, clock.now)
            clock.at(notice_s, self._notice, node, FIRST)
        clock.at(max(outage.down_s, clock.now), self._down, (node, outage.up_s), FIRST)

    # --- nodes ---------------------------------------------------------------------------------

    def _notice(self, call: Call) -> None:
        node: RunningNode = call.argument
        node.leaving = True
        self.engine.recorder.incident(self.engine.clock.now, node.index, "notice")
        self._tell_deployments(node.index)

    def _down(self, call: Call) -> None:
        node, until = call.argument
        node.leaving = False
        engine = self.engine
        now = engine.clock.now
        for host in node.hosts:
            host.fail(now)
        node.stop(now)
        node.enter(DOWN, now)
        node.epoch += 1
        node.failures += 1
        node.memory.clear()
        engine.transport.generation[node.index] += 1
        engine.transport.ready[node.index] = False
        engine.recorder.incident(now, node.index, "down")
        self._tell_deployments(node.index)
        active = sorted(node.active, key=lambda sequence: sequence.request.request_id)
        node.active.clear()
        for sequence in active:
            # Prompts on their way are lost when they would have arrived.
            if sequence.state != TRAVELLING:
                self.lose(sequence, (node.index,))
        if until != float("inf"):
            engine.clock.at(until, self._up, node, FIRST)

    def _up(self, call: Call) -> None:
        node: RunningNode = call.argument
        engine = self.engine
        now = engine.clock.now
        node.enter(LOADING, now)
        engine.recorder.incident(now, node.index, "up")
        load_s = engine.experiment.costs.load_s(node.index, engine.weights[node.index])
        engine.clock.at(now + load_s, self._ready, (node, node.epoch), FIRST)
        self._await_outage(node)

    def _ready(self, call: Call) -> None:
        node, epoch = call.argument
        if epoch != node.epoch:
            return
        engine = self.engine
        now = engine.clock.now
        node.enter(READY, now)
        engine.transport.ready[node.index] = True
        engine.recorder.incident(now, node.index, "ready")
        self._tell_deployments(node.index)
        if not engine.settings.staleness_s:
            for deployment in engine.deployments:
                if node.index in deployment.nodes:
                    self.desk.retry_parked(deployment)

    def _tell_deployments(self, index: int) -> None:
        for deployment in self.engine.deployments:
            if index in deployment.nodes:
                deployment.changed()

    # --- losses --------------------------------------------------------------------------------

    def lose(self, sequence: Sequence, nodes: tuple[int, ...]) -> None:
        """A sequence is lost now; it will be recovered when that is detected."""
        engine = self.engine
        lost = Lost(sequence._ticket, sequence, tuple(sorted(nodes)))
        if sequence.state != TRAVELLING and sequence.path.entry.node not in nodes:
            engine.entry(sequence.path.entry).remove(sequence)
        if sequence.state == RUNNING:
            lost.resumable = sequence.prefilled and sequence not in self._replaying
            hops = sequence.path.hops
            lost.held = {
                i: engine.nodes[hop.node].epoch
                for i, hop in enumerate(hops)
                if hop.node not in nodes
            }
        self._replaying.pop(sequence, None)
        sequence._ticket.generated = sequence.generated
        self.desk.leave(sequence)
        self._await_detection(lost)

    def lost_forward(self, ticket: Ticket, nodes: tuple[int, ...]) -> None:
        """A request was lost on its way to another node, with the nodes at its ends that failed."""
        self._await_detection(Lost(ticket, None, nodes))

    def _await_detection(self, lost: Lost) -> None:
        engine = self.engine
        now = engine.clock.now
        self.undetected.add(lost)
        engine.recorder.incident(now, lost.node, "loss", lost.ticket.request.request_id)
        engine.clock.at(now + engine.settings.detection_s, self._detected, lost)

    def _detected(self, call: Call) -> None:
        lost: Lost = call.argument
        self.undetected.discard(lost)
        ticket = lost.ticket
        ticket.attempts += 1
        action = self._ask(lost)
        if action is Action.FAIL or ticket.attempts > self.engine.settings.max_attempts:
            self._give_up(lost)
            too_often = ticket.attempts > self.engine.settings.max_attempts
            error = "max attempts" if too_often else "given up"
            self.desk.finish(ticket, Status.FAILED, error)
            return
        ticket.recoveries += 1
        self.engine.recorder.incident(
            self.engine.clock.now, lost.node, "recover", ticket.request.request_id, action.value
        )
        if action is Action.REPLAY and self._replay(lost):
            return
        self._give_up(lost)
        if action is Action.RESTART:
            self.desk.forget(ticket)
        if lost.sequence is None:
            self.desk.decide(ticket)
        else:
            self.desk.dispatch(ticket, self.engine.deployments[ticket.deployment])

    def _ask(self, lost: Lost) -> Action:
        ticket = lost.ticket
        now = self.engine.clock.now
        loss = Loss(ticket.request, now, ticket.attempts, ticket.generated, lost.nodes)
        try:
            action = self.engine.experiment.recovery.recover(loss)
        except PolicyError:
            raise
        except (Exception, SystemExit) as error:
            reason = f"recover() raised {type(error).__name__}: {error}"
            raise self._wrong(ticket, reason) from error
        if not isinstance(action, Action):
            raise self._wrong(ticket, f"recover() must return an Action, got {action!r}")
        return action

    def _wrong(self, ticket: Ticket, reason: str) -> PolicyError:
        name = self.engine.name_of("recovery")
        return PolicyError("recovery", name, ticket.request.request_id, reason)

    def _give_up(self, lost: Lost) -> None:
        """Count the KV as wasted and release what is left of it on other nodes."""
        sequence = lost.sequence
        if sequence is None:
            return
        lost.ticket.wasted += sequence.worked
        left = self._left(lost)
        if left:
            self.engine.kv.release_hops(sequence, left)
            self.engine.eased(sequence.path.nodes)

    def _left(self, lost: Lost) -> list[int]:
        """Hops on which the sequence still has its KV: their nodes have not failed since."""
        assert lost.sequence is not None
        nodes = self.engine.nodes
        hops = lost.sequence.path.hops
        return [i for i, epoch in lost.held.items() if nodes[hops[i].node].epoch == epoch]

    # --- replay of lost hops on a mesh ---------------------------------------------------------

    def _replay(self, lost: Lost) -> bool:
        """Give the lost hops new hosts and compute their KV again; False if that cannot be."""
        old = lost.sequence
        if old is None or not lost.resumable:
            return False
        engine = self.engine
        deployment = engine.deployments[lost.ticket.deployment]
        left = self._left(lost)
        hops, loads = list(old.path.hops), list(old.loads)
        gone = [i for i in range(len(hops)) if i not in left]
        if not deployment.mesh or 0 in gone:
            return False
        age = self.desk.age(engine.clock.now)
        reserved: list[tuple[KvMemory, int]] = []
        for i in gone:
            _, _, start, end = hops[i].key
            need = old.blocks * hops[i].block_bytes
            chosen = deployment.replace(lost.ticket, hops[i], need, age)
            if chosen is None:
                for memory, size in reserved:
                    memory.release(size)
                return False
            hops[i] = deployment.maker.hop(chosen.index, start, end)
            loads[i] = chosen.load
            memory = engine.kv.memories[hops[i].node]
            memory.allocate(need)
            reserved.append((memory, need))
        lost.ticket.wasted += old.worked * sum(old.path.hops[i].share for i in gone)
        path = deployment.maker.chain(tuple(hops))
        self._resume(Sequence(lost.ticket, path, tuple(loads), old._target), old, gone)
        return True

    def _resume(self, resumed: Sequence, old: Sequence, gone: list[int]) -> None:
        """Let a new sequence take over what is left of the old one."""
        engine = self.engine
        path = resumed.path
        entry = engine.entry(path.entry)
        assert isinstance(entry, EntryHost)
        resumed.state = RUNNING
        resumed.prefilled = True
        resumed.order = old.order
        entry.running += 1
        resumed.blocks = old.blocks
        resumed.cached = old.cached
        if old.entries is not None:
            resumed.entries = [[] if i in gone else keys for i, keys in enumerate(old.entries)]
        resumed.kv = resumed.request.input_tokens + resumed.generated - 1
        resumed.prompt = resumed.computed = resumed.kv
        for load in resumed.loads:
            load.running += 1
        for node in path.nodes:
            engine.nodes[node].active[resumed] = None
        self._replaying[resumed] = set(gone)
        edge_bytes = engine.deployments[resumed._ticket.deployment].maker.edge_bytes
        for i in gone:
            hop = path.hops[i]
            size = resumed.kv * edge_bytes(hop.key[2])
            engine.transport.send(
                resumed._ticket.client, hop.node, size, self._replay_reached, (resumed, i)
            )

    def _replay_reached(self, content: tuple[Sequence, int], arrived: bool) -> None:
        # If the sequence is lost meanwhile, what has arrived is computed all the same.
        sequence, i = content
        hop = sequence.path.hops[i]
        if not arrived:
            if sequence in self._replaying:
                self.lose(sequence, (hop.node,))
            return
        batch = Batch(sequence.path, sequence._ticket.client)
        batch.add_chunk(sequence, 0, sequence.kv, False)
        batch.replay = sequence
        self.engine.stage(hop).put(batch, i)

    def replayed(self, sequence: Sequence, hop: Hop, now: float) -> None:
        """A new hop has computed the KV of a resumed sequence again."""
        waiting = self._replaying.get(sequence)
        if waiting is None:
            return
        waiting.discard(sequence.path.hops.index(hop))
        if not waiting:
            del self._replaying[sequence]
            entry = sequence.path.entry.node
            delay = self.engine.transport.propagation_s(hop.node, entry)
            self.engine.clock.at(now + delay, self._at_hand, sequence)

    def _at_hand(self, call: Call) -> None:
        sequence: Sequence = call.argument
        entry = self.engine.entry(sequence.path.entry)
        assert isinstance(entry, EntryHost)
        entry.come_back([sequence])
