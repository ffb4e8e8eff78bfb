"""Prompts at an entry host: waiting, admitted, preempted. What a batching policy sees."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from collections.abc import Sequence as Sequences
from typing import TYPE_CHECKING, overload

from infsim.engine.clock import Call
from infsim.engine.paths import Hop
from infsim.engine.sequence import RUNNING, WAITING, Sequence
from infsim.errors import PolicyError
from infsim.policy.interface import Iteration, PromptView

if TYPE_CHECKING:
    from infsim.engine.core import Engine
    from infsim.engine.node import RunningNode

NOTHING: tuple[Sequence, ...] = ()


class Shown(Sequences[Sequence]):
    """What policies see of a queue: they can index and slice it, but not change it."""

    __slots__ = ("_queue",)

    def __init__(self, queue: Sequences[Sequence]) -> None:
        self._queue = queue

    @overload
    def __getitem__(self, at: int) -> Sequence: ...
    @overload
    def __getitem__(self, at: slice) -> list[Sequence]: ...
    def __getitem__(self, at: int | slice) -> Sequence | list[Sequence]:
        if isinstance(at, slice):
            return [self._queue[i] for i in range(*at.indices(len(self._queue)))]
        return self._queue[at]

    def __iter__(self) -> Iterator[Sequence]:
        return iter(self._queue)

    def __len__(self) -> int:
        return len(self._queue)


class PromptQueue:
    """The part of an entry host that deals with prompts; it is the policy's `BatchView`.

    Attributes
    ----------
    queue : deque of Sequence
        Waiting for admission; preempted ones come first.
    unfinished : list of Sequence
        Admitted, with prompt left, in order of admission.
    running : int
        Admitted and unfinished, including those in flight on other stages.
    stages : int
        Hops of the path of the prompt that joined last.
    """

    def __init__(self, engine: Engine, node: RunningNode, hop: Hop) -> None:
        self.engine = engine
        self.node = node
        self.hop = hop
        self.key = hop.key
        self.queue: deque[Sequence] = deque()
        self.unfinished: list[Sequence] = []
        self._shown_queue, self._shown_unfinished = Shown(self.queue), Shown(self.unfinished)
        self.running = 0
        self.now = 0.0
        self.stages = 1
        self.preempted = False
        self._wake = 0
        self.next_order = 0
        self.block_tokens = engine.settings.block_tokens

    # --- BatchView ---------------------------------------------------------------------------

    @property
    def waiting(self) -> Sequences[Sequence]:
        """Prompts that may be admitted: none at a boundary that preempted a sequence."""
        return NOTHING if self.preempted else self._shown_queue

    @property
    def prefilling(self) -> Sequences[Sequence]:
        """Admitted prompts that are not finished."""
        return self._shown_unfinished

    @property
    def decoding(self) -> int:
        """Sequences ready to decode one token."""
        raise NotImplementedError

    def fits(self, admitted: Sequences[PromptView], prompt: PromptView) -> bool:
        """Whether the KV of ``prompt`` fits beside that of ``admitted``."""
        return self.engine.kv.fits([*admitted, prompt])  # type: ignore[list-item]

    # -----------------------------------------------------------------------------------------

    def ask(self, now: float) -> Iteration:
        """Ask the batching policy for the next iteration."""
        self.now = now
        self._wake += 1
        try:
            plan = self.engine.batching.plan(self)
            if not isinstance(plan, Iteration):
                raise self.wrong(None, f"plan() must return an Iteration, got {plan!r}")
        except PolicyError:
            raise
        except (Exception, SystemExit) as error:
            raise self.wrong(None, f"plan() raised {type(error).__name__}: {error}") from error
        return plan

    def sleep(self, plan: Iteration, now: float) -> None:
        """Nothing is to run: ask again at ``wake_s``, unless something happens before."""
        if plan.wake_s is not None:
            if not plan.wake_s > now:
                raise self.wrong(None, f"wake_s = {plan.wake_s} is not after now = {now}")
            self.engine.clock.at(plan.wake_s, self._awake, self._wake)

    def _awake(self, call: Call) -> None:
        if call.argument == self._wake and self.node.running is None:
            self.engine.mark(self.node)

    def wrong(self, request_id: int | None, reason: str) -> PolicyError:
        """An error of the batching policy."""
        return PolicyError("batching", self.engine.name_of("batching"), request_id, reason)

    def take(self, plan: Iteration, now: float) -> list[tuple[Sequence, int]]:
        """Admit the prompts that a plan names and return its chunks, checked."""
        named: list[tuple[Sequence, int]] = []
        seen: set[int] = set()
        for sequence, tokens in plan.chunks:
            if not isinstance(sequence, Sequence):
                raise self.wrong(None, f"a chunk must name a prompt of the view: {sequence!r}")
            request_id = sequence.request.request_id
            if id(sequence) in seen:
                raise self.wrong(request_id, "the same prompt is named twice")
            seen.add(id(sequence))
            if sequence.state != WAITING and sequence not in self.unfinished:
                raise self.wrong(request_id, "a chunk of a prompt that is not at hand")
            named.append((sequence, tokens))
        self._admit([sequence for sequence, _ in named if sequence.state == WAITING])
        for sequence, tokens in named:
            left = sequence.prompt - sequence.computed
            if not 0 < tokens <= left:
                raise self.wrong(
                    sequence.request.request_id,
                    f"a chunk of {tokens} tokens of a prompt with {left} left",
                )
            if sequence._ticket.start_s != sequence._ticket.start_s:
                sequence._ticket.start_s = now
        return named

    def _admit(self, sequences: list[Sequence]) -> None:
        if not sequences:
            return
        engine = self.engine
        for i, sequence in enumerate(sequences):
            request_id = sequence.request.request_id
            if self.preempted or sequence not in self.queue:
                raise self.wrong(request_id, "admits a prompt that does not wait here now")
            if not engine.kv.fits(sequences[: i + 1]):
                raise self.wrong(request_id, "admits a prompt whose KV does not fit")
        engine.kv.reserve(sequences)
        for sequence in sequences:
            if self.queue[0] is sequence:
                self.queue.popleft()
            else:
                self.queue.remove(sequence)
            sequence.order = self.next_order
            self.next_order += 1
            sequence.state = RUNNING
            self.running += 1
            self.unfinished.append(sequence)
            for load in sequence.loads:
                load.waiting -= 1
                load.running += 1
                load.queued_tokens -= sequence.computed

    def computed(self, sequence: Sequence, tokens: int) -> bool:
        """Take down that a chunk passed the entry; True if the prompt is finished."""
        sequence.computed += tokens
        for load in sequence.loads:
            load.queued_tokens -= tokens
        if sequence.computed < sequence.prompt:
            return False
        self.unfinished.remove(sequence)
        return True

    def put_back(self, sequence: Sequence, lost_tokens: int, now: float) -> None:
        """A preempted sequence goes to the front of the queue, its KV is gone.

        If its prompt and the tokens made so far exceed the memory, its request fails.
        """
        sequence._ticket.wasted += lost_tokens
        left = sequence.prompt - sequence.computed
        sequence.prompt = sequence.request.input_tokens + sequence.generated
        sequence.computed = sequence.kv = 0
        sequence.state = WAITING
        sequence.prefilled = False
        sequence.queued_s = now
        sequence._ticket.preemptions += 1
        self.running -= 1
        self.preempted = True
        for load in sequence.loads:
            load.running -= 1
            load.waiting += 1
            load.queued_tokens += sequence.prompt - left
        self.engine.recorder.incident(now, self.node.index, "preempt", sequence.request.request_id)
        if self.engine.kv.possible(sequence):
            self.queue.appendleft(sequence)
        else:
            self.engine.desk.failed(sequence, "kv capacity")
