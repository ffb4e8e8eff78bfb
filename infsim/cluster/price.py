"""Price of electricity over time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from infsim.cluster.series import StepSeries


class ElectricityPrice(StepSeries):
    """Price per kWh, in a currency of the scenario's choice, as a step function of time.

    It may be negative: at times the market pays for taking electricity. Parameters and errors
    are those of `StepSeries`, but for the currency.

    Attributes
    ----------
    currency : str
        As in ``EUR``; empty if nobody told.

    Examples
    --------
    >>> day = ElectricityPrice([0, 3600], [0.25, -0.05], period_s=7200)
    >>> day.at(5000), day.integral(0, 7200) / 7200
    (-0.05, 0.1)
    """

    quantity: ClassVar[str] = "price of electricity"

    def __init__(
        self,
        starts_s: Sequence[float],
        values_per_kwh: Sequence[float],
        period_s: float | None = None,
        currency: str = "",
    ) -> None:
        super().__init__(starts_s, values_per_kwh, period_s)
        self.currency = currency
