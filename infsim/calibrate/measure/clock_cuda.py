"""CUDA events around replays of a graph: no launches from Python, weights from memory."""

from __future__ import annotations

# mypy: disable-error-code="import-not-found, no-untyped-call, no-any-unimported, unused-ignore"
# mypy: disable-error-code="no-any-return, misc, attr-defined"
import time
from collections.abc import Callable, Sequence
from functools import partial
from math import ceil
from typing import Any

from infsim.calibrate.measure.bench import Timer
from infsim.calibrate.measure.kernel import Case
from infsim.calibrate.measure.torch_case import require_torch

CASES = 64
"""At most so many cases, each with inputs of its own, take turns in a graph."""
SHORTEST_S = 200e-6
"""A graph is made at least so long."""
MOST_RUNS = 200
RESOLUTION_S = 0.5e-6
"""Of CUDA events."""


class CudaClock:
    """Times cases by CUDA events around the replay of a graph of several of them.

    Cases with weights of their own take turns, until together they are twice as large as the cache,
    so that each finds its weights in memory, as in a model. What cannot be captured in a graph is
    launched one by one between the events.
    """

    def __init__(self) -> None:
        torch = require_torch()
        if not torch.cuda.is_available():
            from infsim.errors import InputError

            raise InputError("PyTorch finds no CUDA device", hint="--device cpu")
        self._torch = torch
        self._cache_bytes = torch.cuda.get_device_properties(0).L2_cache_size
        # libraries set themselves up for a stream at its first use, which no capture allows:
        # warm up on the stream that captures
        self._stream = torch.cuda.Stream()

    def timer(self, make: Callable[[], Case]) -> Timer:
        """Return a timer of a case."""
        cases = [make()]
        if cases[0].wall:
            return self._wall(cases[0])
        if cold_bytes := cases[0].cold_bytes:
            turns = min(CASES, ceil(2 * self._cache_bytes / cold_bytes))
            cases += [make() for _ in range(turns - 1)]
        runs = self._runs(cases)
        replay = self._captured(cases, runs)

        def timed() -> float:
            replay()  # while it runs the next one is launched: the events have no launch between
            return self._between_events(replay) / runs

        return timed

    def _runs(self, cases: Sequence[Case]) -> int:
        """Return how many runs make a graph, after warming up."""
        torch = self._torch

        def all_cases() -> None:
            for case in cases:
                case.run()

        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            for _ in range(3):
                all_cases()
        torch.cuda.current_stream().wait_stream(self._stream)
        once_s = max(self._between_events(all_cases) / len(cases), RESOLUTION_S)
        turns = max(1, ceil(SHORTEST_S / once_s / len(cases)))
        return min(turns, max(1, MOST_RUNS // len(cases))) * len(cases)

    def _captured(self, cases: Sequence[Case], runs: int) -> Callable[[], object]:
        """Return the replay of a graph of so many runs, or the runs themselves."""

        def all_runs() -> None:
            for i in range(runs):
                cases[i % len(cases)].run()

        graph = self._torch.cuda.CUDAGraph()
        try:
            with self._torch.cuda.graph(graph, stream=self._stream):
                all_runs()
        except RuntimeError:  # some kernels allocate or wait
            self._torch.cuda.synchronize()
            return all_runs
        return partial(_replay, graph, cases)

    def _between_events(self, run: Callable[[], object]) -> float:
        """Seconds on the device."""
        first, last = (self._torch.cuda.Event(enable_timing=True) for _ in range(2))
        first.record()
        run()
        last.record()
        last.synchronize()
        return float(first.elapsed_time(last)) * 1e-3

    def _wall(self, case: Case) -> Timer:
        def timed() -> float:
            if case.touch is not None:
                case.touch()
            self._torch.cuda.synchronize()
            before = time.perf_counter()
            case.run()
            self._torch.cuda.synchronize()
            return time.perf_counter() - before

        return timed


def _replay(graph: Any, cases: Sequence[Case]) -> None:
    """Replay a graph, which does not keep its inputs alive itself."""
    del cases
    graph.replay()
