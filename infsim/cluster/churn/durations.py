"""Distributions fitted to durations of which some were cut off."""

from __future__ import annotations

from dataclasses import dataclass
from math import exp, log, nan, pi, sqrt

import numpy as np
from numpy.typing import NDArray

from infsim.cluster.availability import Duration, Exponential, Lognormal, Weibull
from infsim.cluster.churn.statistics import Durations
from infsim.errors import InputError

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class DurationFit:
    """A distribution with what speaks for it.

    Attributes
    ----------
    family : str
        ``exponential``, ``weibull`` or ``lognormal``.
    distribution : Duration
    log_likelihood, aic : float
    ks : float
        Largest distance between the distribution and the Kaplan-Meier curve.
    """

    family: str
    distribution: Duration
    log_likelihood: float
    aic: float
    ks: float


def fit_durations(durations: Durations) -> tuple[DurationFit, ...]:
    """Fit each family by maximum likelihood; best AIC first.

    Of the durations that began in sight, those that went on after the end count as censored on
    the right. Those that had begun before say nothing that is not biased.

    Raises
    ------
    InputError
        If fewer than two durations were seen to their end, or all of these are equal.
    """
    ended = durations.complete_s
    if len(ended) < 2 or np.ptp(ended) == 0:
        raise InputError(
            f"{len(ended)} complete durations"
            + (", all equal" if len(ended) > 1 else "")
            + ": at least two that differ are needed to fit a distribution"
        )
    found = [_exponential(durations), _weibull(durations), _lognormal(durations)]
    return tuple(sorted(found, key=lambda fit: fit.aic))


def _exponential(durations: Durations) -> DurationFit:
    seen_s, ended = durations.fresh()
    mean = float(seen_s.sum()) / int(ended.sum())
    likelihood = -int(ended.sum()) * (log(mean) + 1)
    return _judged("exponential", Exponential(mean), likelihood, 1, durations)


def _weibull(durations: Durations) -> DurationFit:
    """Solve the equation of the shape; the scale follows from it."""
    from scipy.optimize import brentq

    seen_s, _ = durations.fresh()
    scale = float(seen_s.max())
    x, ended = seen_s / scale, durations.complete_s / scale
    logs, mean_log = np.log(x), float(np.log(ended).mean())

    def slope(shape: float) -> float:
        powers = x**shape
        return float((powers * logs).sum() / powers.sum()) - 1 / shape - mean_log

    shape = float(brentq(slope, 0.05, 100.0)) if slope(0.05) < 0 < slope(100.0) else 0.05
    power = float((x**shape).sum()) / len(ended)
    unit = power ** (1 / shape)
    likelihood = len(ended) * (log(shape) - shape * log(unit) + (shape - 1) * mean_log - 1)
    likelihood -= len(ended) * log(scale)
    return _judged("weibull", Weibull(shape, unit * scale), likelihood, 2, durations)


def _lognormal(durations: Durations) -> DurationFit:
    """Expectation-maximisation: what is censored is replaced by its conditional moments."""
    from scipy.special import log_ndtr

    seen_s, ended_in_sight = durations.fresh()
    logs, cut = np.log(seen_s), ~ended_in_sight
    mu, sigma = float(logs.mean()), float(logs[~cut].std())
    for _ in range(500):
        z = (logs[cut] - mu) / sigma
        hazard = np.exp(-z * z / 2 - log_ndtr(-z)) / sqrt(2 * pi)
        first = logs.copy()
        first[cut] = mu + sigma * hazard
        variance = np.zeros_like(logs)
        variance[cut] = np.maximum(sigma**2 * (1 + z * hazard - hazard**2), 0.0)
        new_mu = float(first.mean())
        new_sigma = sqrt(float(((first - new_mu) ** 2 + variance).mean()))
        near = abs(new_mu - mu) + abs(new_sigma - sigma) < 1e-9 * new_sigma
        mu, sigma = new_mu, new_sigma
        if near:
            break
    ended = logs[~cut]
    densities = -((ended - mu) ** 2) / (2 * sigma**2) - log(sigma * sqrt(2 * pi)) - ended
    likelihood = float(densities.sum() + log_ndtr(-(logs[cut] - mu) / sigma).sum())
    return _judged("lognormal", Lognormal(mu, sigma), likelihood, 2, durations)


def _judged(
    family: str, distribution: Duration, likelihood: float, parameters: int, data: Durations
) -> DurationFit:
    aic = 2 * parameters - 2 * likelihood
    return DurationFit(family, distribution, likelihood, aic, _distance(distribution, data))


def _distance(distribution: Duration, data: Durations) -> float:
    """Return the largest distance of the survival functions, where Kaplan and Meier's is known."""
    times, survival = data.survival()
    if not len(times):
        return nan
    before = np.concatenate([[1.0], survival[:-1]])
    ours = np.array([_survival(distribution, float(t)) for t in times])
    return float(np.maximum(np.abs(ours - survival), np.abs(ours - before)).max())


def _survival(distribution: Duration, time_s: float) -> float:
    from scipy.special import ndtr

    if isinstance(distribution, Exponential):
        return exp(-time_s / distribution.mean)
    if isinstance(distribution, Weibull):
        return exp(-((time_s / distribution.scale_s) ** distribution.shape))
    if isinstance(distribution, Lognormal):
        return float(ndtr(-(log(time_s) - distribution.mu) / distribution.sigma))
    raise InputError(f"no survival function of {distribution!r}")
