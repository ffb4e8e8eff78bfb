"""A server with continuous batching around the engine, on the clock of the CPU.

Virtual time advances by the CPU seconds that a step takes (planning, `llama_decode`, choosing the
next tokens); nothing else happens while the server waits, so that it jumps to the next arrival.
What other programs do on the machine is not on this clock, but for the caches they share.
"""

from __future__ import annotations

import gc
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from infsim.calibrate.llama_cpp.library import Piece

LONGEST = 4
"""So many times the median a prompt or an output is at most."""


class Limits(NamedTuple):
    """Most tokens of a step, and most sequences at one time."""

    tokens: int = 48
    sequences: int = 8


class Lengths(NamedTuple):
    """Medians of the lengths of prompts and outputs, which are log-normal."""

    prompt: int = 24
    output: int = 12

    @property
    def longest(self) -> int:
        """Tokens of the longest request."""
        return LONGEST * (self.prompt + self.output)


DEFAULT_LIMITS, DEFAULT_LENGTHS = Limits(), Lengths()


class Engine(Protocol):
    """What the server needs of an engine."""

    def step(self, pieces: Sequence[Piece]) -> list[int]: ...
    def forget(self, sequence: int, start: int = 0) -> None: ...


class Clock(Protocol):
    """Times steps, one after the other."""

    def start(self) -> None: ...
    def stop(self, tokens: int) -> float: ...
    def refresh(self) -> None: ...


class StepRow(NamedTuple):
    """What was in a step, in the terms of `infsim.cost.interface.StepCost.step_s`."""

    prefill_tokens: int
    prefill_pairs: float
    prefill_context: int
    decode_sequences: int
    decode_context: int
    sequences: int
    time_s: float


class Trace(NamedTuple):
    """Requests: when they come, and how long they are."""

    arrival_s: NDArray[np.float64]
    input_tokens: NDArray[np.int64]
    output_tokens: NDArray[np.int64]


@dataclass
class Served:
    """A request and what happened to it."""

    index: int
    prompt: list[int]
    output_tokens: int
    place: int = -1
    computed: int = 0
    tokens: list[int] = field(default_factory=list)
    start_s: float = float("nan")
    first_token_s: float = float("nan")
    end_s: float = float("nan")


class Server:
    """Iteration-level batching: decodes first, then prompts in order of arrival, in chunks.

    Parameters
    ----------
    engine : Engine
    vocabulary : int
        The tokens of prompts are random ones of so many.
    clock : Clock
        Times the steps.
    limits : Limits
    """

    def __init__(
        self, engine: Engine, vocabulary: int, clock: Clock, limits: Limits = DEFAULT_LIMITS
    ) -> None:
        self.engine = engine
        self.vocabulary = vocabulary
        self.clock = clock
        self.limits = limits
        self.steps: list[StepRow] = []
        self._waiting: deque[Served] = deque()
        self._prefilling: list[Served] = []
        self._decoding: list[Served] = []
        self._places = list(range(limits.sequences))[::-1]

    def serve(self, trace: Trace, seed: int) -> list[Served]:
        """Serve all requests of a trace; their tokens are drawn from ``seed``."""
        rng = np.random.default_rng(seed)
        requests = [
            Served(i, rng.integers(0, self.vocabulary, n).tolist(), int(outputs))
            for i, (n, outputs) in enumerate(
                zip(trace.input_tokens, trace.output_tokens, strict=True)
            )
        ]
        arrival_s = trace.arrival_s.tolist()
        now, arrived = 0.0, 0
        gc.collect()
        gc.disable()
        while arrived < len(requests) or self._busy():
            if not self._busy():
                now = max(now, arrival_s[arrived])
            while arrived < len(requests) and arrival_s[arrived] <= now:
                self._waiting.append(requests[arrived])
                arrived += 1
            now = self._step(now)
            self.clock.refresh()
        gc.enable()
        return requests

    def _busy(self) -> bool:
        return bool(self._waiting or self._prefilling or self._decoding)

    def _step(self, now: float) -> float:
        """Run one step and return the time at its end."""
        self.clock.start()
        chunks = self._plan(now)
        decodes = list(self._decoding)
        pieces = [
            Piece(r.place, len(r.prompt) + len(r.tokens) - 1, r.tokens[-1:], True) for r in decodes
        ]
        for request, tokens in chunks:
            first, last = request.computed, request.computed + tokens
            final = last == len(request.prompt)
            pieces.append(Piece(request.place, first, request.prompt[first:last], final))
        made = iter(self.engine.step(pieces))
        for request in decodes:
            request.tokens.append(next(made))
        for request, tokens in chunks:
            request.computed += tokens
            if request.computed == len(request.prompt):
                request.tokens.append(next(made))
                self._prefilling.remove(request)
                self._decoding.append(request)
        ended = [r for r in self._decoding if len(r.tokens) == r.output_tokens]
        for request in ended:
            self._decoding.remove(request)
            self.engine.forget(request.place)
            self._places.append(request.place)
        time_s = self.clock.stop(sum(len(piece.tokens) for piece in pieces))
        end_s = now + time_s
        self._record(chunks, decodes, time_s)
        for request, _ in chunks:
            if len(request.tokens) == 1:
                request.first_token_s = end_s
        for request in ended:
            request.end_s = end_s
        return end_s

    def _plan(self, now: float) -> list[tuple[Served, int]]:
        """Fill the budget: unfinished prompts first, then waiting ones."""
        left = self.limits.tokens - len(self._decoding)
        chunks = []
        for request in self._prefilling:
            tokens = min(len(request.prompt) - request.computed, left)
            if tokens:
                chunks.append((request, tokens))
                left -= tokens
        while self._waiting and left and self._places:
            request = self._waiting.popleft()
            request.place = self._places.pop()
            request.start_s = now
            self._prefilling.append(request)
            tokens = min(len(request.prompt), left)
            chunks.append((request, tokens))
            left -= tokens
        return chunks

    def _record(
        self, chunks: list[tuple[Served, int]], decodes: list[Served], time_s: float
    ) -> None:
        """Note what was in the step; the requests are as they are after it."""
        pairs = finals = context = 0
        for request, tokens in chunks:
            before = request.computed - tokens
            pairs += tokens * before + tokens * (tokens + 1) // 2
            context += request.computed
            finals += request.computed == len(request.prompt)
        self.steps.append(
            StepRow(
                prefill_tokens=sum(tokens for _, tokens in chunks),
                prefill_pairs=pairs,
                prefill_context=context,
                decode_sequences=len(decodes),
                decode_context=sum(len(r.prompt) + len(r.tokens) - 1 for r in decodes),
                sequences=len(decodes) + finals,
                time_s=time_s,
            )
        )


def trace(rate: float, count: int, seed: int, lengths: Lengths = DEFAULT_LENGTHS) -> Trace:
    """Poisson arrivals (all at once if the rate is infinite) of log-normal prompts and outputs.

    Lengths are a sixth of their median at least, and four times as much at most.
    """
    rng = np.random.default_rng(seed)
    gaps = rng.exponential(1.0, count) / rate
    prompts = rng.lognormal(np.log(lengths.prompt), 0.8, count)
    outputs = rng.lognormal(np.log(lengths.output), 0.6, count)
    return Trace(
        np.cumsum(gaps),
        np.clip(prompts, max(lengths.prompt // 6, 1), LONGEST * lengths.prompt).astype(np.int64),
        np.clip(outputs, max(lengths.output // 6, 1), LONGEST * lengths.output).astype(np.int64),
    )
