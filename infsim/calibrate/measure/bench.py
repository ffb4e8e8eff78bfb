"""Timing of one point: warm-up, repeats that take turns with two references, and their spread.

The references are two kernels that are always the same: one reads from memory, the other computes.
Run before every repeat, they throw what the repeat before left out of the cache, and tell how fast
memory and arithmetic are just then. A repeat counts only if the references before and after it
agree within 10 %, and as long as it would have taken at their usual pace: on a machine that others
use, too, everything is slower for a while, what reads weights by as much as the memory, the rest by
as much as the arithmetic. A point for which too few count within its time is left out.

Repeats that follow each other fall into one state of the machine. Measured again in other rounds,
minutes later, points tell how far they repeat themselves, and their median over the rounds is known
better.
"""

from __future__ import annotations

import math
import time
from bisect import insort
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain
from statistics import median, stdev
from typing import NamedTuple, Protocol

from infsim.calibrate.measure.kernel import Case

DRIFT = 0.10
"""How far the references may move."""
SLOWEST = 1.6
"""So many times the usual references, or so many times less, and a repeat does not count at all."""
QUIET = 0.1
"""The references of a quiet machine are this quantile of many: neighbours only make them longer."""
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
OF_MEDIAN = 1.25
"""Standard error of a median, against that of a mean."""

Timer = Callable[[], float]
"""Runs something once and returns its seconds."""


class Clock(Protocol):
    """How a device is timed."""

    def timer(self, make: Callable[[], Case]) -> Timer:
        """Return a timer of a case; ``make`` may be called several times for fresh inputs."""
        ...


class References(NamedTuple):
    """What makes the case that reads from memory, and the one that computes."""

    memory: Callable[[], Case]
    arithmetic: Callable[[], Case]


class Pace(NamedTuple):
    """Seconds of the reference that reads from memory, and of the one that computes."""

    memory_s: float
    arithmetic_s: float

    @property
    def total_s(self) -> float:
        """Both, one after the other."""
        return self.memory_s + self.arithmetic_s


class Repeat(NamedTuple):
    """What a repeat took, and the references beside it."""

    time_s: float
    pace: Pace


@dataclass(frozen=True)
class Reading:
    """A measured point.

    Attributes
    ----------
    rounds : tuple of tuple of Repeat
        Repeats that followed each other, minutes between one round and the next.
    usual : Pace
        What the references usually take.
    memory : float
        Bytes of its weights and KV cache, over those that the reference reads.
    paced : bool
        Whether the pace of the references is its own; a disk has another one.
    """

    rounds: tuple[tuple[Repeat, ...], ...]
    usual: Pace
    memory: float = 0.0
    paced: bool = True

    @cached_property
    def times_s(self) -> list[list[float]]:
        """What the repeats of each round would have taken at the usual pace."""
        if not self.paced:
            return [[repeat.time_s for repeat in each] for each in self.rounds]
        usual = self.usual
        whole_s = median(
            repeat.time_s * usual.total_s / repeat.pace.total_s
            for repeat in chain.from_iterable(self.rounds)
        )
        share = min(self.memory * usual.memory_s / whole_s, 1.0)
        return [[_at(usual, repeat, share) for repeat in each] for each in self.rounds]

    @cached_property
    def medians_s(self) -> list[float]:
        """Median of each round."""
        return [median(times) for times in self.times_s]

    @property
    def time_s(self) -> float:
        """Median of the medians of the rounds, each of which saw one state of the machine."""
        return median(self.medians_s)

    @property
    def spread_s(self) -> float:
        """Standard deviation of the medians of the rounds.

        With fewer than three, that of the repeats: 1.4826 times the median absolute deviation,
        which does not care for a single interrupted one.
        """
        if len(self.rounds) >= FEWEST:
            return stdev(self.medians_s)
        return _spread(list(chain.from_iterable(self.times_s)))

    @property
    def standard_error(self) -> float:
        """Of the time, relative, from how far the rounds are apart."""
        return OF_MEDIAN * self.spread_s / math.sqrt(len(self.rounds)) / self.time_s

    @property
    def runs(self) -> int:
        """Repeats of all rounds."""
        return sum(len(each) for each in self.rounds)


def _at(usual: Pace, repeat: Repeat, memory: float) -> float:
    """Seconds at the usual pace of a repeat of which a share waits for memory."""
    slow_memory = repeat.pace.memory_s / usual.memory_s
    slow_arithmetic = repeat.pace.arithmetic_s / usual.arithmetic_s
    return float(repeat.time_s / (slow_memory**memory * slow_arithmetic ** (1 - memory)))


