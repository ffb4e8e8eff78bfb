"""The clock of the CPU, corrected for the speed of the machine."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from statistics import median
from time import process_time
from typing import NamedTuple

EVERY_S = 0.02
RECENT = 15
FIRST = 50


class Steadiness(NamedTuple):
    """How the machine was for a while.

    Attributes
    ----------
    slowdown : float
        How many times as long the reference took as at the beginning of the clock.
    moved : float
        How much longer or shorter it took in the last quarter of the time than in the first.
    longest_s : float
        Longest step, not corrected.
    """

    slowdown: float
    moved: float
    longest_s: float


class SteadyClock:
    """Times what a process computes, in seconds of a machine that is always as fast.

    The CPU time of one and the same step changes by a tenth and more from second to second on a
    machine whose caches and cores others use, too. Therefore a reference is computed every
    `EVERY_S` seconds of CPU time, and a time counts relative to the median of the last `RECENT` of
    these. On a quiet machine that changes nothing.

    Parameters
    ----------
    reference : callable
        Computes something that is always the same, and much like what is timed: neighbours
        slow down what is bound by memory more than what is bound by arithmetic.
    """

    def __init__(self, reference: Callable[[], object]) -> None:
        self._reference = reference
        self._began_s = 0.0
        self._due_s = 0.0
        self._measured_s: list[float] = []
        self._longest_s = 0.0
        for _ in range(FIRST):
            self._measure()
        self._unit_s = median(self._measured_s)
        self._recent: deque[float] = deque(self._measured_s, maxlen=RECENT)
        self._recent_s = median(self._recent)

    def start(self) -> None:
        """Begin to time a step."""
        self._began_s = process_time()

    def stop(self) -> float:
        """Return the corrected seconds since the start."""
        elapsed_s = process_time() - self._began_s
        self._longest_s = max(self._longest_s, elapsed_s)
        return elapsed_s * self._unit_s / self._recent_s

    def refresh(self) -> None:
        """Measure the reference if it is time to; for moments between steps."""
        if process_time() >= self._due_s:
            self._measure()
            self._recent.append(self._measured_s[-1])
            self._recent_s = median(self._recent)

    def watch(self) -> None:
        """Begin to judge how steady the machine is."""
        self._measured_s = []
        self._longest_s = 0.0

    def watched(self) -> Steadiness:
        """Judge how steady it was."""
        measured_s = self._measured_s
        quarter = max(len(measured_s) // 4, 1)
        first_s, last_s = median(measured_s[:quarter]), median(measured_s[-quarter:])
        return Steadiness(median(measured_s) / self._unit_s, last_s / first_s - 1, self._longest_s)

    def _measure(self) -> None:
        """Compute the reference twice: the first time brings back what a large step displaced."""
        self._reference()
        began_s = process_time()
        self._reference()
        self._measured_s.append(process_time() - began_s)
        self._due_s = process_time() + EVERY_S
