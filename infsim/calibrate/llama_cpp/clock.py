"""The clock of the CPU, corrected for the speed of the machine."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from math import log
from statistics import fmean, median
from time import process_time
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

EVERY_S = 0.001
RECENT = 2
FIRST = 200
QUIET = 0.1
CHUNK = 50
"""Steps that are put together to tell how much they slow down."""
SMALL = 8
"""Tokens of a step up to which it counts as small."""
MOVING = 0.02
"""Standard deviation of the reference, in logarithms, that tells."""


class Steadiness(NamedTuple):
    """How the machine was for a while.

    Attributes
    ----------
    slowdown : float
        How many times as long the reference took as its unit.
    moved : float
        How much longer or shorter it took in the last quarter of the time than in the first.
    longest_s : float
        Longest step, not corrected.
    """

    slowdown: float
    moved: float
    longest_s: float


class Reading(NamedTuple):
    """A step of so many tokens, and the reference beside it."""

    elapsed_s: float
    reference_s: float
    tokens: int


class Elasticity(NamedTuple):
    """By how much, in logarithms, a step slows down when the reference does by 1.

    Linear in the logarithm of its tokens: a decode reads weights, a prompt multiplies.
    """

    base: float
    slope: float

    def of(self, tokens: int) -> float:
        return self.base + self.slope * log(tokens)


class SteadyClock:
    """Times what a process computes, in seconds of a machine that is always as fast.

    The CPU time of one and the same step changes by a third within a hundredth of a second on a
    machine whose cores others use, too. Therefore a reference is computed every `EVERY_S` seconds
    of CPU time, and a time counts relative to the mean of the last `RECENT` of these.

    Parameters
    ----------
    reference : callable
        Computes something that is always the same, and much like what is timed: neighbours
        slow down what is bound by memory more than what is bound by arithmetic.
    now : callable
        Seconds on the clock: CPU time of the process, or another one for another device.
    unit_s : float, optional
        What the reference takes on the machine of which times are told; by default on this one at
        first, in the median.

    Attributes
    ----------
    unit_s : float
    quiet_s : float
        What the reference took in quiet moments at first.
    elasticity : Elasticity
        How much what is timed slows down when the reference does.
    """

    def __init__(
        self,
        reference: Callable[[], object],
        now: Callable[[], float] = process_time,
        unit_s: float | None = None,
    ) -> None:
        self._reference = reference
        self._now = now
        self.elasticity = Elasticity(1.0, 0.0)
        self._began_s = 0.0
        self._due_s = 0.0
        self._measured_s: list[float] = []
        self._readings: list[Reading] = []
        for _ in range(FIRST):
            self._measure()
        self.unit_s = unit_s or median(self._measured_s)
        self.quiet_s = float(np.quantile(self._measured_s, QUIET))
        self._recent: deque[float] = deque(self._measured_s, maxlen=RECENT)

    def start(self) -> None:
        """Begin to time a step."""
        self._began_s = self._now()

    def stop(self, tokens: int) -> float:
        """Return the corrected seconds since the start of a step of so many tokens."""
        elapsed_s = self._now() - self._began_s
        recent_s = fmean(self._recent)
        self._readings.append(Reading(elapsed_s, recent_s, tokens))
        return elapsed_s * float((self.unit_s / recent_s) ** self.elasticity.of(tokens))

    def refresh(self) -> None:
        """Measure the reference if it is time to; for moments between steps."""
        if self._now() >= self._due_s:
            self._measure()
            self._recent.append(self._measured_s[-1])

    def watch(self) -> None:
        """Begin to judge how steady the machine is."""
        self._measured_s = []
        self._readings = []

    def watched(self) -> Steadiness:
        """Judge how steady it was."""
        measured_s = self._measured_s
        quarter = max(len(measured_s) // 4, 1)
        first_s, last_s = median(measured_s[:quarter]), median(measured_s[-quarter:])
        longest_s = max(reading.elapsed_s for reading in self._readings)
        return Steadiness(median(measured_s) / self.unit_s, last_s / first_s - 1, longest_s)

    def readings(self) -> NDArray[np.float64]:
        """Return seconds of each step, of the reference beside it, and tokens: (steps, 3)."""
        return np.array(self._readings)

    def _measure(self) -> None:
        began_s = self._now()
        self._reference()
        now_s = self._now()
        self._measured_s.append(now_s - began_s)
        self._due_s = now_s + EVERY_S


def elasticity(traces: Sequence[Sequence[NDArray[np.float64]]]) -> Elasticity:
    """How much steps slow down when the reference does, by least squares in logarithms.

    Parameters
    ----------
    traces : sequence of sequence of array
        For each trace the readings of its steps, the same in each of several repeats.

    Returns
    -------
    Elasticity
        One by which they slow down alike if the reference stood still, so that nothing can be told.
    """
    moved = np.vstack([part for repeats in traces for part in _moved(np.array(repeats))])
    if moved[:, 1].std() < MOVING:
        return Elasticity(1.0, 0.0)
    step, reference, size = moved.T
    columns = np.column_stack([reference, reference * size])
    base, slope = np.linalg.lstsq(columns, step, rcond=None)[0].tolist()
    return Elasticity(base, slope)


def _moved(repeats: NDArray[np.float64]) -> Iterator[NDArray[np.float64]]:
    """Yield how far sums of steps and references are from their means, and the steps' size.

    The same chunks of steps in all repeats, those of few and of many tokens apart.
    """
    small = repeats[0, :, 2] <= SMALL
    for chosen in (small, ~small):
        own = repeats[:, chosen]
        count = own.shape[1] // CHUNK
        if count:
            chunks = own[:, : count * CHUNK].reshape(len(own), count, CHUNK, 3)
            times = np.log(chunks[..., :2].sum(axis=2))
            size = np.log(chunks[..., 2]).mean(axis=2, keepdims=True)
            yield np.concatenate([times - times.mean(axis=0), size], axis=2).reshape(-1, 3)
