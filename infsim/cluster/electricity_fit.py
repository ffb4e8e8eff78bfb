"""Fit profiles of electricity to hourly values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from infsim.cluster.electricity_profile import (
    DAY_HARMONICS,
    LEVELS,
    TERMS,
    ElectricityProfile,
    ElectricityYear,
    Floats,
    autocovariance,
    hours_of,
    pattern_terms,
)
from infsim.errors import InputError

MEMORIES_H = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
"""Memories of the terms that noise may have; those with a wave have one of a week at most."""
_PERIODS_H = (0, 24, 12, 8)
_WEEK_H = 168
LONGEST_LAG_H = 21 * 24
_SMALLEST_SHARE = 0.003
_DAMPING = 0.5
_SEEDS = 6
_ROUNDS = 12
_COMPARED_LAGS_H = (1, 3, 6, 12, 24, 48, 168)


def fit_electricity(
    years: Mapping[int, Sequence[float] | Floats],
    unit: str,
    source: Mapping[str, Any] | None = None,
) -> ElectricityProfile:
    """Fit a profile to whole years.

    Parameters
    ----------
    years : mapping of int to sequence of float
        Values of each hour of each year (UTC).
    unit : str
        Of the values.
    source : mapping, optional
        Where they come from.

    Raises
    ------
    InputError
        If a year does not have all of its hours, or a value is not finite.
    """
    values = {year: np.asarray(hours, float) for year, hours in years.items()}
    for year, hours in values.items():
        if len(hours) != hours_of(year):
            raise InputError(f"{year} has {hours_of(year)} hours, got {len(hours)} values")
        if not np.isfinite(hours).all():
            raise InputError(f"the values of {year} must be finite")
    fitted = {year: fit_year(year, hours) for year, hours in values.items()}
    errors: Mapping[int, Any] = {
        year: compare_year(fitted[year], year, hours) for year, hours in values.items()
    }
    return ElectricityProfile(unit, fitted, source or {}, errors)


def fit_year(year: int, values: Floats) -> ElectricityYear:
    """Fit one year.

    Pattern and noise are fitted to the normal scores of the values, and then changed step by step
    until series made from them come as near as they get, in the unit of the values: the scores
    differ from hour to hour as those of the real year do, but values may lie closer at one end of
    their range than at the other.
    """
    from scipy.special import ndtri

    ranks = np.argsort(np.argsort(values, kind="stable"), kind="stable")
    scores = ndtri((ranks + 0.5) / len(values))
    terms = pattern_terms(year)
    pattern, *_ = np.linalg.lstsq(terms, scores, rcond=None)
    rest = scores - terms @ pattern
    variance = float(rest.var())
    drops = 1.0 - autocorrelation(rest, LONGEST_LAG_H)
    real = Looks.of(values)
    quantiles = np.quantile(values, LEVELS).tolist()
    tried: list[tuple[float, ElectricityYear]] = []
    for _ in range(_ROUNDS):
        candidate = ElectricityYear(quantiles, pattern.tolist(), _noise(drops, variance))
        made = _looks_made(candidate, year, range(_SEEDS))
        tried.append((made.distance(real), candidate))
        drops = np.clip(drops * made.change_of_drops(real), 0.0, 2.0)
        pattern = pattern + _change_of_pattern(real.day - made.day, real.sd)
    return min(tried, key=lambda found: found[0])[1]


def compare_year(part: ElectricityYear, year: int, values: Floats) -> dict[str, list[float]]:
    """Return figures of the real year and of made ones (mean over 20 seeds), in pairs.

    Mean, standard deviation, swing of the mean day, mean range of a day, autocorrelation at lags
    of 1, 24 and 168 hours, and the share of negative hours.
    """
    real = Looks.of(np.asarray(values, float)).figures()
    made = _looks_made(part, year, range(1000, 1020)).figures()
    return {name: [round(float(figure), 4) for figure in (real[name], made[name])] for name in real}


@dataclass(frozen=True)
class Looks:
    """What series are compared by.

    Attributes
    ----------
    mean, sd, negative : float
        ``negative``: share of the values below 0.
    day : array (24,)
        Mean of each hour of the day (UTC).
    swing, day_range : float
        Range of the mean day, and mean of the ranges of the days.
    drops : array (lags,)
        1 - autocorrelation, at lags from 0 hours on.
    """

    mean: float
    sd: float
    negative: float
    day: Floats
    swing: float
    day_range: float
    drops: Floats

    @classmethod
    def of(cls, values: Floats) -> Looks:
        """Return the looks of hourly values of whole days."""
        days = values.reshape(-1, 24)
        day = days.mean(axis=0)
        return cls(
            float(values.mean()),
            float(values.std()),
            float((values < 0).mean()),
            day,
            float(np.ptp(day)),
            float(np.ptp(days, axis=1).mean()),
            1.0 - autocorrelation(values, LONGEST_LAG_H),
        )

    def distance(self, other: Looks) -> float:
        """Return how far two series are apart: mean square of the relative differences."""
        pairs = [(self.drops[lag], other.drops[lag]) for lag in _COMPARED_LAGS_H]
        pairs += [(self.swing, other.swing), (self.day_range, other.day_range)]
        return float(np.mean([np.log(max(a, 1e-6) / max(b, 1e-6)) ** 2 for a, b in pairs]))

    def change_of_drops(self, real: Looks) -> Floats:
        """Return factors that bring the autocorrelation of made series nearer to the real one."""
        ratio = np.ones(len(self.drops))
        ratio[1:] = np.maximum(real.drops[1:], 1e-6) / np.maximum(self.drops[1:], 1e-6)
        return np.asarray(np.clip(ratio, 0.5, 2.0) ** _DAMPING)

    def figures(self) -> dict[str, float]:
        """Return the figures by name."""
        correlations = {
            f"autocorrelation_{lag}h": 1 - float(self.drops[lag]) for lag in (1, 24, 168)
        }
        return {
            "mean": self.mean,
            "sd": self.sd,
            "day_swing": self.swing,
            "day_range": self.day_range,
            **correlations,
            "negative": self.negative,
        }


def autocorrelation(values: Floats, longest_lag: int) -> Floats:
    """Return the autocorrelation at lags from 0 to the longest, shape (longest_lag + 1,).

    1 and then 0 for a constant.
    """
    count = len(values)
    longest_lag = min(longest_lag, count - 1)
    spectrum = np.abs(np.fft.rfft(values - values.mean(), 2 * count)) ** 2
    covariance = np.fft.irfft(spectrum)[: longest_lag + 1] / (count - np.arange(longest_lag + 1))
    if not covariance[0] > 0:
        return np.eye(1, longest_lag + 1).ravel()
    return np.asarray(covariance / covariance[0])


def _looks_made(part: ElectricityYear, year: int, seeds: range) -> Looks:
    """Return the mean looks of series that are made with some seeds."""
    looks = [Looks.of(part.values(year, np.random.default_rng(seed))) for seed in seeds]
    return Looks(
        **{
            field.name: np.mean([getattr(one, field.name) for one in looks], axis=0)
            for field in fields(Looks)
        }
    )


def _noise(drops: Floats, variance: float) -> list[list[float]]:
    """Return the terms of noise whose autocorrelation falls as told."""
    from scipy.optimize import nnls

    lags = np.arange(len(drops), dtype=float)
    weights = 1 / np.sqrt(1 + lags / 3)  # short lags are what a run of some hours sees
    kinds = [
        (period, memory)
        for period in _PERIODS_H
        for memory in MEMORIES_H
        if not period or memory <= _WEEK_H
    ]
    shapes = [autocovariance([(period, memory, 1.0)], lags) for period, memory in kinds]
    shares, _ = nnls(np.array(shapes).T * weights[:, None], (1 - drops) * weights)
    return [
        [float(period), float(memory), float(share * variance)]
        for (period, memory), share in zip(kinds, shares, strict=True)
        if share >= _SMALLEST_SHARE
    ]


def _change_of_pattern(missing: Floats, sd: float) -> Floats:
    """Return what the coefficients of the mean day lack, damped."""
    change = np.zeros(TERMS)
    if sd > 0:
        # the first terms of the pattern are a constant, and the harmonics of the day
        of_day = pattern_terms(2021)[:24, : 1 + 2 * DAY_HARMONICS]
        change[: of_day.shape[1]], *_ = np.linalg.lstsq(of_day, missing / sd, rcond=None)
        change[0] = 0.0
    return _DAMPING * change
