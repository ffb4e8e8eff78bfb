"""Arrivals and lengths have the moments of theory; fits return what they were given."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from numpy.typing import NDArray

from infsim.rng import Streams
from infsim.workload.arrivals import Arrivals, Deterministic, Gamma, Poisson
from infsim.workload.blocks import block, read_all, with_prefixes
from infsim.workload.burstiness import fit_burstiness
from infsim.workload.cascade import SIZES, Cascade
from infsim.workload.fit import fit_profile, quantile_table, segments_needed, spread_ticks
from infsim.workload.lengths import Lognormal, Quantiles, Uniform
from infsim.workload.prefixes import hit_curve
from infsim.workload.rank_grid import RankGrid, bin_edges, fit_drift
from infsim.workload.statistics import (
    autocorrelation,
    describe,
    dispersion,
    ks_distance,
    queue_wait,
)

Floats = NDArray[np.float64]

N = 200_000
U = (np.arange(N) + 0.5) / N
"""Evenly spaced probabilities: the moments of a quantile function without noise."""


def times_of(arrivals: Arrivals, n: int = N, seed: int = 3) -> Floats:
    parts: list[Floats] = []
    for part in arrivals.times(Streams(seed), n):
        parts.append(part)
        if sum(map(len, parts)) >= n:
            break
    return np.concatenate(parts)[:n]


@pytest.mark.parametrize("cv", [0.5, 1.0, 3.0])
def test_gamma_gaps_have_their_rate_and_cv(cv: float) -> None:
    gaps = np.diff(times_of(Gamma(4.0, cv)))
    error = cv / N**0.5
    assert gaps.mean() * 4 == pytest.approx(1, abs=4 * error)
    # the variance of the sample CV of a gamma variable is about (cv**2 + cv**4) / 2n or less
    assert gaps.std() / gaps.mean() == pytest.approx(cv, rel=4 * (1 + cv) / N**0.5)


def test_counts_of_poisson_are_dispersed_as_much_as_their_mean() -> None:
    times = times_of(Poisson(10.0))
    windows = times[-1] / 2
    assert dispersion(times, 2.0) == pytest.approx(1, abs=4 * (2 / windows) ** 0.5)


def test_deterministic_gaps_are_equal() -> None:
    times = times_of(Deterministic(8.0), 1000)
    assert times.tolist() == (np.arange(1000) / 8).tolist()
    assert dispersion(times, 1.0) == 0


def test_waits_of_a_queue_by_hand() -> None:
    """Services of 3, 1, 1 and 1 s from 0, 1, 2 and 10 s on: waits of 0, 2, 2 and 0 s."""
    # load 0.6 makes a unit of work a second: 6 s of work in 10 s
    wait = queue_wait(np.array([0.0, 1, 2, 10]), np.array([3.0, 1, 1, 1]), load=0.6)
    assert wait.mean * 1.5 == pytest.approx(1)


def test_waits_of_the_queue_that_traces_are_judged_by() -> None:
    """M/M/1 at load 0.8: a mean wait of 4 service times; M/D/1: of 2."""
    generator = np.random.default_rng(5)
    times = times_of(Poisson(1.0), N)
    exponential = queue_wait(times, generator.exponential(1, N))
    assert exponential.mean == pytest.approx(4, rel=0.08)
    # P(W > t) = 0.8 exp(-0.2 t)
    assert exponential.p99 == pytest.approx(np.log(80) / 0.2, rel=0.1)
    constant = queue_wait(times, np.ones(N))
    assert constant.mean == pytest.approx(2, rel=0.05)


def test_autocorrelation_of_a_moving_average() -> None:
    """x[n] + x[n-1]: 1/2 at lag 1, nothing beyond."""
    noise = np.random.default_rng(8).normal(size=N)
    values = noise[1:] + noise[:-1]
    found = autocorrelation(values, [1, 2, 10, N])
    assert found[:3] == pytest.approx([0.5, 0, 0], abs=4 / N**0.5)
    assert np.isnan(found[3])


def test_an_lru_cache_drops_what_was_not_used_longest() -> None:
    """Prompts ab, cd, ab, cd: nothing in 2 or 3 blocks, half of all blocks in 4."""
    prompts = np.array([1, 2, 3, 4, 1, 2, 3, 4])
    requests = with_prefixes(block(*np.ones((3, 4))), np.full(4, 2), prompts, 512)
    assert hit_curve(requests, [2, 3, 4, None]) == [0, 0, 0.5, 0.5]
    # the second block alone is no prefix
    tail = with_prefixes(block(*np.ones((3, 2))), np.full(2, 2), np.array([1, 2, 3, 2]), 512)
    assert hit_curve(tail, [None]) == [0]


def test_a_description_of_a_made_trace() -> None:
    times = times_of(Gamma(4.0, 2.0), 50_000)
    lengths = np.tile(np.arange(1, 101), 500)
    described = describe(block(times, lengths, 101 - lengths))
    assert described["requests"] == 50_000
    assert described["rate per s"] == pytest.approx(4, rel=0.04)
    assert described["gap CV"] == pytest.approx(2, rel=0.05)
    assert described["input_tokens p95"] == pytest.approx(95, abs=1)
    assert described["output_tokens mean"] == 50.5
    assert described["rank correlation"] == pytest.approx(-1, abs=0.001)


def test_lognormal_has_its_mean_and_cv() -> None:
    values = Lognormal(300, 0.8).quantile(U)
    assert values.mean() == pytest.approx(300, rel=1e-3)
    assert values.std() / values.mean() == pytest.approx(0.8, rel=5e-3)


def test_truncation_conditions_and_does_not_clip() -> None:
    whole = Lognormal(300, 0.8).quantile(U)
    inside = whole[(whole >= 200) & (whole <= 400)]
    cut = Lognormal(300, 0.8, 200, 400).quantile(U)
    assert cut.mean() == pytest.approx(inside.mean(), rel=1e-3)
    assert ks_distance(cut, inside) < 1e-3


def test_uniform_lengths_come_equally_often() -> None:
    values, counts = np.unique(Uniform(3, 7).tokens(U), return_counts=True)
    assert values.tolist() == [3, 4, 5, 6, 7]
    assert counts.tolist() == [N // 5] * 5


def alike(burstiness: float) -> list[float]:
    """Return the same burstiness for pieces of all sizes."""
    return [burstiness] * (len(SIZES) + 1)


def test_a_cascade_has_the_dispersion_of_its_splits() -> None:
    """With n requests in each window, its halves have the variance n/4 (1 + (n - 1) r)."""
    n, r = 50, 0.2
    times = times_of(Cascade([n] * 20_000, 2.0, [alike(r)]), n * 20_000)
    counts = np.bincount(times.astype(np.int64), minlength=40_000)
    assert counts.reshape(-1, 2).sum(axis=1).tolist() == [n] * 20_000
    assert counts.var() == pytest.approx(n / 4 * (1 + (n - 1) * r), rel=0.03)


def test_a_cascade_without_burstiness_is_poisson_within_its_windows() -> None:
    smooth = times_of(Cascade([100] * 2000, 1.0, [alike(0.0)] * 5), 200_000) % 1.0
    uniform = np.random.default_rng(0).random(200_000)
    assert ks_distance(smooth, uniform) < 1.7 * (2 / 200_000) ** 0.5


def test_fitting_a_cascade_returns_its_burstiness() -> None:
    given = [0.3, 0.05, 0.5, 0.0]
    times = times_of(Cascade([60] * 3000, 8.0, [alike(r) for r in given]), 180_000)
    fitted = fit_burstiness(times, 0.0, 8.0, 3000)
    # of pieces with most requests, which count most
    largest = [row[-1] for row in fitted]
    assert largest[:4] == pytest.approx(given, abs=0.03)
    assert abs(largest[4]) < 0.03


def test_fitting_lengths_returns_their_drift() -> None:
    given = [0.05, 0.0, 0.1]
    n, segments = 200_000, 100
    # ranks decide between bins only, so there are many
    tables = Quantiles([0, 1], [1, 9]), Quantiles([0, 1], [1, 10_000])
    grid = RankGrid(*tables, [independent(*tables, 16)] * segments, 100.0, given)
    arrival_s = np.sort(np.random.default_rng(1).random(n)) * 100
    _, output = grid.sampler(Streams(4))(arrival_s)
    fitted = fit_drift(output, arrival_s / 100, segments, arrival_s.astype(np.int64))
    assert fitted[:3] == pytest.approx(given, abs=0.03)
    assert fitted[1] < 0.01
    assert sum(fitted[3:]) < 0.01


def independent(inputs: Quantiles, outputs: Quantiles, bins: int) -> list[float]:
    """Return weights of cells for lengths that do not depend on each other."""
    widths = [np.diff(bin_edges(table, bins)) for table in (outputs, inputs)]
    return [float(weight) for weight in np.outer(*widths).ravel()]


def test_ranks_stay_uniform_whatever_drifts() -> None:
    tables = Quantiles([0, 1], [1, 9]), Quantiles([0, 1], [1, 10_000])
    grid = RankGrid(*tables, [independent(*tables, 8)] * 500, 500.0, [0.2, 0.1])
    _, output = grid.sampler(Streams(4))(np.linspace(0, 499.9, 100_000))
    # 1000 and more effects instead of 100,000 independent draws
    assert ks_distance(output, np.arange(1, 10_001)) < 0.03


def test_dependence_of_lengths_is_kept() -> None:
    """Cells on the diagonal: long prompts, long outputs."""
    tables = Quantiles([0, 1], [1, 1001]), Quantiles([0, 1], [1, 101])
    edge = float(bin_edges(tables[0], 2)[1])
    grid = RankGrid(*tables, [[edge, 0, 0, 1 - edge]], 1.0)
    inputs, outputs = grid.sampler(Streams(0))(np.zeros(20_000))
    assert ((inputs > 1 + 1000 * edge) == (outputs > 1 + 100 * edge)).mean() > 0.98
    # the share of variance between two bins of a uniform rank
    expected = 3 * edge * (1 - edge)
    assert np.corrcoef(inputs, outputs)[0, 1] == pytest.approx(expected, abs=0.02)


def test_bins_hold_requests_and_tokens_alike() -> None:
    """Of lengths 1 to 99 and one of 4900 in a hundred, half of the tokens, the last bin has few."""
    table = Quantiles([0, 0.99, 0.9901, 1], [1, 100, 4900, 4900])
    edges = bin_edges(table, 4)
    tokens = table.quantile(U)
    for first, last in itertools.pairwise(edges):
        among = (first <= U) & (last > U)
        share = (among.mean() + tokens[among].sum() / tokens.sum()) / 2
        assert share == pytest.approx(0.25, abs=0.01)
    assert edges[-2] > 0.9


def test_a_table_of_quantiles_is_near_its_values() -> None:
    values = np.random.default_rng(2).lognormal(5, 1.2, 50_000).astype(np.int64) + 1
    table = quantile_table(values)
    made = table.tokens(U)
    assert len(table.levels) == 48
    assert made.mean() == pytest.approx(values.mean(), rel=0.01)
    assert ks_distance(made, values) < 0.01
    # few different values: exact with fewer entries
    coin = np.array([1, 100] * 500)
    assert quantile_table(coin).tokens(U).mean() == pytest.approx(50.5, rel=0.01)


def test_only_lengths_that_drift_get_segments() -> None:
    generator = np.random.default_rng(3)
    n = 10_000
    arrival_s = np.sort(generator.random(n))
    steady = generator.lognormal(5, 1, n).astype(np.int64) + 1
    rising = (steady * (1 + arrival_s)).astype(np.int64)
    assert segments_needed(block(arrival_s, steady, steady), arrival_s) == 1
    assert segments_needed(block(arrival_s, steady, rising), arrival_s) > 10


def test_ticks_of_a_coarse_clock_are_spread() -> None:
    fine = times_of(Poisson(10.0), 20_000)
    coarse = np.floor(fine / 3) * 3
    spread = spread_ticks(coarse)
    assert (np.diff(spread) >= 0).all()
    assert dispersion(spread, 1.0) == pytest.approx(1, abs=0.1)
    assert dispersion(coarse, 1.0) > 5
    assert spread_ticks(fine) is fine


def test_fitting_a_made_trace_returns_the_profile() -> None:
    generator = np.random.default_rng(6)
    n = 20_000
    times = times_of(Cascade([n / 100] * 100, 10.0, [alike(0.1), alike(0.02)]), n)
    lengths = generator.lognormal(5, 0.8, (2, n)).astype(np.int64) + 1
    profile = fit_profile(block(times, *lengths), windows=100)
    made = read_all(profile.workload().blocks(Streams(1)))
    again = fit_profile(made, windows=100)
    assert len(profile.cells) == len(again.cells) == 1
    assert sum(again.counts) == n
    # windows end with the last arrival, so their borders differ a little
    assert again.counts == pytest.approx(profile.counts, abs=8)
    for fitted, refitted in zip(profile.burstiness[:2], again.burstiness[:2], strict=True):
        assert refitted[-1] == pytest.approx(fitted[-1], abs=0.04)
    for before, after in (
        (profile.input_tokens, again.input_tokens),
        (profile.output_tokens, again.output_tokens),
    ):
        assert ks_distance(before.tokens(U), after.tokens(U)) < 0.02
