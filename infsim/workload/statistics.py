"""What a trace looks like to a queue: dispersion, waits, distances between traces."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from infsim.errors import InputError
from infsim.workload.requests import Requests

Floats = NDArray[np.float64]

PREFILL_WEIGHT = 0.02
"""Work of a prompt token, in units of the work of an output token (`service`)."""

SCALES_S = (1, 10, 60, 300)
"""Windows of the index of dispersion in `describe`."""


class Wait(NamedTuple):
    """Waiting time in a queue, in units of the mean service time."""

    mean: float
    p95: float
    p99: float


def dispersion(arrival_s: Floats, window_s: float) -> float:
    """Return the index of dispersion of counts: their variance over their mean.

    Parameters
    ----------
    arrival_s : float64 (n,)
        Sorted arrival times.
    window_s : float
        Window of the counts; the last, incomplete one is left out. 1 for a Poisson process.

    Returns
    -------
    float
        NaN if there are fewer than two windows.
    """
    windows = int((arrival_s[-1] - arrival_s[0]) / window_s) if len(arrival_s) else 0
    if windows < 2:
        return math.nan
    index = ((arrival_s - arrival_s[0]) / window_s).astype(np.int64)
    counts = np.bincount(index, minlength=windows)[:windows]
    return float(counts.var(ddof=1) / counts.mean())


def service(requests: Requests) -> Floats:
    """Return the work of each request: output tokens plus a small part of the prompt's."""
    return requests.output_tokens + PREFILL_WEIGHT * requests.input_tokens


def queue_wait(arrival_s: Floats, work: Floats, load: float = 0.8) -> Wait:
    """Return the waits of a G/G/1 queue that serves in order of arrival.

    Parameters
    ----------
    arrival_s, work : float64 (n,)
        Arrival times, and work of each request in any unit; the speed of the server
        follows from the load.
    load : float
        Work that arrives per work that could be served, over the time of the trace.

    Notes
    -----
    Lindley's recursion ``W[n+1] = max(0, W[n] + S[n] - A[n])``, solved by the running minimum of
    the unreflected walk.
    """
    if len(arrival_s) < 2 or not arrival_s[-1] > arrival_s[0]:
        raise InputError("a queue needs requests at two times at least")
    mean_s = load * (arrival_s[-1] - arrival_s[0]) / len(arrival_s)
    service_s = work / work.mean() * mean_s
    walk = np.concatenate([np.zeros(1), np.cumsum(service_s[:-1] - np.diff(arrival_s))])
    wait = (walk - np.minimum.accumulate(walk)) / mean_s
    p95, p99 = np.percentile(wait, (95, 99))
    return Wait(float(wait.mean()), float(p95), float(p99))


def ks_distance(a: NDArray[np.generic], b: NDArray[np.generic]) -> float:
    """Return the two-sample Kolmogorov-Smirnov statistic: the largest distance of the CDFs."""
    a, b = np.sort(a), np.sort(b)
    at = np.concatenate([a, b])
    above = np.searchsorted(a, at, side="right") / len(a)
    below = np.searchsorted(b, at, side="right") / len(b)
    return float(np.abs(above - below).max())


def autocorrelation(values: NDArray[Any], lags: Sequence[int]) -> list[float]:
    """Return the correlation of a series with itself, shifted by each of the lags.

    Parameters
    ----------
    values : (n,)
        For example lengths in order of arrival, or counts of windows.
    lags : sequence of int
        Each above 0; NaN is returned for those of n and more.
    """
    centred = values - values.mean()
    variance = float(centred @ centred)
    return [
        float(centred[:-lag] @ centred[lag:]) / variance if lag < len(values) else math.nan
        for lag in lags
    ]


def rank_correlation(a: NDArray[Any], b: NDArray[Any]) -> float:
    """Return Spearman's rank correlation; equal values share the mean of their ranks.

    NaN if one of the two is constant.
    """
    x, y = _ranks(a), _ranks(b)
    spread = math.sqrt(float(x @ x) * float(y @ y))
    return float(x @ y) / spread if spread else math.nan


def describe(requests: Requests) -> dict[str, float]:
    """Return what a trace looks like, by name.

    The number of requests, their mean rate and the CV of their gaps; the index of dispersion in
    windows of 1 to 300 s; quantiles and mean of the lengths, and their rank correlation; waits in
    a G/G/1 queue at load 0.8 (`queue_wait` of `service`).

    Raises
    ------
    InputError
        If all requests arrive at once.
    """
    wait = queue_wait(requests.arrival_s, service(requests))
    gaps = np.diff(requests.arrival_s)
    return {
        "requests": float(len(requests)),
        "rate per s": float(1 / gaps.mean()),
        "gap CV": float(gaps.std() / gaps.mean()),
        **{f"dispersion {scale} s": dispersion(requests.arrival_s, scale) for scale in SCALES_S},
        **{
            f"{name} {statistic}": value
            for name, tokens in zip(
                ("input_tokens", "output_tokens"), _lengths(requests), strict=True
            )
            for statistic, value in _moments(tokens).items()
        },
        "rank correlation": rank_correlation(*_lengths(requests)),
        "wait mean": wait.mean,
        "wait p95": wait.p95,
        "wait p99": wait.p99,
    }


def _lengths(requests: Requests) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    return requests.input_tokens, requests.output_tokens


def _ranks(values: NDArray[Any]) -> Floats:
    """Return the ranks, less their mean."""
    _, index, count = np.unique(values, return_inverse=True, return_counts=True)
    rank = np.cumsum(count) - (count + 1) / 2
    ranks: Floats = rank[index] - (len(values) - 1) / 2
    return ranks


def _moments(tokens: NDArray[np.int64]) -> dict[str, float]:
    p50, p95, p99 = np.percentile(tokens, (50, 95, 99))
    return {"mean": float(tokens.mean()), "p50": float(p50), "p95": float(p95), "p99": float(p99)}
