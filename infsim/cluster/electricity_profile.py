"""Profiles of electricity: series like the real ones of a zone, made from a few hundred numbers.

A year of hourly values is told by its *quantiles* and by the order in which they come. The order is
that of a score: a *pattern* (harmonics of the day, each changing with harmonics of the year, and a
weekend) plus *noise*, a stationary Gaussian process whose autocorrelation is a sum of decaying
terms, some of them waves with the period of a day. So each made year has the quantiles of the real
one, and its shares of negative or very high hours; the rest differs from seed to seed.

The idea of a Gaussian process under a transformed marginal is that of Cario and Nelson,
"Autoregressive to anything", Operations Research Letters 19 (1996).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infsim.errors import InputError, Where, did_you_mean

Floats = NDArray[np.float64]

KIND = "electricity-profile"
VERSION = 1
HOUR_S = 3600.0

LEVELS = (
    *(0, 0.0003, 0.001, 0.003, 0.01, 0.02, 0.03, 0.04),
    *(round(0.05 * i, 2) for i in range(1, 20)),
    *(0.975, 0.99, 0.997, 0.999, 0.9997, 1),
)
"""Levels of the quantiles of a year."""

YEAR_HARMONICS, DAY_HARMONICS, WEEKEND_HARMONICS = 2, 4, 2


@dataclass(frozen=True)
class ElectricityYear:
    """One year of a zone.

    Attributes
    ----------
    quantiles : sequence of float
        Values at `LEVELS`.
    pattern : sequence of float
        Coefficients of `pattern_terms`.
    noise : sequence of (float, float, float)
        Terms of the autocovariance: period in hours (0: no wave), memory in hours, variance.
    """

    quantiles: Sequence[float]
    pattern: Sequence[float]
    noise: Sequence[Sequence[float]]

    def __post_init__(self) -> None:
        if len(self.quantiles) != len(LEVELS):
            raise InputError(f"{len(self.quantiles)} quantiles instead of {len(LEVELS)}")
        for low, high in zip(self.quantiles, self.quantiles[1:], strict=False):
            if not low <= high:
                raise InputError(f"quantiles must not fall: {high!r} after {low!r}")
        if len(self.pattern) != TERMS:
            raise InputError(f"{len(self.pattern)} coefficients of the pattern instead of {TERMS}")
        for term in self.noise:
            if len(term) != 3 or term[0] < 0 or term[1] <= 0 or term[2] < 0:
                raise InputError(f"{list(term)} is no period, memory and variance")

    def values(self, year: int, generator: np.random.Generator) -> Floats:
        """Return values for each hour of a calendar year (UTC), shape (hours of the year,)."""
        hours = hours_of(year)
        score = pattern_terms(year) @ np.asarray(self.pattern, float)
        if self.noise:
            score = score + noise(self.noise, hours, generator)
        return in_order(score, self.quantiles)


@dataclass(frozen=True)
class ElectricityProfile:
    """Carbon intensity or price of a zone, year by year.

    Attributes
    ----------
    unit : str
        Of the values, as in ``g/kWh`` or ``EUR/MWh``.
    years : mapping of int to ElectricityYear
    source : mapping
        Where the data come from: name, url, licence, …
    errors : mapping
        How far made series are from the real ones, by year.
    """

    unit: str
    years: Mapping[int, ElectricityYear]
    source: Mapping[str, Any] = field(default_factory=dict)
    errors: Mapping[Any, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.years:
            raise InputError("a profile of electricity needs at least one year")

    def year(self, year: int | None) -> int:
        """Return a year that is known: the last one by default.

        Raises InputError if it is not.
        """
        known = sorted(self.years)
        if year is None:
            return known[-1]
        if year not in self.years:
            raise InputError(f"the profile does not know {year}, but {', '.join(map(str, known))}")
        return year

    def steps(
        self, year: int | None, start: datetime | None, generator: np.random.Generator
    ) -> tuple[list[float], list[float], float]:
        """Make one year, and let it come round.

        Parameters
        ----------
        year : int or None
            Whose quantiles and patterns; the last one that is known by default.
        start : datetime, optional
            Moment at second 0, UTC if it has no offset; its year does not matter. The beginning
            of the year by default.
        generator : numpy.random.Generator
            The same one makes the same year, wherever it starts.

        Returns
        -------
        starts_s, values : list of float
            Of the hours of the year, the first one at or before second 0; in `unit`.
        period_s : float
            Length of the year.
        """
        year = self.year(year)
        values = self.years[year].values(year, generator)
        offset_s = 0.0 if start is None else _since_new_year_s(start)
        offset_s %= HOUR_S * len(values)
        starts = np.arange(len(values)) * HOUR_S - offset_s
        return starts.tolist(), values.tolist(), HOUR_S * len(values)


# --- the model ------------------------------------------------------------------------------


def hours_of(year: int) -> int:
    """Return the number of hours of a year."""
    start, end = (datetime(y, 1, 1, tzinfo=UTC) for y in (year, year + 1))
    return int((end - start).total_seconds() // HOUR_S)


def pattern_terms(year: int) -> Floats:
    """Return the terms of the pattern for each hour of a year, shape (hours, terms).

    Products of the harmonics of the year and of the day (with constants), then those of the day
    again on Saturdays and Sundays (UTC).
    """
    hours = np.arange(hours_of(year))
    of_year = _harmonics(hours / len(hours), YEAR_HARMONICS)
    of_day = _harmonics(hours / 24, DAY_HARMONICS)
    first = datetime(year, 1, 1, tzinfo=UTC).weekday()
    weekend = (hours // 24 + first) % 7 >= 5
    terms = [a * b for a in of_year for b in of_day]
    terms += [weekend * b for b in of_day[: 1 + 2 * WEEKEND_HARMONICS]]
    return np.array(terms, float).T


TERMS = (1 + 2 * YEAR_HARMONICS) * (1 + 2 * DAY_HARMONICS) + 1 + 2 * WEEKEND_HARMONICS


def _harmonics(cycles: Floats, count: int) -> list[Floats]:
    terms = [np.ones_like(cycles)]
    for k in range(1, count + 1):
        terms += [np.cos(2 * np.pi * k * cycles), np.sin(2 * np.pi * k * cycles)]
    return terms


def autocovariance(terms: Sequence[Sequence[float]], lags_h: Floats) -> Floats:
    """Return the autocovariance of the noise at some lags in hours, shape (lags,).

    Each term is that of noise filtered twice by the same exponential memory, which makes it smooth
    from hour to hour, times a wave if it has a period.
    """
    total = np.zeros(len(lags_h))
    for period_h, memory_h, variance in terms:
        kept = np.exp(-1.0 / memory_h)
        smooth = (1 + lags_h * (1 - kept**2) / (1 + kept**2)) * kept**lags_h
        wave = np.cos(2 * np.pi * lags_h / period_h) if period_h else 1.0
        total += variance * smooth * wave
    return total


def noise(terms: Sequence[Sequence[float]], hours: int, generator: np.random.Generator) -> Floats:
    """Return noise that ends as it began, shape (hours,), by way of its spectrum."""
    indices = np.arange(hours, dtype=float)
    covariance = autocovariance(terms, np.minimum(indices, hours - indices))
    spectrum = np.clip(np.fft.rfft(covariance).real, 0.0, None)
    white = np.fft.rfft(generator.standard_normal(hours))
    return np.asarray(np.fft.irfft(white * np.sqrt(spectrum), hours))


def in_order(score: Floats, quantiles: Sequence[float]) -> Floats:
    """Return values with these quantiles at `LEVELS`, in the order of a score."""
    ranks = np.empty(len(score))
    ranks[np.argsort(score, kind="stable")] = np.arange(len(score)) + 0.5
    return np.asarray(np.interp(ranks / len(score), LEVELS, quantiles))


def _since_new_year_s(moment: datetime) -> float:
    utc = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    return (utc - datetime(utc.year, 1, 1, tzinfo=UTC)).total_seconds()


# --- files ----------------------------------------------------------------------------------


def load_electricity(path: Path) -> ElectricityProfile:
    """Read a profile.

    Raises
    ------
    InputError
        With the file, if it is absent, not YAML, or not a profile.
    """
    import yaml

    where = Where(str(path))
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"cannot read the profile: {error}", where=where) from None
    if not isinstance(data, dict) or data.get("kind") != KIND:
        raise InputError(f"not a profile of electricity: 'kind: {KIND}' is missing", where=where)
    if data.get("version") != VERSION:
        raise InputError(f"version is {data.get('version')!r}, known is {VERSION}", where=where)
    known = ("kind", "version", "unit", "source", "errors", "years")
    for key in data:
        if key not in known:
            raise InputError(f"unknown entry {key!r}{did_you_mean(str(key), known)}", where=where)
    try:
        years = {int(year): _year(part) for year, part in dict(data.get("years") or {}).items()}
        return ElectricityProfile(
            str(data.get("unit", "")), years, data.get("source") or {}, data.get("errors") or {}
        )
    except InputError as error:
        raise (error if error.where else error.at(where)) from None
    except (TypeError, ValueError) as error:
        raise InputError(f"damaged profile: {error}", where=where) from None


def _year(part: Mapping[str, Any]) -> ElectricityYear:
    names = ("quantiles", "pattern", "noise")
    if not isinstance(part, Mapping) or sorted(part) != sorted(names):
        raise InputError(f"a year has {', '.join(names)}, and nothing else")
    return ElectricityYear(
        [float(value) for value in part["quantiles"]],
        [float(value) for value in part["pattern"]],
        [[float(value) for value in term] for term in part["noise"]],
    )


def save_electricity(profile: ElectricityProfile, path: Path) -> None:
    """Write a profile; numbers keep four digits."""
    import yaml

    head = {"kind": KIND, "version": VERSION, "unit": profile.unit, "source": dict(profile.source)}
    years = {
        year: {
            "quantiles": _short(part.quantiles),
            "pattern": _short(part.pattern),
            "noise": [_short(term) for term in part.noise],
        }
        for year, part in sorted(profile.years.items())
    }
    parts = ((head, False), ({"errors": dict(profile.errors)}, None), ({"years": years}, None))
    text = "".join(
        yaml.safe_dump(part, sort_keys=False, default_flow_style=flow, width=100)
        for part, flow in parts
    )
    path.write_text(text, encoding="utf-8")


def _short(values: Sequence[float]) -> list[float]:
    rounded = [float(f"{value:.4g}") for value in values]
    return [int(value) if value.is_integer() else value for value in rounded]