class Bench:
    """A clock, and the references that every repeat takes turns with.

    Parameters
    ----------
    clock : Clock
    references : References

    Attributes
    ----------
    quiet_s : float
        What the references took together in the quietest moment of the beginning.
    reference_bytes : float
        What they read from memory.
    """

    def __init__(self, clock: Clock, references: References) -> None:
        self.clock = clock
        self.reference_bytes = 0.0

        def memory() -> Case:
            case = references.memory()
            self.reference_bytes = case.cold_bytes
            return case

        self._memory = clock.timer(memory)
        self._arithmetic = clock.timer(references.arithmetic)
        samples = [self._sample() for _ in range(TRIES)]
        self.quiet_s = min(map(_quiet_s, samples))
        self._beginning = Pace(*map(median, zip(*chain.from_iterable(samples), strict=True)))
        self._seen: tuple[list[float], list[float]] = [], []  # sorted: asked for medians often

    @property
    def usual(self) -> Pace:
        """What the references took beside repeats, each in the median; at first, before them."""
        if len(self._seen[0]) < SAMPLE:
            return self._beginning
        return Pace(*(seen[len(seen) // 2] for seen in self._seen))

    def drift(self) -> float:
        """Return how much longer the references take than at the beginning, in quiet moments.

        If it is more than allowed, a quieter moment is waited for, some seconds at most.
        """
        found = self._drift()
        for _ in range(TRIES):
            if abs(found) <= DRIFT:
                break
            time.sleep(PAUSE_S)
            found = min(found, self._drift(), key=abs)
        return found

    def read(self, make: Callable[[], Case], earlier: Reading | None = None) -> Reading | None:
        """Measure a point; None if the references beside it would not stand still.

        Parameters
        ----------
        make : callable
            Makes the case; it may be called several times for fresh inputs.
        earlier : Reading, optional
            Of the same point in other rounds, to which one of the fewest repeats is added.
        """
        case: Case | None = None

        def made() -> Case:
            nonlocal case
            case = make()
            return case

        timer = self.clock.timer(made)
        timer()
        assert case is not None
        usual = self.usual
        memory = case.cold_bytes / self.reference_bytes if self.reference_bytes else 0.0
        told = Reading((), usual, memory, not case.wall)
        repeats: list[Repeat] = []
        lost_s = 0.0
        before = self._beside()
        while not _enough(replace(told, rounds=(tuple(repeats),)), earlier):
            took_s = timer()
            after = self._beside()
            if _still(before.total_s, after.total_s, usual.total_s):
                repeats.append(Repeat(took_s, _between(before, after)))
            else:
                lost_s += took_s + usual.total_s
                if lost_s > PATIENCE_S:
                    return None
            before = after
        return replace(told, rounds=(*(earlier.rounds if earlier else ()), tuple(repeats)))

    def _beside(self) -> Pace:
        """The pace beside a repeat, which counts for the usual one."""
        pace = self._pace()
        for seen, seconds in zip(self._seen, pace, strict=True):
            insort(seen, seconds)
        return pace

    def _pace(self) -> Pace:
        return Pace(self._memory(), self._arithmetic())

    def _drift(self) -> float:
        return _quiet_s(self._sample()) / self.quiet_s - 1

    def _sample(self) -> list[Pace]:
        for _ in range(3):
            self._pace()
        return [self._pace() for _ in range(SAMPLE)]


def _quiet_s(sample: list[Pace]) -> float:
    return sorted(pace.total_s for pace in sample)[int(QUIET * len(sample))]


def _between(before: Pace, after: Pace) -> Pace:
    """Geometric means."""
    return Pace(*(math.sqrt(a * b) for a, b in zip(before, after, strict=True)))


def _still(before_s: float, after_s: float, usual_s: float) -> bool:
    """Whether the machine was the same before and after, and not too unlike itself."""
    within = all(1 / SLOWEST <= seconds / usual_s <= SLOWEST for seconds in (before_s, after_s))
    return within and abs(after_s / before_s - 1) <= DRIFT


def _spread(times: list[float]) -> float:
    middle = median(times)
    return MAD_TO_SIGMA * median(abs(t - middle) for t in times)


def _enough(reading: Reading, earlier: Reading | None) -> bool:
    count = reading.runs
    if count < FEWEST or earlier is not None:
        return count >= FEWEST
    (times,) = reading.times_s
    if count >= MOST or sum(times) > POINT_S:
        return True
    allowed = PRECISE * median(times) * math.sqrt(count)
    return OF_MEDIAN * _spread(times) <= allowed
