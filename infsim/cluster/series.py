"""Step functions of time with exact integrals: what electricity emits, and what it costs."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate, pairwise
from math import inf, nan
from typing import ClassVar, Self

from infsim.errors import InputError


class StepSeries:
    """A quantity as a step function of time.

    Parameters
    ----------
    starts_s : sequence of float
        Where steps start, in seconds of the run, increasing. The first value also holds
        before its start.
    values : sequence of float
        Value from each start on; NaN if it is not known.
    period_s : float or None
        The series repeats after this time (counted from the first start); ``None`` holds the
        last value for ever.

    Raises
    ------
    InputError
        If the series is empty, infinite, not increasing, or longer than its period.

    Examples
    --------
    >>> day = StepSeries([0, 3600], [40, -60], period_s=7200)
    >>> day.at(5000), day.integral(0, 7200), day.integral(1800, 9000)
    (-60.0, -72000.0, -72000.0)
    """

    quantity: ClassVar[str] = "a series"
    """What the values are, for messages."""

    def __init__(
        self, starts_s: Sequence[float], values: Sequence[float], period_s: float | None = None
    ) -> None:
        what = self.quantity
        if not starts_s or len(starts_s) != len(values):
            raise InputError(f"{what}: {len(starts_s)} times for {len(values)} values")
        for value in values:
            if abs(value) == inf:
                raise InputError(f"{what}: {value!r} is not finite")
        for before, after in pairwise(starts_s):
            if not before < after:
                raise InputError(f"{what}: times must increase, {after!r} <= {before!r}")
        if period_s is not None and period_s <= starts_s[-1] - starts_s[0]:
            raise InputError(f"{what}: the series is longer than its period {period_s} s")
        self._origin = float(starts_s[0])
        self._starts = [float(start) - self._origin for start in starts_s]
        self._values = [float(value) for value in values]
        self._period = period_s
        steps = (b - a for a, b in pairwise(self._starts))
        self._sums = [0.0, *accumulate(v * d for v, d in zip(self._values, steps, strict=False))]
        self._period_sum = 0.0 if period_s is None else self._between(0.0, period_s)

    @classmethod
    def constant(cls, value: float) -> Self:
        """Return a series that never changes."""
        return cls([0.0], [value])

    @classmethod
    def unknown(cls) -> Self:
        """Return a series that nobody has told: what is made of it is NaN, not 0."""
        return cls.constant(nan)

    @property
    def is_constant(self) -> bool:
        """True if there is only one value."""
        return len(self._values) == 1

    def at(self, time_s: float) -> float:
        """Value at a time."""
        offset = time_s - self._origin
        if self._period is not None:
            offset %= self._period
        return self._values[self._step(offset)]

    def integral(self, start_s: float, end_s: float) -> float:
        """Integral from ``start_s`` to a later ``end_s``, in the unit of the values times seconds.

        Of a value per kWh, a constant power of P watts over that time takes
        ``P * integral / 3.6e6``.
        """
        start, end = start_s - self._origin, end_s - self._origin
        if self._period is None:
            return self._between(start, end)
        cycle, start = divmod(start, self._period)
        end -= cycle * self._period
        if end <= self._period:
            return self._between(start, end)
        cycles, end = divmod(end, self._period)
        whole = (cycles - 1) * self._period_sum if cycles > 1 else 0.0
        return self._between(start, self._period) + whole + self._between(0.0, end)

    def _between(self, start: float, end: float) -> float:
        # from step to step instead of a difference of two sums since the origin: these may be
        # years long, and the span a few milliseconds
        first, last = self._step(start), self._step(end)
        if first == last:
            return self._values[first] * (end - start)
        head = self._values[first] * (self._starts[first + 1] - start)
        tail = self._values[last] * (end - self._starts[last])
        return head + (self._sums[last] - self._sums[first + 1]) + tail

    def _step(self, offset: float) -> int:
        return max(0, bisect_right(self._starts, offset) - 1)
