"""Statistics in one reading equal those of everything at once, whatever the blocks."""

from __future__ import annotations

import math
import tracemalloc
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from infsim.errors import InputError
from infsim.rng import Streams
from infsim.workload.accumulate import Frequencies, Lagged, LogHistogram, Moments
from infsim.workload.arrivals import Gamma, Poisson
from infsim.workload.blocks import block, empty, read_all, resize
from infsim.workload.counts import RateSeries, WindowCounts
from infsim.workload.fit import spread_ticks
from infsim.workload.lengths import Constant, Independent, Lognormal
from infsim.workload.prefixes import hit_curve
from infsim.workload.requests import Requests, Workload
from infsim.workload.samples import RequestSample, SessionSample
from infsim.workload.sessions import Sessions
from infsim.workload.statistics import (
    autocorrelation,
    describe,
    dispersion,
    queue_wait,
    rank_correlation,
    service,
)
from infsim.workload.summary import Summary, summarize
from infsim.workload.synthetic import Synthetic
from infsim.workload.ticks import SpreadTicks
from infsim.workload.transform import Limit

quick = settings(deadline=None, max_examples=60)

LENGTHS = Independent(Lognormal(800, 1.2, high=9000), Lognormal(150, 1))


@dataclass(frozen=True)
class Given:
    """Requests that are given, in blocks of some size."""

    requests: Requests
    size: int = 100

    def blocks(self, streams: Streams) -> Iterator[Requests]:
        return resize([self.requests], self.size)


def requests_of(times: Sequence[float]) -> Requests:
    ones = np.ones(len(times), dtype=np.int64)
    return block(np.array(times, dtype=np.float64), ones, ones)


def cut(values: NDArray[np.generic], size: int) -> Iterator[NDArray[np.generic]]:
    return (values[i : i + size] for i in range(0, len(values), size))


whole_numbers = st.lists(st.integers(0, 50), min_size=1, max_size=80)
sizes = st.integers(1, 30)
# long silences now and then
gaps = st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0, 7.0, 40.0]), min_size=1, max_size=80)


@quick
@given(whole_numbers, sizes, st.lists(st.floats(0, 1), min_size=1, max_size=5))
def test_frequencies(values: list[int], size: int, levels: list[float]) -> None:
    given = np.array(values)
    found = Frequencies()
    for part in cut(given, size):
        found.add(part)  # type: ignore[arg-type]
        found.table()
    assert found.quantiles(levels) == pytest.approx(np.quantile(given, levels).tolist())
    assert found.mean() == pytest.approx(given.mean())
    assert found.table()[1].sum() == len(values)


@quick
@given(st.lists(st.floats(0, 1e9) | st.just(0.0), min_size=1, max_size=60), sizes)
def test_bins_are_narrow(values: list[float], size: int) -> None:
    given = np.array(values)
    found = LogHistogram()
    for part in cut(given, size):
        found.add(part)  # type: ignore[arg-type]
    levels = [0, 0.5, 0.95, 1]
    expected = np.quantile(given, levels, method="lower")
    assert found.quantiles(levels) == pytest.approx(expected.tolist(), rel=7e-4, abs=1e-150)


@quick
@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=60), sizes, st.sampled_from([0, 1e9]))
def test_moments(values: list[float], size: int, shift: float) -> None:
    given = np.array(values) + shift
    found = Moments()
    for part in cut(given, size):
        found.add(part)
    assert found.mean == pytest.approx(given.mean(), rel=1e-9, abs=1e-6)
    assert found.variance == pytest.approx(given.var(), rel=1e-6, abs=1e-4)


@quick
@given(whole_numbers, sizes, st.sampled_from([0, 10**9]))
def test_autocorrelation_of_a_series(values: list[int], size: int, shift: int) -> None:
    given = np.array(values) + shift
    lags = (1, 2, 5, 13)
    found = Lagged(lags)
    for part in cut(given, size):
        found.add(part)
    expected = autocorrelation(given, lags) if given.var() else [math.nan] * 4
    assert found.autocorrelation() == pytest.approx(expected, abs=1e-6, nan_ok=True)


