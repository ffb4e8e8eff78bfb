"""How far made requests are from a real trace, in the terms of a queue."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from infsim.errors import InputError
from infsim.rng import Streams
from infsim.workload.blocks import read_all
from infsim.workload.distances import distances, half_distances, self_distances
from infsim.workload.fit import fit_profile, spread_ticks, windows_of
from infsim.workload.fit_sessions import fit_sessions
from infsim.workload.prefixes import hit_curve
from infsim.workload.profile import Profile
from infsim.workload.requests import Requests, Workload
from infsim.workload.samples import SessionSample
from infsim.workload.statistics import describe
from infsim.workload.summary import CACHE_BLOCKS
from infsim.workload.ticks import SpreadTicks

_TRIED_REQUESTS = 2_000_000
"""Requests that are made to judge a profile: those of a long trace vary little, and take long."""

HIT_SEEDS = 10
"""Hits of caches are counted for the first seeds only: they take long, and vary little."""

FEWEST_REQUESTS = 10


@dataclass(frozen=True, slots=True)
class Row:
    """One quantity of the comparison.

    Attributes
    ----------
    name : str
        What is compared.
    real : float
        Its value in the real trace; for distances (``KS …``), that of the real trace from
        itself, which a perfect model would have.
    made, sd : float
        Mean and standard deviation over the seeds.
    """

    name: str
    real: float
    made: float
    sd: float

    @property
    def error(self) -> float:
        """Relative error of the mean; NaN if the real value is 0."""
        return (self.made - self.real) / self.real if self.real else np.nan


def compare(
    real: Requests, made: Workload, seeds: Iterable[int] = range(40), *, hits: bool = True
) -> list[Row]:
    """Compare a workload with a real trace.

    Parameters
    ----------
    real : Requests
        The whole trace; coarse timestamps are spread over their ticks.
    made : Workload
        What should be like it, finite.
    seeds : iterable of int
        Each makes one trace.
    hits : bool
        Whether to count the hits of prefix caches.

    Returns
    -------
    list of Row
        Everything of `describe`: rate, CV of gaps, index of dispersion in windows of 1 to 300 s,
        lengths, wait of a G/G/1 queue at load 0.8 in units of the mean service time (mean, p95,
        p99). Kolmogorov-Smirnov distances of lengths and gaps (``KS …``), and those between the
        halves of each trace (``KS halves …``). Turns and the median time between turns, if both
        have sessions; the share of prompt blocks found in LRU caches, by size (``hits …``), if both
        have prefix hashes.

    Raises
    ------
    InputError
        If one of the two has fewer than 10 requests, or all at once.
    """
    real = replace(real, arrival_s=spread_ticks(real.arrival_s))
    expected = self_distances(_enough(real, "real")) | _found(real, hits)
    columns: dict[str, list[float]] = {}
    for number, seed in enumerate(seeds):
        requests = _enough(read_all(SpreadTicks(made).blocks(Streams(seed))), "made")
        found = _found(requests, hits and number < HIT_SEEDS, real)
        for name, value in (found | distances(real, requests)).items():
            columns.setdefault(name, []).append(value)
    rows = []
    for name, column in columns.items():
        if name not in expected:
            continue  # prefixes or sessions that the real trace does not have
        values = np.array(column)
        sd = float(values.std(ddof=1)) if len(values) > 1 else 0.0
        rows.append(Row(name, expected[name], float(values.mean()), sd))
    return rows


def best_profile(
    real: Requests,
    *,
    windows: Iterable[int] = (60, 120, 240, 480),
    seeds: Iterable[int] = range(40),
    source: Mapping[str, Any] | None = None,
) -> Profile:
    """Fit profiles with several numbers of windows, long outputs apart or not; return the nearest.

    The nearest has the smallest relative errors of waits, which count twice, and dispersions
    together; its errors are those of `compare`.

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
    few = seeds[: max(3, _TRIED_REQUESTS // len(real))]
    tried: list[tuple[float, Profile]] = []
    for count in sorted({windows_of(len(real), most) for most in windows}):
        for profile in _fits(real, count, source):
            rows = compare(real, profile.workload(), few, hits=False)
            tried.append((_missed(rows), profile))
    _, profile = min(tried, key=lambda each: each[0])
    woven = fit_sessions(real, spread_ticks(real.arrival_s))
    if woven is not None:
        profile = replace(profile, sessions=woven[0], prefixes=woven[1])
    rows = compare(real, profile.workload(), seeds)
    return replace(profile, errors=errors_of(rows, len(seeds)))


def _fits(real: Requests, windows: int, source: Mapping[str, Any] | None) -> Iterator[Profile]:
    """Yield a profile, and one without long outputs apart if it has them apart."""
    profile = fit_profile(real, windows=windows, sessions=False, source=source)
    yield profile
    if profile.long_outputs is not None:
        yield fit_profile(real, windows=windows, apart=False, sessions=False, source=source)


def _missed(rows: Sequence[Row]) -> float:
    """Sum up relative errors of waits, which are what profiles are for, and dispersions."""
    weights = {"wait": 2, "dispersion": 1}
    return sum(abs(row.error) * weights.get(row.name.split()[0], 0) for row in rows if row.real > 0)


def errors_of(rows: Sequence[Row], seeds: int) -> dict[str, Any]:
    """Return a comparison as it is kept in a profile."""
    return {
        "seeds": seeds,
        **{row.name: {"real": row.real, "made": row.made, "sd": row.sd} for row in rows},
    }


def rows_of(errors: Mapping[str, Any]) -> list[Row]:
    """Return the comparison that a profile has kept."""
    return [
        Row(name, float(each["real"]), float(each["made"]), float(each["sd"]))
        for name, each in errors.items()
        if name != "seeds"
    ]


def _enough(requests: Requests, which: str) -> Requests:
    count = len(requests)
    if count < FEWEST_REQUESTS:
        raise InputError(
            f"the {which} trace has {count} requests, too few to compare: {FEWEST_REQUESTS} are"
            " needed"
        )
    if requests.arrival_s[0] == requests.arrival_s[-1]:
        raise InputError(f"the {which} trace cannot be compared, all its requests arrive at once")
    return requests


def _found(requests: Requests, hits: bool, real: Requests | None = None) -> dict[str, float]:
    """Return what is known of a trace by itself; prefix blocks are those of `real`, if given."""
    found = describe(requests) | half_distances(requests) | _sessions(requests)
    if not hits or requests.prefix_hashes is None:
        return found
    # as many tokens, should the blocks be of another size
    tokens = (requests if real is None else real).prefix_block_tokens
    sizes = [
        None if size is None else max(1, size * tokens // requests.prefix_block_tokens)
        for size in CACHE_BLOCKS
    ]
    names = [f"hits {'infinite' if size is None else size}" for size in CACHE_BLOCKS]
    return found | dict(zip(names, hit_curve(requests, sizes), strict=True))


def _sessions(requests: Requests) -> dict[str, float]:
    sample = SessionSample()
    sample.add(requests)
    turns = sample.turns()
    if not len(turns):
        return {}
    gap_s = sample.gaps_s.quantiles([0.5])[0]
    found = {"turns mean": float(turns.mean())}
    return found if np.isnan(gap_s) else found | {"turn gap p50 s": gap_s}
