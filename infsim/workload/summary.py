"""What a trace looks like, told from two readings in memory that does not grow with its length."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from infsim.errors import InputError
from infsim.rng import Streams
from infsim.workload.accumulate import Frequencies, Lagged, LogHistogram, Moments
from infsim.workload.blocks import concatenate, prefix_lengths, take
from infsim.workload.counts import RateSeries, WindowCounts
from infsim.workload.prefixes import hit_curve
from infsim.workload.requests import Requests, Workload
from infsim.workload.samples import RequestSample, SessionSample
from infsim.workload.statistics import Wait, rank_correlation, service
from infsim.workload.ticks import SpreadTicks, clock_tick

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

LEVELS = (0.05, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.999)
"""Quantiles of the lengths."""

DISPERSION_S = (1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600)
"""Windows of the index of dispersion; those of `describe` are among them."""

COUNT_WINDOW_S = 10
"""Windows whose counts are correlated with themselves."""

COUNT_LAGS = (1, 2, 3, 4, 6, 9, 12, 18, 30, 45, 60, 90, 120, 180, 270, 360)
"""Lags of counts, in windows."""

LENGTH_LAGS = (1, 2, 3, 5, 10, 20, 50, 100, 200, 500, 1000)
"""Lags of lengths, in requests."""

CACHE_BLOCKS = (1000, 3000, 10_000, 30_000, 50_000, 100_000, None)
"""Sizes of the LRU cache whose hits are counted; None: infinite."""

PREFIX_REQUESTS = 50_000
"""Hits are counted for so many requests at the beginning of a trace: a cache has to remember."""


class Distribution(NamedTuple):
    """Different values in increasing order, and how often each came."""

    values: NDArray[Any]
    counts: Ints


@dataclass(frozen=True)
class LengthSummary:
    """Lengths of prompts, or of outputs.

    Attributes
    ----------
    mean : float
    largest : int
    quantiles : dict of float to float
        By level, exact.
    autocorrelation : dict of int to float
        By the lag in requests.
    distribution : Distribution
        Exact.
    """

    mean: float
    largest: int
    quantiles: dict[float, float]
    autocorrelation: dict[int, float]
    distribution: Distribution


@dataclass(frozen=True)
class SessionSummary:
    """Sessions of a trace.

    Attributes
    ----------
    share : float
        Share of the sessions that was looked at.
    sessions : float
        Their number in the trace, estimated if not all were looked at.
    turns_mean, turns_p50, turns_p95 : float
        Turns of a session.
    gap_p50_s, gap_p95_s : float
        Time between the arrivals of two turns; NaN without second turns.
    """

    share: float
    sessions: float
    turns_mean: float
    turns_p50: float
    turns_p95: float
    gap_p50_s: float
    gap_p95_s: float


@dataclass(frozen=True)
class PrefixSummary:
    """Shared beginnings of prompts.

    Attributes
    ----------
    requests : int
        Requests at the beginning of the trace that were looked at.
    block_tokens : int
        Tokens of a hashed block.
    blocks_mean : float
        Blocks of a prompt.
    hits : dict of (int or None) to float
        Share of blocks found in an LRU cache by its size in blocks; None: infinite.
    """

    requests: int
    block_tokens: int
    blocks_mean: float
    hits: dict[int | None, float]


@dataclass(frozen=True)
class Summary:
    """What a trace looks like.

    Attributes
    ----------
    requests : int
    duration_s : float
        From the first arrival to the last.
    tick_s : float or None
        Tick of a coarse clock, over which arrivals were spread.
    gap_cv : float
    gaps_s : Distribution
        Gaps between arrivals, in bins of 0.14 %.
    dispersion : dict of int to float
        Index of dispersion of counts by window in seconds; NaN where there are too few.
    count_autocorrelation : dict of int to float
        Of counts in windows of 10 s, by the lag in seconds.
    busiest_minute : int
        Arrivals in the busiest of the minutes that are counted from the first arrival on.
    rate_window_s, rates_per_s : float, float64 (n,)
        Rates over time.
    input_tokens, output_tokens : LengthSummary
    rank_correlation, sampled_share : float
        Spearman's, of both lengths, and the share of requests it is computed from.
    wait : Wait
        In a G/G/1 queue at load 0.8, in service times, as `queue_wait`; quantiles to 0.07 %.
    sessions : SessionSummary or None
    prefixes : PrefixSummary or None
    """

    requests: int
    duration_s: float
    tick_s: float | None
    gap_cv: float
    gaps_s: Distribution
    dispersion: dict[int, float]
    count_autocorrelation: dict[int, float]
    busiest_minute: int
    rate_window_s: float
    rates_per_s: Floats
    input_tokens: LengthSummary
    output_tokens: LengthSummary
    rank_correlation: float
    sampled_share: float
    wait: Wait
    sessions: SessionSummary | None
    prefixes: PrefixSummary | None

    @property
    def rate_per_s(self) -> float:
        """Gaps over the time between first and last arrival; NaN if all come at once."""
        return (self.requests - 1) / self.duration_s if self.duration_s > 0 else math.nan


def summarize(workload: Workload, streams: Streams) -> Summary:
    """Describe a finite workload, which is read twice.

    Parameters
    ----------
    workload : Workload
    streams : Streams
        What it draws from, if it draws.

    Raises
    ------
    InputError
        If it has no requests, or what its reader raises.
    """
    collected = _Collected()
    spread = SpreadTicks(workload)
    for part in spread.blocks(streams):
        collected.add(part)
    if not collected.requests:
        raise InputError("there are no requests to describe")
    first = next(iter(workload.blocks(streams)))
    return collected.summary(
        clock_tick(first.arrival_s),
        _wait(spread.blocks(streams), collected),
    )


class _Collected:
    """Everything that one reading of a trace tells."""

    def __init__(self) -> None:
        self.requests = 0
        self.first_s = self.last_s = math.nan
        self.work = Moments()
        self._gaps = Moments()
        self._gaps_s = LogHistogram()
        self._windows = {scale: WindowCounts(scale) for scale in DISPERSION_S}
        self._windows[COUNT_WINDOW_S] = WindowCounts(COUNT_WINDOW_S, COUNT_LAGS)
        self._rates = RateSeries()
        self._lengths = {name: _Lengths() for name in ("input_tokens", "output_tokens")}
        self._sample = RequestSample()
        self._sessions = SessionSample()
        self._hashed: list[Requests] = []

    def add(self, part: Requests) -> None:
        """Take in the requests that come next."""
        if not len(part):
            return
        times = part.arrival_s
        if not self.requests:
            self.first_s = self.last_s = float(times[0])
        gaps = np.diff(times, prepend=self.last_s)[0 if self.requests else 1 :]
        self.last_s = float(times[-1])
        self._gaps.add(gaps)
        self._gaps_s.add(gaps)
        for windows in self._windows.values():
            windows.add(times)
        self._rates.add(times)
        for name, lengths in self._lengths.items():
            lengths.add(getattr(part, name))
        self.work.add(service(part))
        self._sample.add(part)
        self._sessions.add(part)
        wanted = PREFIX_REQUESTS - self.requests
        if part.prefix_hashes is not None and wanted > 0:
            self._hashed.append(take(part, slice(0, wanted)))
        self.requests += len(part)

    def summary(self, tick_s: float | None, wait: Wait) -> Summary:
        """Return it together with what else is known."""
        sample = self._sample.requests()
        windows = self._windows[COUNT_WINDOW_S]
        lags = [lag * COUNT_WINDOW_S for lag in COUNT_LAGS]
        return Summary(
            requests=self.requests,
            duration_s=self.last_s - self.first_s,
            tick_s=tick_s,
            gap_cv=self._gaps.cv,
            gaps_s=Distribution(*self._gaps_s.table()),
            dispersion={scale: each.dispersion() for scale, each in self._windows.items()},
            count_autocorrelation=dict(zip(lags, windows.autocorrelation(), strict=True)),
            busiest_minute=self._windows[60].busiest,
            rate_window_s=self._rates.window_s,
            rates_per_s=self._rates.rates(),
            input_tokens=self._lengths["input_tokens"].summary(),
            output_tokens=self._lengths["output_tokens"].summary(),
            rank_correlation=rank_correlation(sample.input_tokens, sample.output_tokens),
            sampled_share=self._sample.share,
            wait=wait,
            sessions=_sessions(self._sessions),
            prefixes=_prefixes(self._hashed),
        )


class _Lengths:
    """Lengths as they pass by."""

    def __init__(self) -> None:
        self._frequencies = Frequencies()
        self._lagged = Lagged(LENGTH_LAGS)

    def add(self, tokens: Ints) -> None:
        self._frequencies.add(tokens)
        self._lagged.add(tokens)

    def summary(self) -> LengthSummary:
        table = Distribution(*self._frequencies.table())
        quantiles = self._frequencies.quantiles(LEVELS)
        return LengthSummary(
            mean=self._frequencies.mean(),
            largest=int(table.values[-1]),
            quantiles=dict(zip(LEVELS, quantiles, strict=True)),
            autocorrelation=dict(zip(LENGTH_LAGS, self._lagged.autocorrelation(), strict=True)),
            distribution=table,
        )


def _sessions(sample: SessionSample) -> SessionSummary | None:
    turns = sample.turns()
    if not len(turns):
        return None
    p50, p95 = np.percentile(turns, (50, 95))
    gap_p50_s, gap_p95_s = sample.gaps_s.quantiles((0.5, 0.95))
    return SessionSummary(
        sample.share,
        len(turns) / sample.share,
        float(turns.mean()),
        float(p50),
        float(p95),
        gap_p50_s,
        gap_p95_s,
    )


def _prefixes(parts: Sequence[Requests]) -> PrefixSummary | None:
    if not parts:
        return None
    requests = concatenate(parts)
    hits = hit_curve(requests, CACHE_BLOCKS)
    return PrefixSummary(
        len(requests),
        requests.prefix_block_tokens,
        float(prefix_lengths(requests).mean()),
        dict(zip(CACHE_BLOCKS, hits, strict=True)),
    )


def _wait(parts: Iterator[Requests], collected: _Collected, load: float = 0.8) -> Wait:
    """Return the waits of `queue_wait`, by Lindley's recursion block by block."""
    span_s = collected.last_s - collected.first_s
    if not span_s > 0:
        return Wait(math.nan, math.nan, math.nan)
    mean_s = load * span_s / collected.requests
    waits, histogram = Moments(), LogHistogram()
    wait_s = left_s = 0.0
    last_s = collected.first_s
    for part in parts:
        service_s = service(part) / collected.work.mean * mean_s
        # what was left to do when the request before arrived, less the time since then
        before_s = np.concatenate([[left_s], service_s[:-1]])
        walk = wait_s + np.cumsum(before_s - np.diff(part.arrival_s, prepend=last_s))
        waited = walk - np.minimum(np.minimum.accumulate(walk), 0)
        # the walk loses some digits, which must not count as waiting
        waited[waited < 1e-9 * mean_s] = 0.0
        waits.add(waited / mean_s)
        histogram.add(waited / mean_s)
        wait_s, left_s, last_s = float(waited[-1]), float(service_s[-1]), float(part.arrival_s[-1])
    return Wait(waits.mean, *histogram.quantiles((0.95, 0.99)))
