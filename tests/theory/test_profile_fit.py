"""Fits of profiles to traces that are unlike those that are shipped."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from infsim.rng import Streams
from infsim.workload.arrivals import Poisson
from infsim.workload.blocks import block, read_all
from infsim.workload.compare import compare
from infsim.workload.fit import fit_profile, spread_ticks
from infsim.workload.lengths import Independent, Lognormal
from infsim.workload.merge import Merge
from infsim.workload.profile import load_profile, save_profile
from infsim.workload.requests import Requests
from infsim.workload.statistics import dispersion, ks_distance
from infsim.workload.synthetic import Synthetic
from infsim.workload.transform import Limit


def test_lengths_that_are_all_equal_do_not_drift() -> None:
    """Equal lengths were once ranked in order of arrival, which looked like a drift."""
    generator = np.random.default_rng(3)
    n = 10_000
    arrival_s = np.sort(generator.random(n)) * 3600
    requests = block(arrival_s, generator.integers(10, 5000, n), np.full(n, 100))
    assert sum(fit_profile(requests, segments=12).drift) < 0.01


def test_a_trace_that_is_idle_for_days() -> None:
    """Two half hours, three days apart: no piece of time has requests in both of its halves."""
    generator = np.random.default_rng(3)
    arrival_s = np.cumsum(generator.exponential(1, 3000))
    arrival_s[1500:] += 3 * 86400
    tokens = generator.lognormal(5, 1, (2, 3000)).astype(np.int64) + 1
    made = read_all(fit_profile(block(arrival_s, *tokens)).workload().blocks(Streams(0)))
    assert len(made) == 3000
    assert np.diff(made.arrival_s).max() == pytest.approx(3 * 86400, rel=0.03)
    assert np.median(np.diff(made.arrival_s)) == pytest.approx(np.log(2), rel=0.3)


class Bursts:
    """Bursts of 40 requests in 2 s, at random times."""

    def times(self, streams: Streams, block: int):  # type: ignore[no-untyped-def]
        generator = streams.stream("workload", "arrivals")
        starts = np.cumsum(generator.exponential(40, 200))
        yield np.sort((starts[:, None] + 2 * generator.random(40)).ravel())


def mixed() -> Requests:
    """Chats at a steady rate with long outputs, and bursts of requests with short ones."""
    chats = Synthetic(Poisson(1.0), Independent(Lognormal(500, 1), Lognormal(300, 0.5)))
    code = Synthetic(Bursts(), Independent(Lognormal(500, 1), Lognormal(20, 0.5)))
    return read_all(Limit(Merge([chats, code]), duration_s=7000).blocks(Streams(2)))


def test_services_with_unlike_bursts(tmp_path: Path) -> None:
    """Short outputs come in bursts; who does not know waits for bursts of long ones."""
    real = mixed()
    profile = fit_profile(real)
    assert profile.long_outputs is not None
    assert profile.requests == len(real)
    save_profile(profile, tmp_path / "mixed.yaml")
    loaded = load_profile(tmp_path / "mixed.yaml")
    assert loaded.long_outputs == profile.long_outputs
    assert loaded.requests == len(real)
    waits = []
    for each in (loaded, fit_profile(real, apart=False)):
        rows = {row.name: row for row in compare(real, each.workload(), range(6), hits=False)}
        waits.append(rows["wait mean"])
        assert rows["KS output_tokens"].made < 0.03
    assert abs(waits[0].error) < 0.35
    assert waits[1].error > 3


def test_lengths_that_do_not_depend_on_bursts() -> None:
    arrival_s = next(Bursts().times(Streams(1), 0))
    generator = np.random.default_rng(1)
    tokens = generator.lognormal(5, 1, (2, len(arrival_s))).astype(np.int64) + 1
    assert fit_profile(block(arrival_s, *tokens)).long_outputs is None


@pytest.mark.parametrize("name", ["input_tokens", "output_tokens"])
def test_lengths_that_are_all_equal_are_one_service(name: str) -> None:
    arrival_s = next(Bursts().times(Streams(1), 0))
    tokens = np.random.default_rng(1).integers(5, 500, len(arrival_s))
    trace = replace(block(arrival_s, tokens, tokens), **{name: np.full(len(arrival_s), 9)})
    profile = fit_profile(trace)
    assert profile.long_outputs is None
    assert set(getattr(read_all(profile.workload().blocks(Streams(0))), name).tolist()) == {9}


def test_long_outputs_go_round_together() -> None:
    """Both kinds begin again together, each as often as in the trace."""
    real = mixed()
    profile = fit_profile(real)
    assert profile.long_outputs is not None
    once = read_all(profile.workload().blocks(Streams(1)))
    twice = read_all(profile.workload(cycles=2).blocks(Streams(1)))
    assert len(once) == len(real)
    assert len(twice) == 2 * len(real)
    assert (np.diff(twice.arrival_s) >= 0).all()
    assert (twice.arrival_s >= profile.duration_s).sum() == len(real)


def burst_of(process: str, n: int = 12_000) -> np.ndarray:
    generator = np.random.default_rng(7)
    if process == "even":
        return np.cumsum(generator.gamma(10, 0.02, n))
    if process == "batches":
        return np.repeat(np.cumsum(generator.exponential(2, n // 10)), 10)
    gaps = np.where(generator.random(n) < 0.02, 8 * generator.exponential(1, n), 0.04)
    return np.cumsum(gaps * generator.exponential(1, n))


@pytest.mark.parametrize("process", ["even", "batches", "on and off"])
def test_counts_are_as_dispersed_at_any_phase(process: str) -> None:
    """Arrivals more even than Poisson, all at once, and smooth within bursts; KS of the gaps."""
    times = burst_of(process)
    n = len(times)
    profile = fit_profile(block(times, np.full(n, 5), np.full(n, 5)))
    made = [read_all(profile.workload().blocks(Streams(seed))).arrival_s for seed in range(4)]
    for window_s in (0.7, 2.3, 9.1):
        found = float(np.mean([dispersion(each, window_s) for each in made]))
        assert found == pytest.approx(dispersion(times, window_s), rel=0.15, abs=0.12), window_s
    if process == "on and off":
        assert np.mean([ks_distance(np.diff(each), np.diff(times)) for each in made]) < 0.12


def test_a_clock_of_whole_seconds_is_spread() -> None:
    """Requests of a second share its time, as in traces that round it; few do, on a slow day."""
    generator = np.random.default_rng(0)
    fine = np.cumsum(generator.exponential(5, 4000))
    assert spread_ticks(fine) is fine
    spread = spread_ticks(np.floor(fine))
    assert np.diff(spread).min() > 0
    assert ks_distance(np.diff(spread), np.diff(fine)) < 0.03
    # batches at whole times of no clock stay together
    batches = np.repeat(fine[:400], 10)
    assert spread_ticks(batches) is batches


@pytest.mark.parametrize(
    "arrival_s",
    [
        np.repeat([0.0, 100.0], 200),
        np.arange(400) * 0.5,
        np.concatenate([np.zeros(399), [1e7]]),
        np.repeat(np.arange(40) * 3.0, 10),
        np.repeat(np.sort(np.random.default_rng(2).random(40)), 10),
        np.sort(np.random.default_rng(1).pareto(0.3, 400)),
    ],
    ids=["two times", "equal gaps", "one late", "ticks", "batches", "heavy tail"],
)
def test_odd_arrivals_make_a_profile(arrival_s: np.ndarray) -> None:
    n = len(arrival_s)
    trace = block(arrival_s.astype(np.float64), np.arange(1, n + 1), np.full(n, 3))
    made = read_all(fit_profile(trace).workload().blocks(Streams(0)))
    assert len(made) == n
    assert made.arrival_s.max() <= (arrival_s[-1] - arrival_s[0]) * 1.2 + 1
