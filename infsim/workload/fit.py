"""Fit a profile to a trace."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infsim.errors import InputError
from infsim.workload.burstiness import fit_burstiness
from infsim.workload.fit_sessions import fit_sessions
from infsim.workload.lengths import Quantiles
from infsim.workload.long_outputs import LongOutputs, unlike_bin
from infsim.workload.profile import Profile
from infsim.workload.rank_grid import bin_edges, bin_of, fit_cells, fit_drift
from infsim.workload.requests import Requests
from infsim.workload.ticks import clock_tick

KNOTS = 48
"""Entries of a quantile table."""

FEWEST_REQUESTS = 100
_FEWEST_OF_WINDOW = 20
_FEWEST_OF_SEGMENT = 160
_MOST_SEGMENTS = 24
_MOST_SEGMENTS_OF_LONG = 48
_LONG = 100_000


def fit_profile(
    requests: Requests,
    *,
    windows: int = 120,
    bins: int | None = None,
    segments: int | None = None,
    apart: bool = True,
    sessions: bool = True,
    source: Mapping[str, Any] | None = None,
) -> Profile:
    """Fit a profile to a whole trace.

    Parameters
    ----------
    requests : Requests
        The trace, at least 100 requests.
    windows : int
        Windows of the rates at most; there are fewer in a short trace.
    bins : int or None
        Bins of the rank of each length; None: 6, or 4 if there are more than 24 segments.
    segments : int or None
        Segments of time with lengths of their own; None tells by `drift` how many the trace needs.
    apart : bool
        Whether requests with long outputs get arrivals of their own, if they come at other times.
    sessions : bool
        Whether to look for sessions and shared prefixes; they change no time and no length.
    source : mapping, optional
        Copied into the profile.

    Raises
    ------
    InputError
        If there are fewer than 100 requests, or all arrive at once.
    """
    n = len(requests)
    if n < FEWEST_REQUESTS:
        raise InputError(f"{n} requests are too few for a profile, {FEWEST_REQUESTS} are needed")
    arrival_s = spread_ticks(requests.arrival_s)
    start_s = float(arrival_s[0])
    length_s = float(arrival_s[-1]) - start_s
    if not length_s > 0:
        raise InputError("all requests arrive at once, that makes no profile")
    windows = windows_of(n, windows)
    window_s = length_s / windows
    phase = (arrival_s - start_s) / length_s
    if segments is None:
        segments = segments_needed(requests, phase)
    segment = np.minimum((phase * segments).astype(np.int64), segments - 1)
    if bins is None:
        bins = 6 if segments <= _MOST_SEGMENTS else 4
    tables = quantile_table(requests.input_tokens), quantile_table(requests.output_tokens)
    of_input, of_output = (
        bin_of(tokens, bin_edges(table, bins))
        for tokens, table in zip(
            (requests.input_tokens, requests.output_tokens), tables, strict=True
        )
    )
    first_bin = unlike_bin(arrival_s - start_s, of_output, segment, bins) if apart else None
    long = of_output >= (bins if first_bin is None else first_bin)

    def stream(part: NDArray[np.bool_]) -> dict[str, Any]:
        """Return what is known of the requests of a part, which come when they like."""
        window = ((arrival_s[part] - start_s) / window_s).astype(np.int64)
        return {
            "counts": np.bincount(np.minimum(window, windows - 1), minlength=windows).tolist(),
            "burstiness": fit_burstiness(arrival_s[part], start_s, window_s, windows),
            "drift": fit_drift(requests.output_tokens[part], phase[part], segments, segment[part]),
        }

    woven = fit_sessions(requests, arrival_s) if sessions else None
    return Profile(
        window_s=window_s,
        **stream(~long),
        input_tokens=tables[0],
        output_tokens=tables[1],
        cells=fit_cells(of_input, of_output, segment, segments, bins).tolist(),
        source=source or {},
        long_outputs=LongOutputs(first_bin, **stream(long)) if first_bin else None,
        sessions=woven[0] if woven else None,
        prefixes=woven[1] if woven else None,
    )


def windows_of(requests: int, most: int) -> int:
    """Return how many windows of the rates so many requests make."""
    return max(1, min(most, requests // _FEWEST_OF_WINDOW))


def quantile_table(values: NDArray[np.int64], knots: int = KNOTS) -> Quantiles:
    """Choose the quantiles that tell most of a distribution.

    Knots are put one by one where the table is farthest from the values: by turns where it is so
    in tokens over all of an interval (so that mean and tail are right), and in probability (so
    that the KS distance is small).

    Parameters
    ----------
    values : int64 (n,)
        Lengths.
    knots : int
        Entries of the table, or fewer if it is exact before.
    """
    levels = np.union1d(np.linspace(0, 1, 2001), 1 - np.geomspace(1e-5, 1e-3, 15)).round(5)
    exact = np.quantile(values, levels)
    chosen = [0, len(levels) - 1]
    while len(chosen) < knots:
        table = np.interp(levels, levels[chosen], exact[chosen])
        miss = np.abs(table - exact)
        if len(chosen) % 2:
            below = np.searchsorted(table, exact, side="left") / (len(levels) - 1)
            above = np.searchsorted(table, exact, side="right") / (len(levels) - 1)
            candidate = int(np.argmax(np.maximum(below - levels, levels - above)))
        else:
            area = np.add.reduceat(miss * np.gradient(levels), chosen[:-1])
            worst = int(np.argmax(area))
            candidate = chosen[worst] + int(np.argmax(miss[chosen[worst] : chosen[worst + 1]]))
        if candidate in chosen:
            candidate = int(np.argmax(miss))
        if candidate in chosen:
            break
        chosen = sorted([*chosen, candidate])
    return Quantiles(levels[chosen].tolist(), exact[chosen].tolist())


def segments_needed(requests: Requests, phase: NDArray[np.float64]) -> int:
    """Return how many segments of time the lengths need: 1 if they do not drift.

    Lengths drift if their means differ between segments more than by chance: by an F statistic
    above 3 for one of the two.
    """
    most = _MOST_SEGMENTS if len(requests) < _LONG else _MOST_SEGMENTS_OF_LONG
    segments = min(most, len(requests) // _FEWEST_OF_SEGMENT)
    if segments < 2:
        return 1
    segment = np.minimum((phase * segments).astype(np.int64), segments - 1)
    drift = max(
        _f_statistic(np.log(tokens), segment)
        for tokens in (requests.input_tokens, requests.output_tokens)
    )
    return segments if drift > 3 else 1


def spread_ticks(arrival_s: NDArray[np.float64]) -> NDArray[np.float64]:
    """Spread arrivals over the ticks of a coarse clock, uniformly; others stay as they are.

    See `infsim.workload.ticks.clock_tick`. The spread is the same for the same times.
    """
    tick_s = clock_tick(arrival_s)
    if tick_s is None:
        return arrival_s
    return np.sort(arrival_s + tick_s * np.random.default_rng(0).random(len(arrival_s)))


def _f_statistic(values: NDArray[np.float64], group: NDArray[np.int64]) -> float:
    """Return the variance between groups over the variance within."""
    present, group, count = np.unique(group, return_inverse=True, return_counts=True)
    if len(present) < 2:
        return 0.0
    mean = np.bincount(group, weights=values) / count
    between = float((count * (mean - values.mean()) ** 2).sum()) / (len(present) - 1)
    within = float(((values - mean[group]) ** 2).sum()) / max(1, len(values) - len(present))
    return between / within if within else 0.0
