"""Measure steps of the engine: what the cost of a step is fitted to.

What a step costs depends on what ran before it (the caches of the processor) and on how the
entries of the KV cache are scattered. Steps that are set up one by one, each undone before the
next, are therefore not those of a server: they were 10 % shorter. So the steps are those of
traces that are served like any other, but of seeds and loads of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from math import inf
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from infsim.calibrate.llama_cpp.clock import Elasticity, Steadiness, elasticity
from infsim.calibrate.llama_cpp.library import Piece
from infsim.calibrate.llama_cpp.server import (
    DEFAULT_LENGTHS,
    DEFAULT_LIMITS,
    Engine,
    Lengths,
    Limits,
    Served,
    Server,
    StepRow,
    Trace,
    trace,
)
from infsim.calibrate.llama_cpp.server import Clock as StepClock
from infsim.errors import InfsimError

SATURATED = 0.0
"""The load of a trace whose requests all come at once."""
LOADS = (0.2, 0.5, 0.8, SATURATED)
REQUESTS = 400
FIRST_SEED = 101
KEPT = 0.2
"""Share of the steps that are kept, drawn at random."""
MOVED = 0.35
"""Largest change of the reference during a trace: each step counts relative to the reference beside
it, but not where this is that of another machine."""
STALLED = 5.0
"""A step that takes so many times the longest usual one did not compute all the time."""
ATTEMPTS = 20
REFERENCE_PROMPT = 40
RARE = 1e-6
"""Requests per second that never meet."""
LEARNED_FROM = 10
"""Times that a trace is served to learn how much steps slow down when the reference does."""


class UnsteadyError(InfsimError):
    """The machine was not the same for as long as a trace takes."""


class Clock(StepClock, Protocol):
    """Times steps, and tells how steady the machine was."""

    def watch(self) -> None: ...
    def watched(self) -> Steadiness: ...
    def readings(self) -> NDArray[np.float64]: ...

    elasticity: Elasticity


class Serving(NamedTuple):
    """A trace that was served: its steps, its requests, and how the machine was."""

    steps: list[StepRow]
    requests: list[Served]
    steadiness: Steadiness

    @property
    def rate(self) -> float:
        """Requests per second, from the first arrival on."""
        return len(self.requests) / max(request.end_s for request in self.requests)


@dataclass
class StepBench:
    """Serves traces on an engine, again where the machine disturbed it.

    Attributes
    ----------
    engine : Engine
    vocabulary : int
        Tokens of prompts are random ones of so many.
    clock : Clock
    limits : Limits
    lengths : Lengths
        Of prompts and outputs.
    say : callable
        Told what goes on, a line at a time.
    refused : list of Steadiness
        How the machine was whenever a trace had to be served again.
    """

    engine: Engine
    vocabulary: int
    clock: Clock
    limits: Limits = DEFAULT_LIMITS
    lengths: Lengths = DEFAULT_LENGTHS
    say: Callable[[str], object] = print
    refused: list[Steadiness] = field(default_factory=list)

    def trace(self, rate: float, count: int, seed: int) -> Trace:
        """Return requests that come at a rate; all at once if it is infinite."""
        return trace(rate, count, seed, self.lengths)

    def serve(self, given: Trace, seed: int) -> Serving:
        """Serve a trace, whose tokens are drawn from the seed.

        Raises
        ------
        UnsteadyError
            If the machine was not steady in any of `ATTEMPTS`.
        """
        for _ in range(ATTEMPTS):
            server = Server(self.engine, self.vocabulary, self.clock, self.limits)
            self.clock.watch()
            served = server.serve(given, seed)
            steadiness = self.clock.watched()
            usual_s = float(np.quantile([step.time_s for step in server.steps], 0.999))
            if steadiness.longest_s < STALLED * usual_s and abs(steadiness.moved) < MOVED:
                return Serving(server.steps, served, steadiness)
            self.say(f"the machine moved by {steadiness.moved:+.0%}, served again")
            self.refused.append(steadiness)
        raise UnsteadyError(
            f"the speed of the machine moved by more than {MOVED:.0%}, or a step was stalled, in"
            f" each of {ATTEMPTS} attempts to serve a trace: close other programs and try again"
        )

    def learn(self, requests: int = REQUESTS, times: int = LEARNED_FROM) -> None:
        """Learn how much steps slow down when the reference does, from traces of its own.

        One that comes all at once and one whose requests come one by one: of both, the steps do
        not depend on how long they take.

        Parameters
        ----------
        requests : int
            Of the first trace; the other one has a quarter.
        times : int
            How often each is served.
        """
        seed = FIRST_SEED - 2
        given = [self.trace(inf, requests, seed), self.trace(RARE, requests // 4, seed)]
        traces: list[list[NDArray[np.float64]]] = [[] for _ in given]
        for _ in range(times):
            for each, readings in zip(given, traces, strict=True):
                self.clock.watch()
                Server(self.engine, self.vocabulary, self.clock, self.limits).serve(each, seed)
                readings.append(self.clock.readings())
        found = self.clock.elasticity = elasticity(traces)
        most = self.limits.tokens
        self.say(
            "where the reference takes twice as long, steps take"
            f" {2 ** found.of(1):.2f} (1 token) to {2 ** found.of(most):.2f} times ({most} tokens)"
        )

    def calibrate(self, load: float, capacity: float, seed: int) -> list[StepRow]:
        """Serve a trace for calibration and return the steps that are kept of it."""
        rate = inf if load == SATURATED else load * capacity
        steps = self.serve(self.trace(rate, REQUESTS, seed), seed).steps
        drawn = np.random.default_rng(seed).random(len(steps)) < KEPT
        return [step for step, kept in zip(steps, drawn, strict=True) if kept]

    def measure(self, repeats: int) -> Iterator[tuple[float, list[StepRow]]]:
        """Yield the steps of traces at each of `LOADS` in turn, so many times, with their load."""
        self.learn()
        full = self.trace(inf, REQUESTS, FIRST_SEED - 1)
        capacity = self.serve(full, FIRST_SEED - 1).rate
        self.say(f"capacity: {capacity:.4g} requests/s")
        for seed in range(FIRST_SEED, FIRST_SEED + repeats * len(LOADS)):
            load = LOADS[(seed - FIRST_SEED) % len(LOADS)]
            steps = self.calibrate(load, capacity, seed)
            what = "all at once" if load == SATURATED else f"load {load:g}"
            self.say(f"{what}: {len(steps)} steps kept")
            yield load, steps


def reference(engine: Engine) -> Callable[[], None]:
    """Return what the speed of the machine is measured by: a prompt computed alone.

    The engine must have a KV cache of its own: in that of the server, a step looks through more
    or fewer entries as the server is more or less busy.
    """

    def prompt() -> None:
        engine.step([Piece(0, 0, range(REFERENCE_PROMPT), True)])
        engine.forget(0)

    return prompt
