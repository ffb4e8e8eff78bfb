"""What is known of a made trace comes back from its fit; shaping keeps what it must keep."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infsim.rng import Streams
from infsim.workload.arrivals import Arrivals, Gamma, Poisson
from infsim.workload.blocks import read_all, resize
from infsim.workload.cascade import Cascade
from infsim.workload.compare import compare
from infsim.workload.distances import block_bootstrap, half_distances, self_distances
from infsim.workload.fit import fit_profile
from infsim.workload.lengths import Independent, Lognormal
from infsim.workload.merge import Merge
from infsim.workload.requests import Requests, Workload
from infsim.workload.statistics import describe, dispersion, ks_distance, queue_wait, service
from infsim.workload.synthetic import Synthetic
from infsim.workload.transform import Cut, Limit, Rescale

LENGTHS = Independent(Lognormal(900, 1.1, high=20_000), Lognormal(180, 0.7))
N = 12_000


def made(arrivals: Arrivals, seed: int = 0, n: int = N) -> Requests:
    return requests_of(Limit(Synthetic(arrivals, LENGTHS), requests=n), seed)


def requests_of(workload: Workload, seed: int = 0) -> Requests:
    return read_all(workload.blocks(Streams(seed)))


@dataclass(frozen=True)
class Given:
    requests: Requests

    def blocks(self, streams: Streams) -> Iterator[Requests]:
        return resize([self.requests], 1000)


# --- fits -----------------------------------------------------------------------------------


@pytest.mark.parametrize("cv", [1.0, 3.0])
def test_a_fitted_renewal_process_has_its_rate_and_dispersion(cv: float) -> None:
    real = made(Gamma(4.0, cv))
    profile = fit_profile(real)
    assert sum(profile.counts) == len(real)
    assert profile.duration_s == pytest.approx(real.arrival_s[-1] - real.arrival_s[0])
    again = [describe(requests_of(profile.workload(), seed)) for seed in range(8)]
    expected = describe(real)
    for name in ("dispersion 1 s", "dispersion 10 s", "dispersion 60 s"):
        values = np.array([each[name] for each in again])
        # that of the trace itself is uncertain by about sqrt(2 / windows)
        windows = real.arrival_s[-1] / float(name.split()[1])
        allowed = 4 * (values.std() + expected[name] * (2 / windows) ** 0.5)
        assert values.mean() == pytest.approx(expected[name], abs=allowed)
    # counts of a renewal process are dispersed by the squared CV of its gaps, in long windows
    assert np.mean([each["dispersion 60 s"] for each in again]) == pytest.approx(cv**2, rel=0.4)


def test_a_fitted_rate_that_changes_comes_back() -> None:
    """Windows of 100 and of 20 requests a minute, by turns of ten minutes."""
    counts = [*[100] * 10, *[20] * 10] * 4
    real = made(Cascade(counts, 60.0, []), n=sum(counts))
    profile = fit_profile(real, windows=80)
    # the fit begins with the first request, not with the window
    assert np.array(profile.counts) == pytest.approx(np.array(counts), abs=6)


def test_fitted_lengths_come_back() -> None:
    real = made(Poisson(4.0))
    again = requests_of(fit_profile(real).workload(), seed=5)
    noise = 1.36 * (2 / N) ** 0.5  # 95 % of the distances of equal distributions are below
    for name in ("input_tokens", "output_tokens"):
        assert ks_distance(getattr(real, name), getattr(again, name)) < 1.5 * noise
        assert getattr(again, name).mean() == pytest.approx(getattr(real, name).mean(), rel=0.04)


def test_a_profile_is_as_far_from_its_trace_as_noise() -> None:
    real = made(Poisson(4.0))
    rows = {row.name: row for row in compare(real, fit_profile(real).workload(), range(5))}
    for name in ("KS input_tokens", "KS output_tokens", "KS gaps"):
        assert rows[name].made < 1.6 * rows[name].real
    assert rows["wait mean"].made == pytest.approx(rows["wait mean"].real, rel=0.3)


# --- distances ------------------------------------------------------------------------------


def test_a_trace_is_from_itself_as_far_as_two_samples_of_its_distribution() -> None:
    """Of independent values: the mean of Kolmogorov's distribution, times sqrt(2/n)."""
    expected = 0.8687 * (2 / N) ** 0.5
    for name, distance in self_distances(made(Poisson(4.0))).items():
        assert distance == pytest.approx(expected, rel=0.25), name


