"""Kolmogorov-Smirnov distances between traces, and what of them is noise."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from infsim.workload.requests import Requests
from infsim.workload.statistics import ks_distance

Values = NDArray[np.generic]

RESAMPLES = 20
"""Pairs of bootstraps that the distance of a trace from itself is the mean of."""

COMPARED: dict[str, Callable[[Requests], Values]] = {
    "input_tokens": lambda requests: requests.input_tokens,
    "output_tokens": lambda requests: requests.output_tokens,
    "gaps": lambda requests: np.diff(requests.arrival_s),
}
"""What is compared, in order of arrival."""


def distances(real: Requests, made: Requests) -> dict[str, float]:
    """Return the distance of each marginal of one trace from that of another."""
    return {f"KS {name}": ks_distance(of(real), of(made)) for name, of in COMPARED.items()}


def self_distances(requests: Requests) -> dict[str, float]:
    """Return the distances that a perfect model would have, under the names of `distances`.

    They are those of two resamples of the trace from each other, `block_bootstrap`.
    """
    generator = np.random.default_rng(0)
    found = {}
    for name, of in COMPARED.items():
        values = of(requests)
        pairs = [
            ks_distance(block_bootstrap(values, generator), block_bootstrap(values, generator))
            for _ in range(RESAMPLES)
        ]
        found[f"KS {name}"] = float(np.mean(pairs))
    return found


def half_distances(requests: Requests) -> dict[str, float]:
    """Return how far the first half of a trace is from its second half: its drift."""
    half = len(requests) // 2
    return {
        f"KS halves {name}": ks_distance(of(requests)[:half], of(requests)[half:])
        for name, of in COMPARED.items()
    }


def block_bootstrap(values: Values, generator: np.random.Generator) -> Values:
    """Return as many values, drawn with replacement in runs of about the root of their number.

    Runs keep what neighbours have in common, which makes two traces differ more than independent
    values would (circular block bootstrap: Politis and Romano, 1992).
    """
    n = len(values)
    length = max(1, round(n**0.5))
    starts = generator.integers(n, size=-(-n // length))
    index = (starts[:, None] + np.arange(length)).ravel()[:n] % n
    resampled: Values = values[index]
    return resampled
