"""Timing of one point: warm-up, repeats that take turns with a reference, and their spread.

The reference is one kernel that is always the same. Run before every repeat, it throws what the
repeat before left out of the cache, and tells how fast the machine is just then. A repeat counts
only if the references before and after it agree within 10 %, and as long as it would have taken on
the quiet machine: on one that others use, too, everything is slower for a while, and kernels by
different powers of what the reference is. Where the reference moved during the repeats of a point,
they tell that power; a usual one holds where it did not. A point for which too few count within its
time is left out.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import NamedTuple, Protocol

from infsim.calibrate.measure.kernel import Case

DRIFT = 0.10
"""How far the reference may move."""
SLOWEST = 1.6
"""So many times the reference of the quiet machine, or so many times less, and a repeat does not
count at all."""
USUAL = 0.75
"""By how much, in logarithms, kernels slow down when the reference does by 1: linear layers on a
core of a shared EPYC 7003 by 0.5 to 1."""
STEEPEST = 1.5
"""Largest power."""
USUAL_COUNTS = 0.03
"""The usual power counts as much as repeats whose logarithms of the reference have this sum of
squares: their own scatter of 0.04, over that of the powers of 0.23, squared."""
QUIET = 0.1
"""The reference of a quiet machine is this quantile of many: neighbours only make it longer."""
SAMPLE = 60
"""References that are run to find it."""
TRIES = 20
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


class Repeat(NamedTuple):
    """What a repeat took, and how many times as long as on the quiet machine the reference."""

    time_s: float
    slowness: float


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
    reference_bytes : float
        What it reads from memory.
    """

    def __init__(self, clock: Clock, reference: Callable[[], Case]) -> None:
        self.clock = clock
        self.reference_bytes = 0.0

        def made() -> Case:
            case = reference()
            self.reference_bytes = case.cold_bytes
            return case

        self._reference = clock.timer(made)
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
        repeats: list[Repeat] = []
        times: list[float] = []
        lost_s = 0.0
        before = self._slowness()
        while not _enough(times):
            took_s = timer()
            after = self._slowness()
            if _still(before, after):
                repeats.append(Repeat(took_s, math.sqrt(before * after)))
                times = at_rest(repeats)
            else:
                lost_s += took_s + self.baseline_s
                if lost_s > PATIENCE_S:
                    return None
            before = after
        return Reading(median(times), _spread(times), len(times))

    def _slowness(self) -> float:
        return self._reference() / self.baseline_s

    def _quiet_s(self) -> float:
        for _ in range(3):
            self._reference()
        return sorted(self._reference() for _ in range(SAMPLE))[int(QUIET * SAMPLE)]


def _still(before: float, after: float) -> bool:
    """Whether the machine was the same before and after, and not too unlike the quiet one."""
    within = all(1 / SLOWEST <= slowness <= SLOWEST for slowness in (before, after))
    return within and abs(after / before - 1) <= DRIFT


def at_rest(repeats: Sequence[Repeat]) -> list[float]:
    """Return what repeats would have taken on the quiet machine."""
    slowness = [math.log(repeat.slowness) for repeat in repeats]
    usual = fmean(slowness)
    moved = [x - usual for x in slowness]
    together = sum(x * math.log(repeat.time_s) for x, repeat in zip(moved, repeats, strict=True))
    power = (together + USUAL_COUNTS * USUAL) / (sum(x * x for x in moved) + USUAL_COUNTS)
    power = min(max(power, 0.0), STEEPEST)
    return [repeat.time_s / repeat.slowness**power for repeat in repeats]


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