def test_runs_that_are_alike_make_a_trace_more_uncertain() -> None:
    real = made(Poisson(4.0))
    # 100 requests with the same lengths, one after the other
    alike = replace(real, input_tokens=np.repeat(real.input_tokens[: N // 100], 100))
    one, other = (self_distances(each)["KS input_tokens"] for each in (alike, real))
    assert one > 5 * other


def test_drift_is_a_distance_of_halves() -> None:
    real = made(Poisson(4.0))
    still = half_distances(real)["KS halves output_tokens"]
    assert still < 1.63 * (4 / N) ** 0.5
    longer = np.where(np.arange(N) < N // 2, real.output_tokens, 10 * real.output_tokens)
    assert half_distances(replace(real, output_tokens=longer))["KS halves output_tokens"] > 0.8


@given(st.integers(1, 200), st.integers(0, 9))
def test_a_bootstrap_draws_as_many_in_runs(n: int, seed: int) -> None:
    drawn = block_bootstrap(np.arange(n), np.random.default_rng(seed))
    assert len(drawn) == n
    assert set(drawn.tolist()) <= set(range(n))
    if n >= 9:
        follows = np.isin(np.diff(drawn.astype(np.int64)), (1, 1 - n))
        assert follows.mean() > 0.5


# --- shaping --------------------------------------------------------------------------------


@settings(deadline=None, max_examples=15)
@given(st.floats(0.05, 20), st.sampled_from([0.7, 1.0, 4.0]), st.integers(0, 3))
def test_another_rate_keeps_burstiness_and_waits(factor: float, cv: float, seed: int) -> None:
    """All that a queue sees is the same, in units of time that are stretched as well."""
    real = made(Gamma(4.0, cv), seed, 2000)
    scaled = requests_of(Rescale(Given(real), rate_per_s=4.0 * factor))
    stretch = (scaled.arrival_s[-1] - scaled.arrival_s[0]) / (
        real.arrival_s[-1] - real.arrival_s[0]
    )
    # a window of a half more than whole units: no arrival is on an edge
    assert dispersion(scaled.arrival_s, 7.3 * stretch) == pytest.approx(
        dispersion(real.arrival_s, 7.3), rel=0.01
    )
    waits = [queue_wait(each.arrival_s, service(each)) for each in (real, scaled)]
    assert waits[1] == pytest.approx(waits[0])


def test_superposition_adds_rates_and_tokens_and_calms() -> None:
    """Bursts of many independent sources wash out: the dispersion stays, that of gaps falls."""
    parts = [Limit(Synthetic(Gamma(0.5, 4.0), LENGTHS), requests=1500) for _ in range(12)]
    merged = requests_of(Merge(parts))
    assert len(merged) == 12 * 1500
    whole = requests_of(Cut(Given(merged), 0, 2000.0))
    assert len(whole) / 2000 == pytest.approx(6.0, rel=0.15)
    single = requests_of(parts[0])
    cvs = [describe(each)["gap CV"] for each in (single, whole)]
    assert cvs[0] == pytest.approx(4, rel=0.15)
    assert cvs[1] < 0.8 * cvs[0]
    assert dispersion(whole.arrival_s, 60) == pytest.approx(
        np.mean([dispersion(requests_of(p, 1 + i).arrival_s, 60) for i, p in enumerate(parts)]),
        rel=0.5,
    )
