"""Timing of one point: warm-up, repeats that take turns with a reference, and their spread.

The reference is one kernel that is always the same. Run before every repeat, it throws what the
repeat before left out of the cache, and tells how fast the machine is just then. A repeat counts
only if the references before and after it agree within 10 %, and as long as it would have taken
while the reference takes what it usually does: on a machine that others use, too, everything is
slower for a while, and kernels by different powers of what the reference is. Where the reference
moved during the repeats of a point, they tell that power; a usual one holds where it did not. A
point for which too few count within its time is left out.

Repeats that follow each other fall into one state of the machine. Measured again in another round,
minutes later, a point tells how far it repeats itself, and its power better.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from statistics import fmean, median
from typing import NamedTuple, Protocol

from infsim.calibrate.measure.kernel import Case

DRIFT = 0.10
"""How far the reference may move."""
SLOWEST = 1.6
"""So many times the usual reference, or so many times less, and a repeat does not count at all."""
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


class Repeat(NamedTuple):
    """What a repeat took, and how many times its time at the beginning the reference did."""

    time_s: float
    slowness: float


@dataclass(frozen=True)
class Reading:
    """A measured point.

    Attributes
    ----------
    rounds : tuple of tuple of Repeat
        Repeats that followed each other, minutes between one round and the next.
    usual : float
        How many times its time at the beginning the reference usually takes.
    """

    rounds: tuple[tuple[Repeat, ...], ...]
    usual: float = 1.0

    @cached_property
    def times_s(self) -> list[float]:
        """What all repeats would have taken while the reference takes what it usually does."""
        return steady(list(chain.from_iterable(self.rounds)), self.usual)

    @property
    def time_s(self) -> float:
        """Median."""
        return median(self.times_s)

    @property
    def spread_s(self) -> float:
        """1.4826 times the median absolute deviation of the repeats.

        It estimates the standard deviation, and does not care for a single interrupted one.
        """
        return _spread(self.times_s)

    @property
    def runs(self) -> int:
        """Repeats of all rounds."""
        return len(self.times_s)

    @property
    def moved(self) -> float:
        """Median of the last round against that of the first, minus 1."""
        first, last = len(self.rounds[0]), len(self.rounds[-1])
        return median(self.times_s[-last:]) / median(self.times_s[:first]) - 1


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
        What the reference took at the beginning, in the median.
    quiet_s : float
        What it took in the quietest moment of the beginning.
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
        samples = [self._sample() for _ in range(TRIES)]
        seen_s = list(chain.from_iterable(samples))
        self.baseline_s = median(seen_s)
        self.quiet_s = min(map(_quiet, samples))
        self._seen = [time_s / self.baseline_s for time_s in seen_s]

    @property
    def usual(self) -> float:
        """How many times its time at the beginning the reference took so far, in the median."""
        return median(self._seen)

    def drift(self) -> float:
        """Return how much longer the reference takes than at the beginning, in quiet moments.

        If it is more than allowed, a quieter moment is waited for, some seconds at most.
        """
        found = _quiet(self._sample()) / self.quiet_s - 1
        for _ in range(TRIES):
            if abs(found) <= DRIFT:
                break
            time.sleep(PAUSE_S)
            found = min(found, _quiet(self._sample()) / self.quiet_s - 1, key=abs)
        return found

    def read(self, make: Callable[[], Case], earlier: Reading | None = None) -> Reading | None:
        """Measure a point; None if the reference beside it would not stand still.

        Parameters
        ----------
        make : callable
            Makes the case; it may be called several times for fresh inputs.
        earlier : Reading, optional
            Of the same point in another round: as many repeats as its first round had are added.
        """
        timer = self.clock.timer(make)
        timer()
        repeats: list[Repeat] = []
        lost_s = 0.0
        usual = self.usual
        before = self._slowness()
        while not _enough(repeats, earlier):
            took_s = timer()
            after = self._slowness()
            if _still(before, after, usual):
                repeats.append(Repeat(took_s, math.sqrt(before * after)))
            else:
                lost_s += took_s + self.baseline_s
                if lost_s > PATIENCE_S:
                    return None
            before = after
        return Reading((*(earlier.rounds if earlier else ()), tuple(repeats)))

    def _slowness(self) -> float:
        self._seen.append(self._reference() / self.baseline_s)
        return self._seen[-1]

    def _sample(self) -> list[float]:
        for _ in range(3):
            self._reference()
        return [self._reference() for _ in range(SAMPLE)]


def _quiet(sample: list[float]) -> float:
    return sorted(sample)[int(QUIET * len(sample))]


def _still(before: float, after: float, usual: float) -> bool:
    """Whether the machine was the same before and after, and not too unlike itself."""
    within = all(1 / SLOWEST <= slowness / usual <= SLOWEST for slowness in (before, after))
    return within and abs(after / before - 1) <= DRIFT


def steady(repeats: Sequence[Repeat], usual: float = 1.0) -> list[float]:
    """Return what repeats would have taken had the reference always taken what it usually does."""
    slowness = [math.log(repeat.slowness) for repeat in repeats]
    middle = fmean(slowness)
    moved = [x - middle for x in slowness]
    together = sum(x * math.log(repeat.time_s) for x, repeat in zip(moved, repeats, strict=True))
    power = (together + USUAL_COUNTS * USUAL) / (sum(x * x for x in moved) + USUAL_COUNTS)
    power = min(max(power, 0.0), STEEPEST)
    return [repeat.time_s * (usual / repeat.slowness) ** power for repeat in repeats]


def _spread(times: list[float]) -> float:
    middle = median(times)
    return MAD_TO_SIGMA * median(abs(t - middle) for t in times)


def _enough(repeats: Sequence[Repeat], earlier: Reading | None) -> bool:
    count = len(repeats)
    if earlier is not None:
        return count >= len(earlier.rounds[0])
    if count < FEWEST:
        return False
    times = steady(repeats)
    if count >= MOST or sum(times) > POINT_S:
        return True
    # the standard error of a median is 1.25 times that of a mean
    allowed = PRECISE * median(times) * math.sqrt(count)
    return 1.25 * _spread(times) <= allowed
