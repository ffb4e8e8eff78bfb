"""Hosts of paths with several hops: an entry that forms batches, stages that pass them on.

A batch never splits, so that the stages in between handle it as one thing, whatever
the number of sequences in it.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable
from operator import attrgetter
from typing import TYPE_CHECKING

from infsim.engine.paths import Hop, Path
from infsim.engine.prompts import PromptQueue
from infsim.engine.sequence import RUNNING, WAITING, Batch, Sequence
from infsim.policy.interface import Iteration

if TYPE_CHECKING:
    from infsim.engine.core import Engine
    from infsim.engine.node import RunningNode

_order = attrgetter("order")
_came_back = attrgetter("back_s", "order")


class EntryHost(PromptQueue):
    """Forms batches of prompts and tokens, one iteration at a time.

    Attributes
    ----------
    ready : list of Sequence
        Whose last token has come back.
    """

    def __init__(self, engine: Engine, node: RunningNode, hop: Hop) -> None:
        super().__init__(engine, node, hop)
        self.ready: list[Sequence] = []
        self._decodes: list[Sequence] = []
        self._chunks: list[tuple[Sequence, int]] = []
        self._started_s = 0.0

    @property
    def decoding(self) -> int:
        """Sequences ready to decode one token."""
        return len(self.ready)

    def join(self, sequence: Sequence) -> None:
        """A prompt has arrived."""
        self.stages = len(sequence.path.hops)
        self.queue.append(sequence)
        self._call()

    def come_back(self, sequences: list[Sequence]) -> None:
        """Tokens are back: their sequences may decode again, unless they were lost meanwhile."""
        now = self.engine.clock.now
        for sequence in sequences:
            if sequence.state == RUNNING:
                sequence.back_s = now
                self.ready.append(sequence)
        self._call()

    def _call(self) -> None:
        running = self.node.running
        if running is None:
            self.engine.mark(self.node)
        else:
            running.interrupt(self.engine.clock.now)

    def interrupt(self, now: float) -> None:
        """An iteration is never broken off."""

    def settle(self, now: float) -> None:
        """Memory is always up to date."""

    # --- iterations ----------------------------------------------------------------------------

    def begin(self, now: float) -> bool:
        """Begin the next iteration."""
        self.preempted = False
        if self.ready:
            self._grow(now)
        if not (self.ready or self.unfinished or (self.queue and not self.preempted)):
            return self._idle()
        plan = self.ask(now)
        chunks = self.take(plan, now) if plan.chunks else []
        decodes = self._chosen(plan)
        if not chunks and not decodes:
            self.sleep(plan, now)
            return self._idle()
        self._decodes, self._chunks = decodes, chunks
        self._started_s = now
        tokens = sum(part for _, part in chunks) + len(decodes)
        self.node.run(self, now, now + self._step_s(decodes, chunks), tokens)
        return True

    def _idle(self) -> bool:
        """Nothing to run; what gave up its KV at this boundary may be admitted at another one."""
        if self.preempted:
            self.engine.mark(self.node)
        return False

    def _chosen(self, plan: Iteration) -> list[Sequence]:
        """Take those that decode now out of the ready ones, in order of admission."""
        if not plan.decode:
            return []
        chosen, self.ready = self.ready, []
        limit = plan.decode_limit
        if limit is not None and limit < len(chosen):
            chosen.sort(key=_came_back)
            chosen, self.ready = chosen[: max(0, limit)], chosen[max(0, limit) :]
        chosen.sort(key=_order)
        return chosen

    def _step_s(self, decodes: list[Sequence], chunks: list[tuple[Sequence, int]]) -> float:
        prefill = finals = context = 0
        pairs = read = 0.0
        for sequence, tokens in chunks:
            before = sequence.computed
            prefill += tokens
            pairs += tokens * before + tokens * (tokens + 1) / 2
            read += before + tokens
            finals += before + tokens == sequence.prompt
        for sequence in decodes:
            context += sequence.kv + 1
        n = len(decodes)
        return self.hop.cost.step_s(prefill, pairs, read, n, context, n + finals)

    def end(self, now: float) -> None:
        """The iteration is over: its batches go on."""
        batches: dict[tuple[Path, int], Batch] = {}
        relay = self.engine.relay
        for sequence in self._decodes:
            batch = _batch_of(batches, sequence, relay)
            batch.add_decode(sequence)
            if sequence.state == RUNNING:
                sequence.kv += 1
        for sequence, tokens in self._chunks:
            batch = _batch_of(batches, sequence, relay)
            final = sequence.computed + tokens == sequence.prompt
            batch.add_chunk(sequence, sequence.computed, tokens, final)
            if sequence.state == RUNNING:
                self.computed(sequence, tokens)
                sequence.kv = sequence.computed
        self._record(now, batches.values())
        self._decodes, self._chunks = [], []
        for batch in batches.values():
            self.engine.pass_on(batch, 0, now)
        self.engine.mark(self.node)

    def _record(self, now: float, batches: Iterable[Batch]) -> None:
        node = self.node
        prefill = sum(tokens for _, tokens in self._chunks)
        n = len(self._decodes)
        context = sum(batch.context + int(batch.prefill_context) for batch in batches)
        self.engine.recorder.segment(
            (node.index, self.hop.stage, self._started_s, now, 1, prefill, n, context)
        )
        node.iterations += 1
        node.tokens += prefill + n

    # --- memory --------------------------------------------------------------------------------

    def _grow(self, now: float) -> None:
        """Make sure of room for one more token of each ready sequence, on every hop."""
        size = self.block_tokens
        full = [sequence for sequence in self.ready if sequence.kv == sequence.blocks * size]
        for sequence in sorted(full, key=_order):
            if sequence.state != RUNNING:
                continue
            while not self.engine.kv.room_for_block(sequence):
                victim = self._last_admitted()
                self._take_out(victim)
                lost = victim.worked
                self.engine.release(victim, preempted=True)
                self.put_back(victim, lost, now)
                if victim is sequence:
                    break
            else:
                self.engine.kv.add_block(sequence)

    def _last_admitted(self) -> Sequence:
        last = max(self.ready, key=_order)
        if self.unfinished and self.unfinished[-1].order > last.order:
            return self.unfinished[-1]
        return last

    def _take_out(self, sequence: Sequence) -> None:
        if sequence in self.ready:
            self.ready.remove(sequence)
        elif sequence in self.unfinished:
            self.unfinished.remove(sequence)

    # --- failure -------------------------------------------------------------------------------

    def fail(self, now: float) -> None:
        """The node failed: its queues are gone."""
        if self.node.running is self:
            self.engine.recorder.segment(
                (self.node.index, self.hop.stage, self._started_s, now, 0, 0, 0, 0)
            )
        self.queue.clear()
        self.unfinished.clear()
        self.ready = []
        self._decodes, self._chunks = [], []
        self.running = 0

    def remove(self, sequence: Sequence) -> None:
        """A sequence is lost: take it out of the queues, and look what can be done without it."""
        self.engine.mark(self.node)
        if sequence.state == WAITING:
            self.queue.remove(sequence)
        else:
            self.running -= 1
            self._take_out(sequence)


def _batch_of(batches: dict[tuple[Path, int], Batch], sequence: Sequence, relay: bool) -> Batch:
    client = sequence._ticket.client if relay else -1
    key = (sequence.path, client)
    batch = batches.get(key)
    if batch is None:
        batch = batches[key] = Batch(sequence.path, client)
    return batch


class StageHost:
    """Runs what has arrived, in order, and passes it on."""

    def __init__(self, engine: Engine, node: RunningNode, hop: Hop) -> None:
        self.engine = engine
        self.node = node
        self.hop = hop
        self.key = hop.key
        self.pending: deque[tuple[Batch, int]] = deque()
        # How many copies of a batch have come to a join that waits for more.
        self._arrived: Counter[Batch] = Counter()
        self._taken: list[tuple[Batch, int]] = []
        self._row: tuple[float, int, int, int] = (0.0, 0, 0, 0)

    def put(self, batch: Batch, position: int) -> None:
        """A batch has arrived; ``position`` is that of this hop on its path.

        A hop with several hops before it waits for what each of them sends.
        """
        joins = batch.path.joins[position]
        if joins > 1 and batch.replay is None:
            self._arrived[batch] += 1
            if self._arrived[batch] < joins:
                return
            del self._arrived[batch]
        self.pending.append((batch, position))
        running = self.node.running
        if running is None:
            self.engine.mark(self.node)
        else:
            running.interrupt(self.engine.clock.now)

    def begin(self, now: float) -> bool:
        """Run batches from the front while they fit into the token budget, at least one."""
        pending = self.pending
        if not pending:
            return False
        budget = self.engine.batching.token_budget
        taken: list[tuple[Batch, int]] = []
        prefill = decodes = context = outputs = 0
        pairs = read = 0.0
        while pending:
            batch = pending[0][0]
            budget -= batch.prefill + len(batch.decodes)
            if taken and budget < 0:
                break
            taken.append(pending.popleft())
            prefill += batch.prefill
            decodes += len(batch.decodes)
            context += batch.context
            outputs += batch.outputs
            pairs += batch.pairs
            read += batch.prefill_context
        self._taken = taken
        self._row = (now, prefill, decodes, context + int(read))
        duration = self.hop.cost.step_s(prefill, pairs, read, decodes, context, outputs)
        self.node.run(self, now, now + duration, prefill + decodes)
        return True

    def end(self, now: float) -> None:
        """The iteration is over: its batches go on."""
        node = self.node
        started, prefill, decodes, context = self._row
        self.engine.recorder.segment(
            (node.index, self.hop.stage, started, now, 1, prefill, decodes, context)
        )
        node.iterations += 1
        node.tokens += prefill + decodes
        taken, self._taken = self._taken, []
        for batch, position in taken:
            self.engine.pass_on(batch, position, now)
        self.engine.mark(node)

    def interrupt(self, now: float) -> None:
        """An iteration is never broken off."""

    def settle(self, now: float) -> None:
        """Memory is always up to date."""

    def fail(self, now: float) -> None:
        """The node failed: its queue is gone."""
        if self.node.running is self:
            self.engine.recorder.segment(
                (self.node.index, self.hop.stage, self._row[0], now, 0, 0, 0, 0)
            )
        self.pending.clear()
        self._arrived.clear()
        self._taken = []

    def remove(self, sequence: Sequence) -> None:
        """Batches never change: a lost sequence is computed with them, and thrown away."""
