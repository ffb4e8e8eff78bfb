"""Boundaries and iterations: what a node runs next, and what is done when it has run."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

from infsim.engine.reference.batching import BatchLook, PromptLook
from infsim.engine.reference.parts import (
    Batch,
    Hop,
    Host,
    Item,
    Iteration,
    Kind,
    Node,
    Sequence,
    State,
    iteration_s,
)
from infsim.errors import CostError
from infsim.policy.interface import Iteration as Answer

if TYPE_CHECKING:
    from infsim.engine.reference.world import World


class Nodes:
    """Runs iterations, one at a time on each node."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.admissions = 0

    def host(self, hop: Hop) -> Host:
        """The host of a hop on its node."""
        return self.world.nodes[hop.node].hosts.setdefault(hop, Host(hop))

    # --- boundaries

    def boundary(self, node: Node) -> None:
        """Let the hosts of an idle node take turns until one has something to run."""
        if node.status != "ready" or node.running is not None:
            return
        hosts = [node.hosts[hop] for hop in sorted(node.hosts)]
        if node.last_ran is not None:
            after = [host for host in hosts if host.hop > node.last_ran]
            hosts = after + [host for host in hosts if host.hop <= node.last_ran]
        for host in hosts:
            iteration = self._next(host)
            if host.since_s < inf:
                self._learn(host)
                iteration = iteration or self._next(host)
            if iteration is not None:
                self._start(node, iteration)
                return

    def _learn(self, host: Host) -> None:
        """The next iteration is planned: what happened during the last one is known now."""
        host.since_s = inf
        for sequence in host.ending:
            self.world.memory.release(sequence, owner=~sequence.request.id)
        host.ending = []

    def _next(self, host: Host) -> Iteration | None:
        """What a host has to run now."""
        host.questions += 1
        now = self.world.clock.now
        if host.queue:
            batches = self._merge(host)
            return Iteration(host, now, [item for b in batches for item in b.items], batches)
        items = self._entry_items(host)
        return Iteration(host, now, items, []) if items else None

    def _merge(self, host: Host) -> list[Batch]:
        """Take batches from the front while they fit into the budget of tokens."""
        budget = self.world.experiment.batching.token_budget
        batches = [host.queue.pop(0)]
        while host.queue and sum(b.tokens for b in batches) + host.queue[0].tokens <= budget:
            batches.append(host.queue.pop(0))
        return batches

    def _entry_items(self, host: Host) -> list[Item]:
        """Growth, then the plan of the batching policy."""
        preempted = self._grow(host)
        view = BatchLook(self.world, host, show_waiting=not preempted)
        if not (view.waiting or view.prefilling or view.decoding):
            return []
        policy = self.world.experiment.batching
        answer = self.world.ask("batching", policy, None, policy.plan, view)
        if not isinstance(answer, Answer):
            raise self.world.nonsense("batching", policy, None, f"it answered {answer!r}")
        chunks = self._chunks(host, view, answer)
        ready = [sequence for sequence in host.admitted if sequence.ready]
        items = [
            Item(s, Kind.DECODE, 1, s.kv, last=True) for s in self._decoding(ready, answer)
        ] + chunks
        if not items and answer.wake_s is not None:
            self._wake(host, answer.wake_s)
        return items

    def _decoding(self, ready: list[Sequence], answer: Answer) -> list[Sequence]:
        """The ready sequences that decode, in order of admission."""
        policy, limit = self.world.experiment.batching, answer.decode_limit
        if not answer.decode:
            return []
        if limit is None or limit >= len(ready):
            return ready
        if policy.steady and any(len(sequence.path.hops) == 1 for sequence in ready):
            reason = "it is steady, but limits the decodes of a path of one hop"
            raise self.world.nonsense("batching", policy, None, reason)
        first = sorted(ready, key=lambda s: (s.back_s, s.order))[: max(0, limit)]
        return [sequence for sequence in ready if sequence in first]

    def _chunks(self, host: Host, view: BatchLook, answer: Answer) -> list[Item]:
        """Check what the policy named, and admit the prompts that waited."""
        named: list[PromptLook] = []
        for prompt, tokens in answer.chunks:
            known = next((p for p in (*view.prefilling, *view.waiting) if p is prompt), None)
            if known is None or known in named:
                self._refuse(known, "it named a prompt twice, or one that it was not shown")
            elif not 1 <= tokens <= known.remaining_tokens:
                reason = f"it gave {tokens} tokens to a prompt of {known.remaining_tokens} more"
                self._refuse(known, reason)
            else:
                named.append(known)
        admitted = [p for p in named if p.sequence.state is State.WAITING]
        if not self.world.memory.fit([(p.sequence, p.hits) for p in admitted]):
            self._refuse(admitted[-1], "it admitted prompts that do not fit into memory")
        for prompt in admitted:
            self._admit(host, prompt)
        self.world.memory.admit([(p.sequence, p.hits) for p in admitted])
        return [
            Item(s, Kind.CHUNK, tokens, s.computed, last=s.computed + tokens == s.prompt)
            for s, (_, tokens) in zip((p.sequence for p in named), answer.chunks, strict=True)
        ]

    def _refuse(self, prompt: PromptLook | None, reason: str) -> None:
        request = prompt.sequence.request if prompt else None
        raise self.world.nonsense("batching", self.world.experiment.batching, request, reason)

    def _admit(self, host: Host, prompt: PromptLook) -> None:
        sequence = prompt.sequence
        cached = prompt.hits * sequence.request.view.prefix_block_tokens
        host.waiting.remove(sequence)
        host.admitted.append(sequence)
        sequence.state = State.ADMITTED
        sequence.order = self.admissions
        sequence.computed = sequence.kv = cached + prompt.found
        sequence.at_hand = True
        sequence.request.cached_tokens = cached
        sequence.request.wasted -= prompt.found
        self.admissions += 1

    def _wake(self, host: Host, time_s: float) -> None:
        if time_s <= self.world.clock.now:
            reason = f"wake_s = {time_s!r} is not after now"
            raise self.world.nonsense("batching", self.world.experiment.batching, None, reason)
        asked = host.questions

        def wake() -> None:
            if host.questions == asked:
                self.world.touch(host.hop.node)

        self.world.clock.at(time_s, wake)

    # --- growth

    def _grow(self, host: Host) -> bool:
        """Make sure of room for one more token each; True if that took a preemption."""
        memory, preempted = self.world.memory, False
        for sequence in [sequence for sequence in host.admitted if sequence.ready]:
            while sequence.alive and memory.full(sequence) and not memory.can_grow(sequence):
                at_hand = [other for other in host.admitted if other.at_hand]
                self._preempt(host, at_hand[-1])
                preempted = True
            if sequence.alive and memory.full(sequence):
                memory.grow(sequence)
        return preempted

    def _preempt(self, host: Host, sequence: Sequence) -> None:
        """Put a sequence back to the front of the waiting queue, without its KV."""
        world, request = self.world, sequence.request
        request.preemptions += 1
        world.recorder.incident(world.clock.now, host.hop.node, "preempt", request.id)
        again = Sequence(
            request,
            sequence.path,
            prompt=request.view.input_tokens + request.made,
            failures=sequence.failures,
            state=State.WAITING,
            queued_s=world.clock.now,
        )
        possible = world.memory.possible(again.path, again.prompt)
        if possible:
            host.waiting.insert(0, again)
            world.sequences.append(again)
        self.give_up(sequence, owner=request.id)
        if not possible:
            world.dispatch.end(request, "failed", "kv capacity")

    def give_up(self, sequence: Sequence, owner: int | None = None) -> None:
        """A sequence that has not ended gives up its KV: what was computed is wasted.

        With an owner, some of it may be found again.
        """
        sequence.request.wasted += sequence.worked
        self.leave(sequence)
        self.world.memory.release(sequence, owner)

    def leave(self, sequence: Sequence) -> None:
        """Take a sequence out of all queues."""
        sequence.state = State.GONE
        host = self.host(sequence.path.entry)
        for sequences in (self.world.sequences, self.world.lost, host.waiting, host.admitted):
            if sequence in sequences:
                sequences.remove(sequence)

    # --- iterations

    def _start(self, node: Node, iteration: Iteration) -> None:
        world, host = self.world, iteration.host
        world.meters[node.index].read(world.clock.now)
        node.running, node.last_ran = iteration, host.hop
        for item in iteration.items:
            if item.kind is not Kind.REPLAY and not iteration.batches:
                item.sequence.at_hand = False
            request = item.sequence.request
            if item.kind is Kind.CHUNK and request.start_s != request.start_s:
                request.start_s = world.clock.now
        duration_s = iteration_s(world.cost(host.hop), iteration.items)
        if not 0 <= duration_s < inf:
            raise CostError(node.machine.name, duration_s)
        world.clock.at(world.clock.now + duration_s, lambda: self._finish(node, iteration))

    def _finish(self, node: Node, iteration: Iteration) -> None:
        """The end of an iteration, unless a failure has stopped it."""
        if node.running is not iteration:
            return
        world, hop = self.world, iteration.host.hop
        self.record(node, finished=True)
        if world.experiment.settings.plan_ahead:
            iteration.host.since_s = iteration.start_s
        node.iterations += 1
        node.tokens += sum(item.tokens for item in iteration.items)
        for item in iteration.items:
            if item.sequence.alive:
                self._update(item, at_entry=not iteration.batches)
        world.touch(node.index)
        for batch in iteration.batches or self._batches(iteration.items):
            world.passes.go_on(batch, hop)

    def _update(self, item: Item, *, at_entry: bool) -> None:
        """Bring a sequence up to date with what was computed."""
        sequence = item.sequence
        if at_entry:
            sequence.kv += item.tokens
            if item.kind is Kind.CHUNK:
                sequence.computed += item.tokens
                sequence.at_hand = not item.last

    def _batches(self, items: list[Item]) -> list[Batch]:
        """Group the items of an iteration by path (with relay, and by client)."""
        relay = self.world.experiment.settings.transfer == "relay"
        batches: list[Batch] = []
        for item in items:
            path, client = item.sequence.path, item.sequence.request.view.client
            for batch in batches:
                if batch.path == path and (batch.client == client or not relay):
                    batch.items.append(item)
                    break
            else:
                batches.append(Batch(path, client, [item]))
        return batches

    def record(self, node: Node, finished: bool, time_s: float | None = None) -> None:
        """Take down the iteration that ends now (or then), finished or not; the node is idle."""
        world, iteration = self.world, node.running
        assert iteration is not None
        end_s = world.clock.now if time_s is None else time_s
        world.meters[node.index].read(end_s)
        node.running = None
        items = iteration.items if finished else []
        prompts = [item for item in items if item.kind is not Kind.DECODE]
        world.recorder.segment(
            (
                node.index,
                world.stage_number(iteration.host.hop),
                iteration.start_s,
                end_s,
                int(finished),
                sum(item.tokens for item in prompts),
                len(items) - len(prompts),
                sum(item.before + item.tokens for item in items),
            )
        )
