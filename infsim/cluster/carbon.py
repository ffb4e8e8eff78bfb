"""Carbon intensity of electricity over time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from infsim.cluster.series import StepSeries
from infsim.errors import InputError


class CarbonIntensity(StepSeries):
    """Grams of CO2e per kWh as a step function of time, never negative.

    Parameters and errors are those of `StepSeries`.

    Examples
    --------
    >>> day = CarbonIntensity([0, 3600], [40, 60], period_s=7200)
    >>> day.at(5000), day.integral(0, 7200), day.integral(0, 14400)
    (60.0, 360000.0, 720000.0)
    """

    quantity: ClassVar[str] = "carbon intensity"

    def __init__(
        self,
        starts_s: Sequence[float],
        values_g_per_kwh: Sequence[float],
        period_s: float | None = None,
    ) -> None:
        for value in values_g_per_kwh:
            if value < 0:
                raise InputError(f"carbon intensity must not be negative, got {value!r} g/kWh")
        super().__init__(starts_s, values_g_per_kwh, period_s)
