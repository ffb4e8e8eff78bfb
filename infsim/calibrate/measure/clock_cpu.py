"""CPU time of one thread: what others do on the machine is not counted."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median

from infsim.calibrate.measure.bench import Timer
from infsim.calibrate.measure.kernel import Case

SHORTEST_S = 50e-6
"""Runs of kernels that find everything in the cache are strung together up to this."""


class CpuClock:
    """Times cases by the CPU time of this thread, the cost of asking for it taken off."""

    def __init__(self) -> None:
        self._asking_s = median(_elapsed(time.thread_time_ns, _nothing) for _ in range(1001))

    def timer(self, make: Callable[[], Case]) -> Timer:
        """Return a timer of a case."""
        case = make()
        ask = time.perf_counter_ns if case.wall else time.thread_time_ns
        # only what is warm after its own run may be strung together: else the rest would be cached
        count = self._count(case) if case.touch is case.run else 1

        def run() -> None:
            for _ in range(count):
                case.run()

        def timed() -> float:
            if case.touch is not None:
                case.touch()
            return max(_elapsed(ask, run) - self._asking_s, 1e-9) / count

        return timed

    def _count(self, case: Case) -> int:
        case.run()
        once = min(_elapsed(time.thread_time_ns, case.run) for _ in range(3))
        return max(1, round(SHORTEST_S / max(once, 1e-9)))


def _elapsed(ask: Callable[[], int], run: Callable[[], object]) -> float:
    before = ask()
    run()
    return (ask() - before) * 1e-9


def _nothing() -> None:
    pass
