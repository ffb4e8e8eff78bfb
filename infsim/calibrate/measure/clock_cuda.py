"""CUDA events around replays of a graph: no launches from Python, weights from memory."""

from __future__ import annotations

# mypy: disable-error-code="import-not-found, no-untyped-call, no-any-unimported, unused-ignore"
# mypy: disable-error-code="no-any-return, misc, attr-defined"
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from infsim.calibrate.measure.bench import Timer
from infsim.calibrate.measure.kernel import Case
from infsim.calibrate.measure.torch_case import require_torch

CASES = 64
"""At most so many cases, each with inputs of its own, take turns in a graph."""
SHORTEST_S = 200e-6
"""A graph is made at least so long."""
MOST_RUNS = 200


class CudaClock:
    """Times cases by CUDA events around the replay of a graph of several of them.

    Cases with weights of their own take turns, until together they are larger than the cache, so
    that each finds its weights in memory, as in a model. What cannot be captured in a graph is
    launched one by one between the events.
    """

    def __init__(self) -> None:
        torch = require_torch()
        if not torch.cuda.is_available():
            from infsim.errors import InputError

            raise InputError("PyTorch finds no CUDA device", hint="--device cpu")
        self._torch = torch
        self._cache_bytes = torch.cuda.get_device_properties(0).L2_cache_size

    def timer(self, make: Callable[[], Case]) -> Timer:
        """Return a timer of a case."""
        cases = [make()]
        if cases[0].wall:
            return self._wall(cases[0])
        before = self._torch.cuda.memory_allocated()
        while self._cached(cases, before) and len(cases) < CASES:
            cases.append(make())
        runs = self._runs(cases)
        replay = self._captured(cases, runs)
        return lambda: self._between_events(replay) / runs

    def _cached(self, cases: list[Case], before: int) -> bool:
        """Whether the cache may hold the inputs of the cases although they come from memory."""
        own = self._torch.cuda.memory_allocated() - before  # of all but the first
        return cases[0].touch is not cases[0].run and own < 2 * self._cache_bytes

    def _runs(self, cases: list[Case]) -> int:
        """Return how many runs make a graph, after warming up."""

        def all_cases() -> None:
            for case in cases:
                case.run()

        stream = self._torch.cuda.Stream()
        stream.wait_stream(self._torch.cuda.current_stream())
        with self._torch.cuda.stream(stream):  # capturing wants a warm-up on another stream
            for _ in range(3):
                all_cases()
        self._torch.cuda.current_stream().wait_stream(stream)
        once = self._between_events(all_cases) / len(cases)
        turns = max(1, round(SHORTEST_S / once / len(cases)))
        return min(turns, max(1, MOST_RUNS // len(cases))) * len(cases)

    def _captured(self, cases: list[Case], runs: int) -> Callable[[], object]:
        """Return the replay of a graph of so many runs, or the runs themselves."""

        def all_runs() -> None:
            for i in range(runs):
                cases[i % len(cases)].run()

        graph = self._torch.cuda.CUDAGraph()
        try:
            with self._torch.cuda.graph(graph):
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


def _replay(graph: Any, cases: list[Case]) -> None:
    """Replay a graph, which does not keep its inputs alive itself."""
    del cases
    graph.replay()
