"""The clock of the CPU, corrected for the speed of the machine."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from statistics import mean, median
from time import process_time

EVERY_S = 0.25
RECENT = 4
FIRST = 20


class SteadyClock:
    """Times what a process computes, in seconds of a machine that is always as fast.

    The CPU time of one and the same step changes by a tenth and more from second to second on a
    machine whose caches and cores others use, too. Therefore references are computed every
    `EVERY_S` seconds of CPU time, and a time counts relative to the last `RECENT` of these. On
    a quiet machine that changes nothing.

    Parameters
    ----------
    *references : callable
        Each computes something that is always the same. There are several because neighbours slow
        down what is bound by memory more than what is bound by arithmetic.
    """

    def __init__(self, *references: Callable[[], object]) -> None:
        self._references = references
        self._began_s = 0.0
        self._due_s = 0.0
        self.measured_s: list[tuple[float, ...]] = []
        for _ in range(FIRST):
            self._measure()
        self.units_s: tuple[float, ...] = tuple(
            median(times) for times in zip(*self.measured_s, strict=True)
        )
        self._recent: deque[tuple[float, ...]] = deque(self.measured_s[-RECENT:], maxlen=RECENT)

    def start(self) -> None:
        """Begin to time a step."""
        self._began_s = process_time()

    def stop(self, reference: int) -> float:
        """Return the corrected seconds since the start, by one of the references."""
        elapsed_s = process_time() - self._began_s
        recent_s = float(mean(row[reference] for row in self._recent))
        return elapsed_s * self.units_s[reference] / recent_s

    def refresh(self) -> None:
        """Measure the references if it is time to; for moments between steps."""
        if process_time() >= self._due_s:
            self._measure()
            self._recent.append(self.measured_s[-1])

    def slowdowns(self, first: int) -> list[float]:
        """How many times as long the references took as at the beginning, from a measurement on."""
        rows = self.measured_s[first:]
        return [
            mean(times) / unit_s
            for times, unit_s in zip(zip(*rows, strict=True), self.units_s, strict=True)
        ]

    def _measure(self) -> None:
        times = []
        for reference in self._references:
            began_s = process_time()
            reference()
            times.append(process_time() - began_s)
        self.measured_s.append(tuple(times))
        self._due_s = process_time() + EVERY_S
