"""The pass of a batch along its path: from hop to hop, tokens made, and back to the entry."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from infsim.engine.reference.parts import Batch, Hop, Item, Kind, Sequence

if TYPE_CHECKING:
    from infsim.engine.reference.world import World


class Passes:
    """Moves batches on."""

    def __init__(self, world: World) -> None:
        self.world = world

    def go_on(self, batch: Batch, hop: Hop) -> None:
        """A hop has computed a batch: it goes to the successors, or its pass is over."""
        world = self.world
        if batch.items[0].kind is Kind.REPLAY:
            for item in batch.items:
                world.replay.done(item.sequence, hop)
            return
        successors = world.successors(batch.path, hop)
        for successor in successors:
            self._pass_on(batch, hop, successor)
        if not successors:
            batch.finished.add(hop)
            ends = [h for h in batch.path.hops if not world.successors(batch.path, h)]
            if batch.finished.issuperset(ends):
                self._end(batch, hop.node)

    def _pass_on(self, batch: Batch, source: Hop, target: Hop) -> None:
        if source.node == target.node:
            self._arrive(batch, source, target)
        else:
            size = batch.tokens * self.world.edge_bytes(source, target)
            self._send(
                batch, source.node, target.node, size, lambda: self._arrive(batch, source, target)
            )

    def _send(
        self, batch: Batch, source: int, target: int, size: int, then: Callable[[], None]
    ) -> None:
        """Send from node to node, or by way of the client; what is lost is gone."""
        transport = self.world.transport
        if self.world.experiment.settings.transfer == "push":
            transport.send(source, target, size, then, _nothing)
            return
        client = self.world.client_endpoint(batch.client)
        transport.send(
            source,
            client,
            size,
            lambda: transport.send(client, target, size, then, _nothing),
            _nothing,
        )

    def _arrive(self, batch: Batch, source: Hop, target: Hop) -> None:
        """A batch is at its next hop; at a join it waits for its other parts."""
        host = self.world.iterations.host(target)
        parts = host.parts.setdefault(batch, set())
        parts.add(source)
        if parts == set(self.world.predecessors(batch.path, target)):
            del host.parts[batch]
            host.queue.append(batch)
            self.world.touch(target.node)

    # --- the end of a path

    def _end(self, batch: Batch, node: int) -> None:
        """A pass is over: tokens are made, and go back to the entry."""
        back = [item.sequence for item in batch.items if self._makes_token(item, node)]
        entry = batch.path.entry.node
        if not back:
            return
        if node == entry:
            self.come_back(back)
        else:
            size = len(back) * self.world.experiment.settings.token_bytes
            self._send(batch, node, entry, size, lambda: self.come_back(back))

    def _makes_token(self, item: Item, node: int) -> bool:
        """Make the token of an item, if there is one; True if the sequence goes on."""
        world, sequence, request = self.world, item.sequence, item.sequence.request
        if not sequence.alive or not item.last:
            return False
        if not sequence.passed:
            sequence.passed = True
            world.memory.publish(sequence)
        request.made += 1
        if request.first_token_s != request.first_token_s:
            to_client_s = world.delay_now_s(node, world.client_endpoint(request.view.client))
            request.first_token_s = world.clock.now + to_client_s
        if request.made < request.total:
            return True
        world.iterations.leave(sequence)
        if world.experiment.settings.plan_ahead:
            world.iterations.host(sequence.path.entry).ending.append(sequence)
        else:
            world.memory.release(sequence, owner=~request.id)
        world.dispatch.answered(request, node)
        return False

    def come_back(self, sequences: list[Sequence]) -> None:
        """Sequences are at hand at their entry, together."""
        for sequence in sequences:
            if sequence.alive:
                sequence.at_hand = True
                sequence.back_s = self.world.clock.now
                self.world.touch(sequence.path.entry.node)


def _nothing() -> None:
    """What becomes of a lost batch: its sequences were lost when the node failed."""
