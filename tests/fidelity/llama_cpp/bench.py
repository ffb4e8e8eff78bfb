"""Measure steps of the engine: what the cost of a step is fitted to.

What a step costs depends on what ran before it (the caches of the processor) and on how the
entries of the KV cache are scattered. Steps that are set up one by one, each undone before the
next, are therefore not those of a server: they were 10 % shorter. So the steps are those of
traces that are served like any other, but of seeds and loads of their own.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tests.fidelity.llama_cpp.library import Piece
from tests.fidelity.llama_cpp.server import Engine, StepRow

SATURATED = 0.0
"""The load of a trace whose requests all come at once."""
LOADS = (0.2, 0.5, 0.8, SATURATED)
REQUESTS = 400
FIRST_SEED = 101
KEPT = 0.2
"""Share of the steps that are kept, drawn at random."""
REFERENCE_PROMPT, REFERENCE_DECODES = 24, 4


def reference(engine: Engine) -> Callable[[], None]:
    """Return what the speed of the machine is measured by: a request served alone.

    The engine must have a KV cache of its own: in that of the server, a step looks through more
    or fewer entries as the server is more or less busy.
    """

    def request() -> None:
        engine.step([Piece(0, 0, range(REFERENCE_PROMPT), True)])
        for i in range(REFERENCE_DECODES):
            engine.step([Piece(0, REFERENCE_PROMPT + i, [i], True)])
        engine.forget(0)

    return request


def keep(steps: list[StepRow], seed: int) -> list[StepRow]:
    """Draw the steps that are kept of a trace."""
    drawn = np.random.default_rng(seed).random(len(steps)) < KEPT
    return [step for step, kept in zip(steps, drawn, strict=True) if kept]
