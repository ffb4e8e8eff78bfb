"""How ``trace stats`` shows what a trace looks like: as text, and as data for JSON."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from infsim.workload.summary import COUNT_WINDOW_S, LengthSummary, Summary

_SCALES_S = (1, 10, 60, 300, 3600)
_LAGS_S = (10, 60, 300, 1200, 3600)
_LEVELS = (0.5, 0.9, 0.95, 0.99)
_LAGS = (1, 10, 100)

Table = Sequence[Sequence[str]]


def text(name: str, summary: Summary) -> str:
    """Return the summary of a trace for a terminal."""
    span = _time(summary.duration_s)
    parts = [f"{name}: {summary.requests:,} requests in {span}, {_rate(summary.rate_per_s)}"]
    if summary.tick_s is not None:
        parts.append(f"The clock ticks every {_time(summary.tick_s)}; arrivals spread over ticks.")
    for title, table in _tables(summary):
        parts += ["", title, *_aligned(table)]
    if summary.sampled_share < 1:
        parts += ["", f"Rank correlation: of a random {summary.sampled_share:.2%} of the requests."]
    return "\n".join(parts)


def data(summary: Summary) -> dict[str, Any]:
    """Return the summary as plain data; what has no value is None, distributions are left out."""
    plain = asdict(summary)
    del plain["gaps_s"]
    for name in ("input_tokens", "output_tokens"):
        del plain[name]["distribution"]
    plain["rate_per_s"] = summary.rate_per_s
    plain["rates_per_s"] = summary.rates_per_s.tolist()
    plain["wait"] = summary.wait._asdict()
    found: dict[str, Any] = _jsonable(plain)
    return found


def _tables(summary: Summary) -> Iterator[tuple[str, Table]]:
    scales = [s for s in _SCALES_S if not math.isnan(summary.dispersion[s])]
    lags = [s for s in _LAGS_S if s in summary.count_autocorrelation]
    lags = [s for s in lags if not math.isnan(summary.count_autocorrelation[s])]
    arrivals = [["CV of gaps", _number(summary.gap_cv)]]
    if summary.duration_s >= 120:
        arrivals.insert(0, ["rate in the busiest minute", _rate(summary.busiest_minute / 60)])
    yield "arrivals", arrivals
    if scales:
        yield (
            "index of dispersion of counts (1: Poisson)",
            [
                ["window", *map(_time, scales)],
                ["", *(_number(summary.dispersion[scale]) for scale in scales)],
            ],
        )
    if lags:
        yield (
            f"autocorrelation of counts in {COUNT_WINDOW_S} s",
            [
                ["lag", *map(_time, lags)],
                ["", *(_decimals(summary.count_autocorrelation[lag]) for lag in lags)],
            ],
        )
    yield "lengths in tokens", _lengths(summary)
    yield (
        "correlation of lengths",
        [
            ["lag in requests", *map(str, _LAGS)],
            ["input", *_correlations(summary.input_tokens)],
            ["output", *_correlations(summary.output_tokens)],
            ["input and output, by rank", _decimals(summary.rank_correlation)],
        ],
    )
    wait = summary.wait
    yield (
        "wait in a G/G/1 queue at load 0.8, in service times",
        [["mean", "p95", "p99"], [_number(each) for each in wait]],
    )
    if summary.sessions is not None:
        yield _sessions(summary)
    if summary.prefixes is not None:
        sizes = list(summary.prefixes.hits)
        yield (
            f"blocks of {summary.prefixes.block_tokens} tokens found in an LRU cache, first "
            f"{summary.prefixes.requests:,} requests",
            [
                ["cache", *("infinite" if size is None else f"{size:,}" for size in sizes)],
                ["hits", *(f"{summary.prefixes.hits[size]:.3f}" for size in sizes)],
            ],
        )


def _lengths(summary: Summary) -> Table:
    return [
        ["", "mean", *(f"p{100 * level:g}" for level in _LEVELS), "largest"],
        ["input", *_length_row(summary.input_tokens)],
        ["output", *_length_row(summary.output_tokens)],
    ]


def _length_row(lengths: LengthSummary) -> Iterator[str]:
    yield f"{lengths.mean:.0f}"
    yield from (f"{lengths.quantiles[level]:.0f}" for level in _LEVELS)
    yield str(lengths.largest)


def _correlations(lengths: LengthSummary) -> Iterator[str]:
    return (_decimals(lengths.autocorrelation[lag]) for lag in _LAGS)


def _decimals(value: float) -> str:
    # adding 0 takes the sign of what is rounded to 0
    return "-" if math.isnan(value) else f"{round(value, 2) + 0:.2f}"


def _sessions(summary: Summary) -> tuple[str, Table]:
    sessions = summary.sessions
    assert sessions is not None
    about = "" if sessions.share == 1 else f", of a random {sessions.share:.2%} of them"
    return (
        f"sessions: {sessions.sessions:,.0f}{about}",
        [
            ["", "mean", "p50", "p95"],
            ["turns", *map(_number, (sessions.turns_mean, sessions.turns_p50, sessions.turns_p95))],
            ["time between turns", "", _time(sessions.gap_p50_s), _time(sessions.gap_p95_s)],
        ],
    )


def _aligned(rows: Table) -> Iterator[str]:
    width = max(map(len, rows))
    filled = [[*row, *[""] * (width - len(row))] for row in rows]
    widths = [max(map(len, column)) for column in zip(*filled, strict=True)]
    for row in filled:
        first, *others = (
            f"{cell:<{w}}" if i == 0 else f"{cell:>{w}}"
            for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        )
        yield "  " + "  ".join((first, *others)).rstrip()


def _number(value: float) -> str:
    if math.isnan(value):
        return "-"
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _rate(rate_per_s: float) -> str:
    if math.isnan(rate_per_s):
        return "all at once"
    return f"{rate_per_s:.3g} /s" if rate_per_s >= 0.1 else f"{rate_per_s * 3600:.3g} /h"


def _time(time_s: float) -> str:
    if math.isnan(time_s):
        return "-"
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if time_s >= 2 * size or time_s == size:
            return f"{time_s / size:.3g} {unit}"
    return f"{time_s:.3g} s" if time_s >= 1 or not time_s else f"{time_s * 1e3:.3g} ms"


def _jsonable(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {"infinite" if k is None else str(k): _jsonable(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_jsonable(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value
