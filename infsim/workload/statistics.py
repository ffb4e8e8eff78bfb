"""What a trace looks like to a queue: dispersion, waits, distances between traces."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from infsim.errors import InputError
from infsim.workload.requests import Requests

Floats = NDArray[np.float64]

PREFILL_WEIGHT = 0.02
"""Work of a prompt token, in units of the work of an output token (`service`)."""


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
