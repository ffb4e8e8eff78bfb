"""How far made requests are from a real trace, in the terms of a queue."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from infsim.rng import Streams
from infsim.workload.blocks import read_all
from infsim.workload.fit import fit_profile, spread_ticks
from infsim.workload.profile import Profile
from infsim.workload.requests import Requests, Workload
from infsim.workload.statistics import describe, ks_distance


@dataclass(frozen=True, slots=True)
class Row:
    """One quantity of the comparison.

    Attributes
    ----------
    name : str
        What is compared.
    real : float
        Its value in the real trace; 0 for distances.
    made, sd : float
        Mean and standard deviation over the seeds.
    """

    name: str
    real: float
    made: float
    sd: float


def compare(real: Requests, made: Workload, seeds: Iterable[int] = range(40)) -> list[Row]:
    """Compare a workload with a real trace.

    Parameters
    ----------
    real : Requests
        The whole trace; coarse timestamps are spread over their ticks.
    made : Workload
        What should be like it, finite.
    seeds : iterable of int
        Each makes one trace.

    Returns
    -------
    list of Row
        Wait of a G/G/1 queue at load 0.8 in units of the mean service time (mean, p95, p99),
        index of dispersion in windows of 1 to 300 s, mean lengths, and the Kolmogorov-Smirnov
        distances of lengths and gaps.
    """
    real = replace(real, arrival_s=spread_ticks(real.arrival_s))
    expected = describe(real)
    found = []
    for seed in seeds:
        requests = read_all(made.blocks(Streams(seed)))
        found.append(describe(requests) | _distances(real, requests))
    rows = []
    for name in found[0] if found else ():
        values = np.array([each[name] for each in found])
        sd = float(values.std(ddof=1)) if len(values) > 1 else 0.0
        rows.append(Row(name, expected.get(name, 0.0), float(values.mean()), sd))
    return rows


def best_profile(
    real: Requests,
    *,
    windows: Iterable[int] = (60, 120, 240),
    seeds: Iterable[int] = range(40),
    source: Mapping[str, Any] | None = None,
) -> Profile:
    """Fit profiles with several numbers of windows and return the nearest one.

    The nearest has the smallest relative errors of waits and dispersions together; its
    errors are those of `compare`.

    Parameters
    ----------
    real : Requests
        The whole trace.
    windows : iterable of int
        What is tried.
    seeds : iterable of int
        Seeds of the comparison.
    source : mapping, optional
        Copied into the profile.
    """
    seeds = list(seeds)
    tried: list[tuple[float, Profile, list[Row]]] = []
    for count in windows:
        profile = fit_profile(real, windows=count, source=source)
        rows = compare(real, profile.workload(), seeds)
        judged = [row for row in rows if row.name.startswith(("wait", "dispersion"))]
        miss = sum(abs(row.made - row.real) / row.real for row in judged if row.real > 0)
        tried.append((miss, profile, rows))
    _, profile, rows = min(tried, key=lambda each: each[0])
    errors = {
        "seeds": len(seeds),
        **{row.name: {"real": row.real, "made": row.made, "sd": row.sd} for row in rows},
    }
    return replace(profile, errors=errors)


def _distances(real: Requests, made: Requests) -> dict[str, float]:
    return {
        "KS input_tokens": ks_distance(real.input_tokens, made.input_tokens),
        "KS output_tokens": ks_distance(real.output_tokens, made.output_tokens),
        "KS gaps": ks_distance(np.diff(real.arrival_s), np.diff(made.arrival_s)),
    }