@quick
@given(gaps, sizes, st.sampled_from([1.0, 3.0, 10.0]))
def test_counts_in_windows(gap_s: list[float], size: int, window_s: float) -> None:
    times = 5 + np.cumsum(gap_s)
    lags = (1, 2, 7)
    found = WindowCounts(window_s, lags)
    for part in cut(times, size):
        found.add(part)  # type: ignore[arg-type]
    windows = int((times[-1] - times[0]) / window_s)
    counts = np.bincount(((times - times[0]) // window_s).astype(int), minlength=windows)
    assert found.windows == windows
    assert found.busiest == counts.max()
    assert found.dispersion() == pytest.approx(dispersion(times, window_s), nan_ok=True)
    counts = counts[:windows]
    if windows and counts.var():
        assert found.autocorrelation() == pytest.approx(autocorrelation(counts, lags), nan_ok=True)
    else:
        assert all(map(math.isnan, found.autocorrelation()))


@quick
@given(gaps, sizes)
def test_rates_count_everything(gap_s: list[float], size: int) -> None:
    times = 100 + np.cumsum(gap_s)
    found = RateSeries(most=8)
    for part in cut(times, size):
        found.add(part)  # type: ignore[arg-type]
    rates = found.rates()
    assert len(rates) <= 8
    assert (rates * found.window_s).sum() == pytest.approx(len(times))
    span_s = times[-1] - times[0]
    assert (len(rates) - 1) * found.window_s <= span_s < len(rates) * found.window_s


@quick
@given(st.lists(st.integers(0, 40), min_size=2, max_size=300), sizes)
def test_spreading_ticks_block_by_block(ticks: list[int], size: int) -> None:
    requests = requests_of(np.sort(np.array(ticks) * 3.0).tolist())
    spread = read_all(SpreadTicks(Given(requests, size)).blocks(Streams(0)))
    assert spread.arrival_s.tolist() == spread_ticks(requests.arrival_s).tolist()
    assert spread.input_tokens.tolist() == requests.input_tokens.tolist()


def test_a_long_coarse_clock_is_spread_in_order() -> None:
    """More than one block, and ticks that are not all equally long."""
    ticks = np.cumsum(np.random.default_rng(0).choice([1.0, *[3.0] * 19], 9000))
    requests = requests_of(np.repeat(ticks, 5).tolist())
    parts = list(SpreadTicks(Given(requests, 1000)).blocks(Streams(0)))
    assert len(parts) > 3
    times = np.concatenate([part.arrival_s for part in parts])
    assert times.tolist() == spread_ticks(requests.arrival_s).tolist()
    assert len(np.unique(times)) == len(times)


# --- samples --------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [7, 1000])
def test_a_sample_of_requests_is_fair(size: int) -> None:
    requests = replace(requests_of(range(20_000)), input_tokens=np.arange(20_000))
    sample = RequestSample(most=1000)
    for part in resize([requests], size):
        sample.add(part)
    kept = sample.requests()
    assert 400 < len(kept) <= 1000
    # the number that is kept is binomial
    assert len(kept) == pytest.approx(20_000 * sample.share, abs=4 * (20_000 * sample.share) ** 0.5)
    assert kept.input_tokens.mean() == pytest.approx(10_000, rel=0.1)
    assert (np.diff(kept.arrival_s) > 0).all()


def test_small_traces_are_sampled_whole() -> None:
    sample = RequestSample(most=10)
    sample.add(requests_of(range(10)))
    assert sample.share == 1
    assert len(sample.requests()) == 10


@pytest.mark.parametrize("most", [500, 1 << 16])
def test_sampled_sessions_have_all_their_turns(most: int) -> None:
    sessions = Sessions(Poisson(5.0), Independent(Constant(9), Constant(3)), turns=3, think_s=20)
    requests = read_all(Limit(sessions, requests=9000).blocks(Streams(1)))
    sample = SessionSample(most)
    for part in resize([requests], 100):
        sample.add(part)
    turns = np.unique(requests.session_id, return_counts=True)[1]
    found = sample.turns()
    if most > len(turns):
        assert sorted(found) == sorted(turns)
    else:
        assert len(found) <= most
        assert len(found) / sample.share == pytest.approx(len(turns), rel=0.2)
    assert found.mean() == pytest.approx(turns.mean(), rel=0.1)
    # exponential think times of 20 s, and 0.09 s for the answer
    median_s = 20 * math.log(2) + 0.09
    assert sample.gaps_s.quantiles([0.5])[0] == pytest.approx(median_s, rel=0.2)


# --- everything together --------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 100, 8192])
def test_a_summary_equals_the_description_of_all_requests(size: int) -> None:
    made = read_all(Limit(Synthetic(Gamma(4.0, cv=3), LENGTHS), requests=5000).blocks(Streams(2)))
    summary = summarize(Given(made, size), Streams(0))
    expected = describe(made)
    assert summary.requests == 5000
    assert summary.rate_per_s == pytest.approx(expected["rate per s"])
    assert summary.gap_cv == pytest.approx(expected["gap CV"])
    for scale in (1, 10, 60, 300):
        assert summary.dispersion[scale] == pytest.approx(expected[f"dispersion {scale} s"])
    for name in ("input_tokens", "output_tokens"):
        lengths = getattr(summary, name)
        assert lengths.mean == pytest.approx(expected[f"{name} mean"])
        assert lengths.quantiles[0.95] == pytest.approx(expected[f"{name} p95"])
        assert lengths.largest == getattr(made, name).max()
        series = autocorrelation(getattr(made, name), list(lengths.autocorrelation))
        assert list(lengths.autocorrelation.values()) == pytest.approx(series, abs=1e-9)
    assert summary.rank_correlation == pytest.approx(expected["rank correlation"])
    assert summary.wait.mean == pytest.approx(expected["wait mean"])
    assert summary.wait.p95 == pytest.approx(expected["wait p95"], rel=2e-3)
    assert summary.wait.p99 == pytest.approx(expected["wait p99"], rel=2e-3)
    assert summary.sessions is None
    assert summary.prefixes is None


def test_prefixes_and_sessions_of_dialogues() -> None:
    sessions = Sessions(
        Poisson(2.0),
        LENGTHS,
        turns=4,
        system_tokens=300,
        max_context=20_000,
        prefix_block_tokens=64,
    )
    made = read_all(Limit(sessions, requests=2000).blocks(Streams(3)))
    summary = summarize(Given(made), Streams(0))
    assert summary.prefixes is not None
    assert summary.prefixes.requests == 2000
    assert summary.prefixes.block_tokens == 64
    sizes = list(summary.prefixes.hits)
    assert list(summary.prefixes.hits.values()) == hit_curve(made, sizes)
    assert summary.sessions is not None
    assert summary.sessions.sessions == len(np.unique(made.session_id))


def test_a_coarse_clock_is_spread_and_told() -> None:
    times = np.repeat(np.arange(300) * 3.0, 7)
    summary = summarize(Given(requests_of(times.tolist())), Streams(0))
    assert summary.tick_s == 3
    # uniform within a tick, the same number in each: less than Poisson, far from batches of 7
    assert 0.5 < summary.gap_cv < 1.1
    expected = queue_wait(spread_ticks(times), np.ones(len(times)))
    assert summary.wait.mean == pytest.approx(expected.mean)


@pytest.mark.parametrize("times", [[0.0], [2.0, 2.0, 2.0], [0.0, 1e9]])
def test_small_and_odd_traces_have_a_summary(times: list[float]) -> None:
    summary = summarize(Given(requests_of(times)), Streams(0))
    assert isinstance(summary, Summary)
    assert summary.requests == len(times)
    assert math.isnan(summary.wait.mean) == (times[0] == times[-1])
    assert math.isnan(summary.rank_correlation)


def test_nothing_has_no_summary() -> None:
    with pytest.raises(InputError, match="no requests"):
        summarize(Given(empty()), Streams(0))


def test_memory_does_not_grow_with_the_trace() -> None:
    peaks = []
    for requests in (100_000, 400_000):
        workload: Workload = Limit(Synthetic(Poisson(5.0), LENGTHS), requests=requests)
        tracemalloc.start()
        summarize(workload, Streams(0))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.15 * peaks[0]


def test_ranks_of_equal_values_are_shared() -> None:
    a, b = np.array([1, 1, 2, 3]), np.array([5, 5, 5, 9])
    # ranks 1.5 1.5 3 4 and 2 2 2 4, by hand: covariance 3, variances 4.5 and 3
    assert rank_correlation(a, b) == pytest.approx(3 / math.sqrt(4.5 * 3))
    assert rank_correlation(a, a) == pytest.approx(1)
    assert rank_correlation(a, -a) == pytest.approx(-1)
    assert service(requests_of([0.0])).tolist() == [1.02]
