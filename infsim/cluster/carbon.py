"""Carbon intensity of electricity over time, with exact integrals."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate, pairwise
from math import inf, nan

from infsim.errors import InputError


class CarbonIntensity:
    """Grams of CO2e per kWh as a step function of time.

    Parameters
    ----------
    starts_s : sequence of float
        Where steps start, in seconds of the run, increasing. The first value also holds
        before its start.
    values_g_per_kwh : sequence of float
        Intensity from each start on; NaN if it is not known.
    period_s : float or None
        The series repeats after this time (counted from the first start); ``None`` holds the
        last value for ever.

    Raises
    ------
    InputError
        If the series is empty, not increasing, negative, or longer than its period.

    Examples
    --------
    >>> day = CarbonIntensity([0, 3600], [40, 60], period_s=7200)
    >>> day.at(5000), day.integral(0, 7200), day.integral(0, 14400)
    (60.0, 360000.0, 720000.0)
    """

    def __init__(
        self,
        starts_s: Sequence[float],
        values_g_per_kwh: Sequence[float],
        period_s: float | None = None,
    ) -> None:
        if not starts_s or len(starts_s) != len(values_g_per_kwh):
            raise InputError(
                f"carbon intensity: {len(starts_s)} times for {len(values_g_per_kwh)} values"
            )
        for value in values_g_per_kwh:
            if value < 0 or value == inf:
                raise InputError(f"carbon intensity must not be negative, got {value!r} g/kWh")
        for before, after in pairwise(starts_s):
            if not before < after:
                raise InputError(f"carbon intensity: times must increase, {after!r} <= {before!r}")
        if period_s is not None and period_s <= starts_s[-1] - starts_s[0]:
            raise InputError(f"carbon intensity: the series is longer than its period {period_s} s")
        self._origin = float(starts_s[0])
        self._starts = [float(start) - self._origin for start in starts_s]
        self._values = [float(value) for value in values_g_per_kwh]
        self._period = period_s
        steps = (b - a for a, b in pairwise(self._starts))
        self._sums = [0.0, *accumulate(v * d for v, d in zip(self._values, steps, strict=False))]
        self._period_sum = 0.0 if period_s is None else self._within(period_s)

    @classmethod
    def constant(cls, g_per_kwh: float) -> CarbonIntensity:
        """Return an intensity that never changes."""
        return cls([0.0], [g_per_kwh])

    @classmethod
    def unknown(cls) -> CarbonIntensity:
        """Return an intensity that nobody has told: what is made of it is NaN, not 0."""
        return cls.constant(nan)

    @property
    def is_constant(self) -> bool:
        """True if there is only one value."""
        return len(self._values) == 1

    def at(self, time_s: float) -> float:
        """Intensity at a time, in g/kWh."""
        offset = time_s - self._origin
        if self._period is not None:
            offset %= self._period
        return self._values[max(0, bisect_right(self._starts, offset) - 1)]

    def integral(self, start_s: float, end_s: float) -> float:
        """Integral of the intensity from ``start_s`` to ``end_s``, in g/kWh times seconds.

        A constant power of P watts over that time emits ``P * integral / 3.6e6`` grams.
        """
        return self._primitive(end_s) - self._primitive(start_s)

    def _primitive(self, time_s: float) -> float:
        offset = time_s - self._origin
        if self._period is None:
            return self._within(offset)
        cycles, rest = divmod(offset, self._period)
        return cycles * self._period_sum + self._within(rest)

    def _within(self, offset: float) -> float:
        i = max(0, bisect_right(self._starts, offset) - 1)
        return self._sums[i] + self._values[i] * (offset - self._starts[i])
