"""Measure single steps of the engine: what the cost of a step is fitted to.

A round fills the KV cache with as many sequences as the server holds, of random lengths, and frees
one after the other; at each number of sequences it times steps that decode all of them, alone and
together with pieces of prompts. It also times prompts alone, of every number of tokens in
turn, because the time of a batch has steps in its size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from tests.fidelity.llama_cpp.library import Piece
from tests.fidelity.llama_cpp.server import (
    DECODES,
    MAX_SEQUENCES,
    PROMPTS,
    TOKEN_BUDGET,
    Clock,
    Engine,
    StepRow,
    trace,
)

DECODE_REPEATS = 3
MIXED_STEPS = 2
REFERENCE_PROMPT, REFERENCE_DECODES = 32, 12
SWEEPS = 3
"""Rounds in which prompts of every number of tokens are timed once."""


def references(engine: Engine) -> tuple[Callable[[], None], Callable[[], None]]:
    """Return what the speed of the machine is measured by: a prompt, and decodes of one token."""
    place = 2 * MAX_SEQUENCES - 1

    def prompt() -> None:
        engine.step([Piece(place, 0, range(REFERENCE_PROMPT), True)])
        engine.forget(place)

    def decodes() -> None:
        for i in range(REFERENCE_DECODES):
            engine.step([Piece(place, i, [i], True)])
        engine.forget(place)

    return prompt, decodes


class _Chunk(NamedTuple):
    """Tokens of a new prompt after so many computed ones, and whether they are its last."""

    before: int
    tokens: int
    final: bool


class Bench:
    """Rounds of measurements on one engine, with nothing in its KV cache before and after.

    The engine must have room for twice the sequences of the server: one half decodes, the prompts
    of the other half are computed.
    """

    def __init__(self, engine: Engine, vocabulary: int, clock: Clock, seed: int) -> None:
        self.engine = engine
        self.vocabulary = vocabulary
        self.clock = clock
        self.rng = np.random.default_rng(seed)
        self.rounds = 0

    def round(self) -> Iterator[StepRow]:
        """Measure one round."""
        for tokens in range(1 + self.rounds % SWEEPS, TOKEN_BUDGET + 1, SWEEPS):
            yield self._time([], [_Chunk(0, tokens, bool(self.rng.integers(2)))])
        self.rounds += 1
        contexts = self._contexts()
        for sequence, context in enumerate(contexts):
            self._fill(sequence, context)
        for count in range(MAX_SEQUENCES, -1, -1):
            if count:
                self._time(contexts[:count], [])
                for _ in range(DECODE_REPEATS):
                    yield self._time(contexts[:count], [])
            for _ in range(MIXED_STEPS):
                yield self._time(contexts[:count], self._chunks(TOKEN_BUDGET - count))
            if count:
                self.engine.forget(count - 1)

    def _contexts(self) -> list[int]:
        """KV entries of sequences somewhere between their first and their last token."""
        drawn = trace(1.0, MAX_SEQUENCES, int(self.rng.integers(2**31)))
        made = (self.rng.random(MAX_SEQUENCES) * drawn.output_tokens).astype(np.int64)
        return [int(n) for n in drawn.input_tokens + made]

    def _chunks(self, room: int) -> list[_Chunk]:
        """Pieces of prompts that fill the rest of a step, or a part of it."""
        left = room if self.rng.random() < 0.3 else int(self.rng.integers(1, room + 1))
        lengths = iter(trace(1.0, MAX_SEQUENCES, int(self.rng.integers(2**31))).input_tokens)
        chunks: list[_Chunk] = []
        for length in map(int, lengths):
            before = 0
            if not chunks and self.rng.random() < 0.4:
                before = int(self.rng.integers(0, length))
            tokens = min(length - before, left)
            chunks.append(_Chunk(before, tokens, before + tokens == length))
            left -= tokens
            if not left:
                break
        return chunks

    def _time(self, contexts: list[int], chunks: list[_Chunk]) -> StepRow:
        """Time a step, and undo it."""
        places = range(MAX_SEQUENCES, MAX_SEQUENCES + len(chunks))
        for place, chunk in zip(places, chunks, strict=True):
            if chunk.before:
                self._fill(place, chunk.before)
        prompts = [self._tokens(chunk.tokens) for chunk in chunks]
        self.clock.start()
        pieces = [Piece(i, context, [i + 1], True) for i, context in enumerate(contexts)]
        for place, chunk, tokens in zip(places, chunks, prompts, strict=True):
            pieces.append(Piece(place, chunk.before, tokens, chunk.final))
        self.engine.step(pieces)
        time_s = self.clock.stop(PROMPTS if chunks else DECODES)
        for i, context in enumerate(contexts):
            self.engine.forget(i, context)
        for place in places:
            self.engine.forget(place)
        self.clock.refresh()
        decodes = len(contexts)
        return StepRow(
            prefill_tokens=sum(c.tokens for c in chunks),
            prefill_pairs=sum(c.tokens * c.before + c.tokens * (c.tokens + 1) // 2 for c in chunks),
            prefill_context=sum(c.before + c.tokens for c in chunks),
            decode_sequences=decodes,
            decode_context=sum(contexts) + decodes,
            sequences=decodes + sum(c.final for c in chunks),
            time_s=time_s,
        )

    def _fill(self, sequence: int, context: int) -> None:
        """Compute so many tokens of a sequence."""
        for start in range(0, context, TOKEN_BUDGET):
            tokens = self._tokens(min(TOKEN_BUDGET, context - start))
            self.engine.step([Piece(sequence, start, tokens, False)])

    def _tokens(self, count: int) -> list[int]:
        drawn: list[int] = self.rng.integers(0, self.vocabulary, count).tolist()
        return drawn
