"""Replay on a mesh: new hosts compute again what the lost hops of a sequence held."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from infsim.engine.reference.parts import Batch, Hop, Item, Kind, Path, Sequence, State
from infsim.engine.reference.views import Candidate

if TYPE_CHECKING:
    from infsim.engine.reference.world import World


class Replay:
    """Keeps a sequence that has lost some of its hops."""

    def __init__(self, world: World) -> None:
        self.world = world

    def try_in_place(self, old: Sequence) -> bool:
        """Give the lost hops of a sequence new hosts; False if it must be dispatched again."""
        world, path = self.world, old.path
        failed = world.churn.failed_since(old.failures)
        lost = [hop for hop in path.hops if hop.node in failed]
        if not world.view.is_mesh(path.deployment) or not old.passed or old.pending:
            return False
        if path.entry in lost:
            return False
        blocks = world.memory.held_blocks(old)
        new_hops: dict[Hop, Hop] = {}
        for hop in lost:
            candidates = self._candidates(old, hop, blocks)
            if not candidates:
                for reserved in new_hops.values():
                    del old.held[reserved]
                return False
            new_hops[hop] = world.dispatch.route(old.request, candidates).hops[0]
            world.memory.reserve(old, new_hops[hop], blocks)
        self._send(self._take_over(old, new_hops), list(new_hops.values()))
        return True

    def _candidates(self, sequence: Sequence, lost: Hop, blocks: int) -> list[Candidate]:
        """Ready stages that hold the operators of a lost hop and have room for its KV."""
        world, index = self.world, lost.deployment
        client = world.client_endpoint(sequence.request.view.client)
        found = []
        for number, stage in enumerate(world.experiment.plans[index].stages):
            hop = Hop(index, number, lost.start, lost.end, stage.node, lost.operators)
            holds = stage.start <= lost.start and lost.end <= stage.end
            ready = world.nodes[stage.node].status == "ready"
            if holds and ready and world.memory.has_room(hop, blocks):
                delay_s = world.delay_s(client, stage.node)
                found.append(Candidate(world, number, (hop,), lost.start, lost.end, delay_s))
        return found

    def _take_over(self, old: Sequence, new_hops: dict[Hop, Hop]) -> Sequence:
        """The sequence that goes on with what the old one still holds."""
        world, request = self.world, old.request
        path = Path(old.path.replica, tuple(new_hops.get(hop, hop) for hop in old.path.hops))
        kv = request.view.input_tokens + request.made - 1
        new = Sequence(
            request,
            path,
            prompt=old.prompt,
            failures={node: world.nodes[node].failures for node in path.nodes},
            state=State.ADMITTED,
            queued_s=old.queued_s,
            order=old.order,
            computed=old.prompt,
            kv=kv,
            passed=True,
            held={hop: old.held[hop] for hop in path.hops},
            pending=set(new_hops.values()),
        )
        request.wasted += old.worked * world.share(new_hops)
        old.held = {}
        world.lost.remove(old)
        world.sequences.append(new)
        admitted = world.iterations.host(path.entry).admitted
        admitted.append(new)
        admitted.sort(key=lambda sequence: sequence.order)
        return new

    def _send(self, sequence: Sequence, hops: list[Hop]) -> None:
        """Send each new hop the activations that it needs, from the client."""
        client = self.world.client_endpoint(sequence.request.view.client)
        for hop in hops:
            per_token = self.world.bytes_between(hop.deployment, (hop.start - 1,), hop.operators)
            self.world.transport.send(
                client,
                hop.node,
                sequence.kv * per_token,
                partial(self._queue, sequence, hop),
                lambda: self.world.churn.lose(sequence),
            )

    def _queue(self, sequence: Sequence, hop: Hop) -> None:
        """The activations are there: the hop computes them in its turn."""
        item = Item(sequence, Kind.REPLAY, sequence.kv, before=0, last=False)
        batch = Batch(sequence.path, sequence.request.view.client, [item])
        self.world.iterations.host(hop).queue.append(batch)
        self.world.touch(hop.node)

    def done(self, sequence: Sequence, hop: Hop) -> None:
        """A new hop holds the KV; after the last one the sequence is at hand again."""
        sequence.pending.discard(hop)
        if sequence.alive and not sequence.pending:
            clock = self.world.clock
            back_s = clock.now + self.world.delay_now_s(hop.node, sequence.path.entry.node)
            clock.at_or_now(back_s, lambda: self.world.passes.come_back([sequence]))
