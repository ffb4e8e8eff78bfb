"""What steps of an engine look through, where all sequences share one cache.

llama.cpp (`find_slot`, `seq_rm` and `get_n_kv` in ``src/llama-kv-cache.cpp``) puts tokens where
there is room and looks through everything up to the highest entry in use, in blocks of 256. That
depends on requests that have ended, and so on the load. Priced by the blocks that the entries of
the step would fit into, queues at load 0.85 were 5 % too short. Here it is made up exactly, with no
noise.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from typing import Any

import numpy as np
import pytest

from infsim.calibrate.fit.engine_steps import Steps, fit, predicted_s
from infsim.calibrate.llama_cpp.bench import StepBench
from infsim.calibrate.llama_cpp.clock import Elasticity, Steadiness
from infsim.calibrate.llama_cpp.library import Piece

ENTRIES, BLOCK = 1280, 256


class SharedCache:
    """An engine with the cache of llama.cpp, and the clock by which it takes its time."""

    elasticity = Elasticity(1.0, 0.0)

    def __init__(self) -> None:
        self.owner = np.full(ENTRIES, -1)
        self.head = self.used = 0
        self.step_s = 0.0
        self.looked: list[tuple[int, int]] = []

    def step(self, pieces: Sequence[Piece]) -> list[int]:
        tokens = sum(len(piece.tokens) for piece in pieces)
        self._put([piece.sequence for piece in pieces for _ in piece.tokens])
        highest = int(np.flatnonzero(self.owner >= 0)[-1]) + 1
        through = BLOCK * ceil(highest / BLOCK)
        own = sum(piece.start + len(piece.tokens) for piece in pieces)
        self.looked.append((own, through))
        # attention is a third of a step
        self.step_s = 2e-4 + 3e-5 * tokens + 2e-8 * tokens * through
        return [0 for piece in pieces if piece.wants_token]

    def _put(self, sequences: list[int]) -> None:
        if self.head > self.used + 2 * len(sequences):
            self.head = 0
        for sequence in sequences:
            while self.owner[self.head % ENTRIES] >= 0:
                self.head += 1
            self.head %= ENTRIES
            self.owner[self.head] = sequence
            self.head += 1
        self.used += len(sequences)

    def forget(self, sequence: int, start: int = 0) -> None:
        freed = np.flatnonzero(self.owner == sequence)
        self.owner[freed] = -1
        self.used -= len(freed)
        self.head = min(self.head, int(freed[0]))

    def start(self) -> None: ...
    def refresh(self) -> None: ...
    def watch(self) -> None: ...
    def stop(self, tokens: int) -> float:
        return self.step_s

    def watched(self) -> Steadiness:
        return Steadiness(1.0, 0.0, 0.0)

    def readings(self) -> Any:
        return np.ones((100, 3))


def stand() -> StepBench:
    engine = SharedCache()
    return StepBench(engine, 64, engine, say=lambda _: None)


def test_the_same_entries_are_looked_through_further_under_load() -> None:
    through = {}
    for load in (0.2, 0.85):
        bench = stand()
        assert isinstance(bench.engine, SharedCache)
        rate = load * bench.serve(bench.trace(np.inf, 400, 1), 1).rate
        bench.engine.looked.clear()
        bench.serve(bench.trace(rate, 1000, 2), 2)
        looked = np.array(bench.engine.looked)
        some = (looked[:, 0] > 200) & (looked[:, 0] <= BLOCK)
        through[load] = looked[some, 1].mean() / BLOCK
    assert through[0.2] < 1.4
    assert through[0.85] > 1.5


def test_steps_are_priced_by_what_they_usually_look_through() -> None:
    """All steps of a load together, and those whose own entries would just fit into a block."""
    bench = stand()
    coefficients = fit(Steps.of([step for _, kept in bench.measure(repeats=2) for step in kept]))
    capacity = bench.serve(bench.trace(np.inf, 200, 1), 1).rate
    for load in (0.3, 0.85):
        served = Steps.of(bench.serve(bench.trace(load * capacity, 800, 2), 2).steps)
        expected_s = predicted_s(coefficients, served)
        assert expected_s.sum() == pytest.approx(served.time_s.sum(), rel=0.006)
    entries = served.prefill_context + served.decode_context
    some = (entries > 200) & (entries <= BLOCK)
    assert some.sum() > 100
    assert expected_s[some].sum() == pytest.approx(served.time_s[some].sum(), rel=0.015)
