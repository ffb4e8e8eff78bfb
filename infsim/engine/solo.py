"""The host of a whole model on one node: runs of decode iterations in one event each.

Between two moments when its batch can change (an arrival with room, a completion, memory full, the
end of a chunk) the iterations of such a host are known: with n sequences, iteration i (from
0) of a run lasts ``base + slope * (c + n * (i + 1))``, c being the KV tokens at its start, so
that the end of each is a quadratic in i. Sequences do not carry state through a run: the host
counts its decode iterations, a sequence joins with its tokens minus that count, and leaves
when the count reaches its ``finish``.
"""

from __future__ import annotations

from heapq import heappop, heappush
from math import inf, sqrt
from typing import TYPE_CHECKING

from infsim.engine.paths import Hop
from infsim.engine.prompts import NOTHING, PromptQueue, Shown
from infsim.engine.sequence import RUNNING, Sequence

if TYPE_CHECKING:
    from collections.abc import Sequence as Sequences

    from infsim.engine.core import Engine
    from infsim.engine.node import RunningNode


class SoloHost(PromptQueue):
    """Entry host of single-hop paths, alone in using the KV memory of its node's hosts.

    Attributes
    ----------
    members : dict of int to Sequence
        Sequences that decode, by order of admission.
    context : int
        Their KV tokens at decode iteration ``count``.
    count : int
        Decode iterations that have ended.
    """

    def __init__(self, engine: Engine, node: RunningNode, hop: Hop) -> None:
        super().__init__(engine, node, hop)
        self.memory = node.memory
        self.block_bytes = hop.block_bytes
        self.members: dict[int, Sequence] = {}
        self.context = 0
        self.count = 0
        # How many members need a block at iteration c: phases[-c % block_tokens].
        self.phases = [0] * self.block_tokens
        self.finishes: list[tuple[int, int, Sequence]] = []
        # Members that were given a block for an iteration that did not decode.
        self.early: list[Sequence] = []
        # The run in progress.
        self.start_s = 0.0
        self.steps = 0
        self.grown = 0
        self.base = self.slope = 0.0
        self.decodes = False
        self.chunks: list[tuple[Sequence, int]] = []
        self.read = 0
        # Where iterations are planned ahead: since when prompts are not known to the plan, and
        # sequences whose KV is not known to be free.
        self.ahead = engine.settings.plan_ahead
        self.since_s = inf
        self.ending: list[Sequence] = []

    @property
    def decoding(self) -> int:
        """Sequences ready to decode one token."""
        return len(self.members)

    @property
    def waiting(self) -> Sequences[Sequence]:
        """Prompts that may be admitted, as far as the plan knows of them."""
        if self.preempted or self.since_s == inf:
            return super().waiting
        known = [sequence for sequence in self.queue if sequence.queued_s <= self.since_s]
        return Shown(known) if known else NOTHING

    # --- arrivals ------------------------------------------------------------------------------

    def join(self, sequence: Sequence) -> None:
        """A prompt has arrived."""
        self.stages = 1
        self.queue.append(sequence)
        node = self.node
        if node.running is None:
            self.engine.mark(node)
        elif node.running is not self:
            node.running.interrupt(self.engine.clock.now)
        elif self.steps > 1 and self.engine.kv.fits([sequence]):
            self.interrupt(self.engine.clock.now, more=int(self.ahead))

    def interrupt(self, now: float, more: int = 0) -> None:
        """End the run after the iteration in progress, or so many more."""
        if self.steps > 1:
            steps = self._ended_by(now, strictly=True) + more
            if steps < self.steps:
                self.steps = steps
                self.node.shorten(self.start_s + self._duration(steps))

    # --- iterations ----------------------------------------------------------------------------

    def begin(self, now: float) -> bool:
        """Begin the next iteration, or run of iterations."""
        began = self._begin(now)
        if self.since_s < inf:
            self.since_s = inf
            self._release_ended()
            # with nothing to run there is no iteration that anything could be planned ahead of
            return began or self._begin(now)
        return began

    def _begin(self, now: float) -> bool:
        self.preempted = False
        if self.members:
            self._grow(now)
        decode = bool(self.members)
        if (self.queue and not self.preempted) or self.unfinished:
            plan = self.ask(now)
            if plan.chunks:
                chunks = self.take(plan, now)
                if chunks:
                    self._begin_mixed(now, chunks, plan.decode)
                    return True
            if not plan.decode or not decode:
                if self.members:
                    self._keep_growth()
                self.sleep(plan, now)
                return self._idle()
            if plan.decode_limit is not None and plan.decode_limit < len(self.members):
                raise self.wrong(None, "a steady policy limits the decodes of a single stage")
        if not decode:
            return self._idle()
        self._begin_run(now, steady=not self.preempted)
        return True

    def _idle(self) -> bool:
        """Nothing to run; what gave up its KV at this boundary may be admitted at another one."""
        if self.preempted:
            self.engine.mark(self.node)
        return False

    def _begin_run(self, now: float, *, steady: bool) -> None:
        n = len(self.members)
        context = self.context
        base, slope, limit = self.hop.cost.decode_line(n, context + n)
        self.base, self.slope = base, slope
        steps = 1
        if steady and not self._others_wait() and not self._learns_soon():
            finishes = self.finishes
            while finishes[0][2].order != finishes[0][1] or finishes[0][2].state != RUNNING:
                heappop(finishes)
            steps = finishes[0][0] - self.count
            if context + n * steps > limit:
                steps = max(1, int((limit - context) // n))
            if steps > 1 and self.block_bytes:
                steps = self._steps_with_room(steps)
        self._start(now, steps, True, [])
        self.node.run(self, now, now + self._duration(steps), n)

    def _begin_mixed(self, now: float, chunks: list[tuple[Sequence, int]], decode: bool) -> None:
        prefill = finals = 0
        pairs = read = 0.0
        for sequence, tokens in chunks:
            before = sequence.computed
            prefill += tokens
            pairs += tokens * before + tokens * (tokens + 1) / 2
            read += before + tokens
            finals += before + tokens == sequence.prompt
        n = len(self.members)
        if not decode and n:
            self._keep_growth()
            n = 0
        context = self.context + n if n else 0
        duration = self.hop.cost.step_s(prefill, pairs, read, n, context, n + finals)
        self._start(now, 1, n > 0, chunks)
        self.read = int(read)
        self.base, self.slope = duration, 0.0
        self.node.run(self, now, now + duration, prefill + n)

    def _start(
        self, now: float, steps: int, decodes: bool, chunks: list[tuple[Sequence, int]]
    ) -> None:
        self.start_s = now
        self.steps = steps
        self.grown = 1
        self.decodes = decodes
        self.chunks = chunks
        if decodes:
            self.early.clear()

    def _learns_soon(self) -> bool:
        """Whether prompts wait, and the next plan will know more of them or of free memory."""
        return bool(self.queue) and (bool(self.ending) or self.queue[-1].queued_s > self.since_s)

    def _others_wait(self) -> bool:
        hosts = self.node.hosts
        return len(hosts) > 1 and any(
            host is not self and host.busy() for host in hosts if isinstance(host, SoloHost)
        )

    def busy(self) -> bool:
        """Whether it may have something to run."""
        return bool(self.members or self.queue or self.unfinished)

    def end(self, now: float) -> None:
        """The run is over: tokens are made, sequences end."""
        if self.ahead:
            self.since_s = self.start_s + self._duration(self.steps - 1)
        self._close(now, self.steps)
        ended = []
        finishes = self.finishes
        while finishes and finishes[0][0] <= self.count:
            _, order, sequence = heappop(finishes)
            if sequence.order == order and sequence.state == RUNNING:
                ended.append(self._leave(sequence))
        complete = [s for s, tokens in self.chunks if self.computed(s, tokens)]
        self.chunks = []
        for sequence in ended:
            self._finish(sequence)
        for sequence in complete:
            self._prompt_done(sequence, now)
        self.engine.mark(self.node)

    def _close(self, now: float, steps: int) -> None:
        """Account for the iterations of the run that have ended."""
        n = len(self.members) if self.decodes else 0
        self._grow_to(steps)
        prefill = sum([tokens for _, tokens in self.chunks]) if self.chunks else 0
        node = self.node
        context = self.context + n if n else 0
        if prefill:
            context += self.read
        self.engine.recorder.segment(
            (node.index, self.hop.stage, self.start_s, now, steps, prefill, n, context)
        )
        node.iterations += steps
        node.tokens += prefill + n * steps
        if n:
            self.count += steps
            self.context += n * steps
            self.engine.tokens_made += n * steps

    def _prompt_done(self, sequence: Sequence, now: float) -> None:
        sequence.kv = sequence.prompt
        sequence.generated += 1
        self.engine.tokens_made += 1
        self.engine.prompt_done(sequence, self.hop, now)
        if sequence.generated >= sequence._target:
            self._finish(sequence)
            return
        self.members[sequence.order] = sequence
        self.context += sequence.kv
        self.phases[(sequence.kv - self.count) % self.block_tokens] += 1
        sequence.finish = self.count + sequence._target - sequence.generated
        heappush(self.finishes, (sequence.finish, sequence.order, sequence))
        # From here on as of iteration 0.
        sequence.kv -= self.count
        sequence.generated -= self.count

    def _leave(self, sequence: Sequence) -> Sequence:
        """Take a member out; its tokens are its own again."""
        del self.members[sequence.order]
        self.phases[sequence.kv % self.block_tokens] -= 1
        sequence.kv += self.count
        sequence.generated += self.count
        self.context -= sequence.kv
        # A block that was given early counts beyond those its tokens need.
        sequence.blocks = -(-sequence.kv // self.block_tokens) + (sequence in self.early)
        return sequence

    def _finish(self, sequence: Sequence) -> None:
        self.running -= 1
        if self.ahead:
            self.ending.append(sequence)
        else:
            self.engine.release(sequence)
        self.engine.desk.ended(sequence, self.hop)

    def _release_ended(self) -> None:
        ending, self.ending = self.ending, []
        for sequence in ending:
            self.engine.release(sequence)

    # --- memory --------------------------------------------------------------------------------

    def _needing(self, first: int, steps: int) -> int:
        """Blocks that the members need for ``steps`` iterations from ``first`` on."""
        size = self.block_tokens
        cycles, rest = divmod(steps, size)
        blocks = cycles * len(self.members)
        for iteration in range(first, first + rest):
            blocks += self.phases[-iteration % size]
        return blocks

    def _steps_with_room(self, steps: int) -> int:
        """How many iterations, at most ``steps``, the free blocks allow; the first has room."""
        free = self.memory.free // self.block_bytes
        n = len(self.members)
        size = self.block_tokens
        if n * ((steps - 1 + size - 1) // size) <= free:
            return steps
        cycles = free // n
        free -= cycles * n
        allowed = 1 + cycles * size
        while allowed < steps:
            free -= self.phases[-(self.count + allowed) % size]
            if free < 0:
                return allowed
            allowed += 1
        return steps

    def _grow_to(self, steps: int) -> None:
        """Reserve the blocks of iterations begun since the last look."""
        if steps > self.grown:
            blocks = self._needing(self.count + self.grown, steps - self.grown)
            self.memory.allocate(blocks * self.block_bytes)
            self.grown = steps

    def settle(self, now: float) -> None:
        """Bring the memory in use up to date."""
        if self.node.running is self and self.steps > 1:
            self._grow_to(min(self.steps, self._ended_by(now, strictly=False) + 1))

    def _grow(self, now: float) -> None:
        """Make sure of room for one more token of each member, preempting if need be."""
        size = self.block_tokens
        need = (self.phases[-self.count % size] - len(self.early)) * self.block_bytes
        if need <= self.memory.free:
            self.memory.allocate(need)
            return
        for order in sorted(self.members):
            sequence = self.members.get(order)
            if sequence is None or (sequence.kv + self.count) % size or sequence in self.early:
                continue
            while self.memory.free < self.block_bytes:
                victim = self._last_admitted()
                self._preempt(victim, now)
                if victim is sequence:
                    break
            else:
                self.memory.allocate(self.block_bytes)
                self.early.append(sequence)

    def _keep_growth(self) -> None:
        """The members' blocks for the next token stay theirs though nothing is decoded now."""
        size = self.block_tokens
        self.early = [s for s in self.members.values() if (s.kv + self.count) % size == 0]

    def _last_admitted(self) -> Sequence:
        last = max(self.members)
        if self.unfinished and self.unfinished[-1].order > last:
            return self.unfinished[-1]
        return self.members[last]

    def _preempt(self, victim: Sequence, now: float) -> None:
        if victim.order in self.members:
            self._leave(victim)
            if victim in self.early:
                self.early.remove(victim)
        else:
            self.unfinished.remove(victim)
        lost = victim.worked
        self.engine.release(victim, preempted=True)
        self.put_back(victim, lost, now)

    # --- the run in progress ---------------------------------------------------------------

    def _duration(self, steps: int) -> float:
        n = len(self.members)
        return steps * self.base + self.slope * (
            steps * self.context + n * (steps * (steps + 1) / 2)
        )

    def _ended_by(self, now: float, *, strictly: bool) -> int:
        """Iterations of the run that have ended by now.

        With ``strictly``, the least number whose end is not before now (at least one).
        """
        elapsed = now - self.start_s
        n = len(self.members)
        a = self.slope * n / 2
        b = self.base + self.slope * (self.context + n / 2)
        if a * elapsed < 1e-12 * b * b:
            steps = int(elapsed / b) if b > 0 else self.steps
        else:
            steps = int((sqrt(b * b + 4 * a * elapsed) - b) / (2 * a))
        start = self.start_s
        while steps > 0 and start + self._duration(steps) > now:
            steps -= 1
        while steps < self.steps and start + self._duration(steps + 1) <= now:
            steps += 1
        steps = min(steps, self.steps)
        if not strictly:
            return steps
        if steps > 0 and start + self._duration(steps) == now:
            return steps
        return min(steps + 1, self.steps)

    # --- failure -------------------------------------------------------------------------------

    def fail(self, now: float) -> None:
        """The node failed: keep the count of tokens that were made."""
        self._release_ended()
        self.since_s = inf
        if self.node.running is self:
            self.settle(now)
            done = self._ended_by(now, strictly=False) if self.steps > 1 else 0
            self.chunks = []
            until = self.start_s
            if done:
                until += self._duration(done)
                self._close(until, done)
            self.engine.recorder.segment((self.node.index, self.hop.stage, until, now, 0, 0, 0, 0))
        self.early.clear()
        for sequence in list(self.members.values()):
            self._leave(sequence)
        self.finishes.clear()
        self.unfinished.clear()
        self.queue.clear()
        self.running = 0
        self.chunks = []

    def remove(self, sequence: Sequence) -> None:
        """All its sequences are lost with the node; nothing is left to take out."""
