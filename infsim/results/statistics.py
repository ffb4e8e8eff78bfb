"""Confidence intervals, paired differences and the warm-up cut.

Student's t comes from `scipy.special`, which starts four times as fast as `scipy.stats`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean with its confidence interval.

    Attributes
    ----------
    value : float
        NaN if nothing was observed.
    low, high : float
        Ends of the interval; NaN if one cannot be had (fewer than two observations).
    """

    value: float
    low: float = math.nan
    high: float = math.nan

    @property
    def half_width(self) -> float:
        """Half the length of the interval."""
        return (self.high - self.low) / 2


@dataclass(frozen=True, slots=True)
class Difference:
    """A paired difference: second minus first.

    Attributes
    ----------
    estimate : Estimate
        Mean difference and its (unadjusted) confidence interval.
    p_value : float
        Two-sided, of no difference; 1 if it cannot be told.
    """

    estimate: Estimate
    p_value: float


@dataclass(frozen=True, slots=True)
class Truncation:
    """Where the warm-up of a series ends.

    Attributes
    ----------
    index : int
        First observation to keep.
    reliable : bool
        False if the best cut lies at the last one allowed (half of the series): the run is too
        short to tell.
    """

    index: int
    reliable: bool


def t_interval(values: ArrayLike, confidence: float = 0.95) -> Estimate:
    """Return the mean of independent observations with its Student t interval.

    Parameters
    ----------
    values : (n,)
        One value per replication. A NaN among them makes the whole estimate NaN: a quantity
        that a replication did not have has no mean over the replications.
    confidence : float
        Coverage if the values are normal.
    """
    data = np.asarray(values, dtype=np.float64)
    if len(data) == 0:
        return Estimate(math.nan)
    # The clip keeps a mean of equal values equal to them, whatever the rounding of the sum.
    mean = float(np.clip(data.mean(), data.min(), data.max()))
    if len(data) < 2:
        return Estimate(mean)
    return _around(mean, float(data.std(ddof=1)), len(data), confidence)


def _around(mean: float, deviation: float, n: int, confidence: float) -> Estimate:
    from scipy.special import stdtrit

    half = float(stdtrit(n - 1, 0.5 + confidence / 2)) * deviation / math.sqrt(n)
    return Estimate(mean, mean - half, mean + half)


def batch_interval(overall: float, batches: ArrayLike, confidence: float = 0.95) -> Estimate:
    """Return a figure of one long run with an interval from its consecutive batches.

    The method of batch means (Schmeiser, "Batch size effects in the analysis of simulation
    output", Operations Research 30, 1982, who finds 10 to 30 batches to be enough): batches that
    are long against the memory of the system are nearly independent, so their spread tells that
    of the whole.

    Parameters
    ----------
    overall : float
        The figure over the whole run, centre of the interval.
    batches : (b,)
        The same figure over each batch; any NaN, or fewer than two, and there is no interval.
    """
    data = np.asarray(batches, dtype=np.float64)
    if len(data) < 2 or not np.isfinite(data).all():
        return Estimate(overall)
    return _around(overall, float(data.std(ddof=1)), len(data), confidence)


def paired_difference(first: ArrayLike, second: ArrayLike, confidence: float = 0.95) -> Difference:
    """Compare two alternatives that saw the same random numbers, replication by replication.

    Common random numbers make the two vary together, so that the differences vary less than
    either (Law, "Simulation Modeling and Analysis", 5th ed., section 10.2.1: the paired-t
    interval). Raises ValueError if the lengths differ.
    """
    one, two = (np.asarray(values, dtype=np.float64) for values in (first, second))
    if one.shape != two.shape:
        raise ValueError(f"pairs need equal numbers of values, not {one.shape} and {two.shape}")
    differences = two - one
    rounding = 1e-12 * float(np.max(np.abs([one, two]), initial=0.0))
    return Difference(t_interval(differences, confidence), _p_value(differences, rounding))


def _p_value(differences: Floats, rounding: float) -> float:
    """Two-sided p of Student's t for a mean of zero; what is below ``rounding`` is zero."""
    from scipy.special import stdtr

    n = len(differences)
    if n < 2 or not np.isfinite(differences).all():
        return 1.0
    mean, deviation = float(differences.mean()), float(differences.std(ddof=1))
    if abs(mean) <= rounding:
        return 1.0
    if deviation <= rounding:
        return 0.0  # the same difference each time: there is no noise to exceed
    return float(2 * stdtr(n - 1, -abs(mean) / (deviation / math.sqrt(n))))


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p-values for several comparisons (Holm's step-down method).

    Keeps the chance of even one false mark in the whole family below the level, under any
    dependence, and is never weaker than Bonferroni's correction (Holm, "A simple sequentially
    rejective multiple test procedure", Scandinavian Journal of Statistics 6, 1979).
    """
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted = [1.0] * len(p_values)
    largest = 0.0
    for rank, i in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = largest
    return adjusted


def mser(values: ArrayLike, batch: int = 5) -> Truncation:
    """Find the end of the warm-up by the marginal standard error rule, MSER-5 by default.

    Averages ``batch`` observations each and cuts where the standard error of the mean of what is
    left is smallest; at most half is cut (White, "An effective truncation heuristic for bias
    reduction in simulation output", Simulation 69, 1997; White, Cobb & Spratt, WSC 2000).

    Parameters
    ----------
    values : (n,)
        A series in order of time.
    """
    data = np.asarray(values, dtype=np.float64)
    count = len(data) // batch
    if count < 4:
        return Truncation(0, reliable=False)
    means = data[: count * batch].reshape(count, batch).mean(axis=1)
    centred = means - means.mean()  # keeps the difference of squares below accurate
    left = np.arange(count, 0, -1)
    total = np.cumsum(centred[::-1])[::-1]
    squares = np.cumsum(np.square(centred)[::-1])[::-1]
    statistic = (squares - total**2 / left) / left.astype(np.float64) ** 2
    last = count // 2
    cut = int(np.argmin(statistic[: last + 1]))
    return Truncation(cut * batch, reliable=cut < last)
