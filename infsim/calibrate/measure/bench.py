"""Timing of one point: warm-up, repeats that take turns with a reference, and their spread.

The reference is one kernel that is always the same. Run before every repeat, it throws what the
repeat before left out of the cache, and tells whether the machine is still the one it was: a repeat
counts only if the references before and after it took within 10 % of what the reference takes when
the machine is quiet. A point for which too few count within its time is left out.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Protocol

from infsim.calibrate.measure.kernel import Case

DRIFT = 0.10
"""How far the reference may move."""
QUIET = 0.1
"""The reference of a quiet machine is this quantile of many: neighbours only make it longer."""
SAMPLE = 60
"""References that are run to find it."""
TRIES = 8
"""So often a moment is looked for in which the machine is quiet."""
PAUSE_S = 1.0
FEWEST, MOST = 3, 15
PRECISE = 0.03
"""Standard error of the median, relative, at which repeats end."""
POINT_S = 0.2
"""Time for repeats that count, after which the fewest are enough."""
PATIENCE_S = 0.6
"""Time for repeats that do not count, after which a point is given up."""
MAD_TO_SIGMA = 1.4826

Timer = Callable[[], float]
"""Runs something once and returns its seconds."""


class Clock(Protocol):
    """How a device is timed."""

    def timer(self, make: Callable[[], Case]) -> Timer:
        """Return a timer of a case; ``make`` may be called several times for fresh inputs."""
        ...


@dataclass(frozen=True)
class Reading:
    """A measured point.

    Attributes
    ----------
    time_s, spread_s : float
        Median, and 1.4826 times the median absolute deviation of the repeats, which estimates
        the standard deviation and does not care for a single interrupted one.
    runs : int
    """

    time_s: float
    spread_s: float
    runs: int


class Bench:
    """A clock, and the reference that every repeat takes turns with.

    Parameters
    ----------
    clock : Clock
    reference : callable
        Makes the case of the reference.

    Attributes
    ----------
    baseline_s : float
        Time of the reference on the quiet machine.
    """

    def __init__(self, clock: Clock, reference: Callable[[], Case]) -> None:
        self.clock = clock
        self._reference = clock.timer(reference)
        self.baseline_s = min(self._quiet_s() for _ in range(TRIES))

    def drift(self) -> float:
        """Return how much longer the reference takes than at the beginning, relative.

        If it is more than allowed, a quieter moment is waited for, some seconds at most.
        """
        found = self._quiet_s() / self.baseline_s - 1
        for _ in range(TRIES):
            if abs(found) <= DRIFT:
                break
            time.sleep(PAUSE_S)
            found = min(found, self._quiet_s() / self.baseline_s - 1, key=abs)
        return found

    def read(self, make: Callable[[], Case]) -> Reading | None:
        """Measure a point; None if the reference beside it would not stand still."""
        timer = self.clock.timer(make)
        timer()
        times: list[float] = []
        lost_s = 0.0
        steady = self._steady()
        while not _enough(times):
            took_s, before = timer(), steady
            steady = self._steady()
            if before and steady:
                times.append(took_s)
            else:
                lost_s += took_s + self.baseline_s
                if lost_s > PATIENCE_S:
                    return None
        return Reading(median(times), _spread(times), len(times))

    def _steady(self) -> bool:
        return abs(self._reference() / self.baseline_s - 1) <= DRIFT

    def _quiet_s(self) -> float:
        for _ in range(3):
            self._reference()
        return sorted(self._reference() for _ in range(SAMPLE))[int(QUIET * SAMPLE)]


def _spread(times: list[float]) -> float:
    middle = median(times)
    return MAD_TO_SIGMA * median(abs(t - middle) for t in times)


def _enough(times: list[float]) -> bool:
    count = len(times)
    if count < FEWEST:
        return False
    if count >= MOST or sum(times) > POINT_S:
        return True
    # the standard error of a median is 1.25 times that of a mean
    allowed = PRECISE * median(times) * math.sqrt(count)
    return 1.25 * _spread(times) <= allowed
