"""Churn: distributions against their theory, renewal processes, traces."""

from __future__ import annotations

from itertools import islice
from math import exp, inf, log, sqrt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infsim.cluster.availability import (
    AlwaysUp,
    Availability,
    Duration,
    Exponential,
    Lognormal,
    Renewal,
    TraceAvailability,
    Weibull,
)
from infsim.errors import InputError
from infsim.rng import Streams

DURATIONS = [
    Exponential(30.0),
    Weibull(0.6, 20.0),
    Weibull.from_mean(30.0, 2.0),
    Lognormal(2.0, 1.0),
    Lognormal.from_mean(30.0, 0.5),
    Lognormal.from_median(30.0, 0.7),
]


def _second_moment(duration: Duration) -> float:
    """E[X^2] of the distribution, from its textbook formula."""
    from math import gamma

    match duration:
        case Exponential(mean):
            return 2 * mean**2
        case Weibull(shape, scale):
            return scale**2 * gamma(1 + 2 / shape)
        case Lognormal(mu, sigma):
            return exp(2 * mu + 2 * sigma**2)
    raise AssertionError(duration)


def _draws(draw: object, n: int = 40_000) -> np.ndarray:
    rng = np.random.default_rng(7)
    return np.array([draw(rng) for _ in range(n)])  # type: ignore[operator]


@pytest.mark.parametrize("duration", DURATIONS, ids=str)
def test_draws_have_the_mean_and_variance_of_the_distribution(duration: Duration) -> None:
    x = _draws(duration.draw)
    mean, second = duration.mean_s, _second_moment(duration)
    deviation = sqrt(second - mean**2)
    assert abs(x.mean() - mean) < 5 * deviation / sqrt(len(x))
    assert x.std() == pytest.approx(deviation, rel=0.15)
    assert (x > 0).all()


@pytest.mark.parametrize("duration", DURATIONS, ids=str)
def test_length_biased_and_residual_draws_follow_renewal_theory(duration: Duration) -> None:
    """A random moment falls into a duration of mean E[X^2]/E[X], half of which is left."""
    covering = _second_moment(duration) / duration.mean_s
    x, rest = _draws(duration.draw_length_biased), _draws(duration.draw_residual)
    assert abs(x.mean() - covering) < 6 * x.std() / sqrt(len(x))
    assert abs(rest.mean() - covering / 2) < 6 * rest.std() / sqrt(len(rest))


def test_parameters_by_mean_give_that_mean() -> None:
    for duration in (Weibull.from_mean(42.0, 0.4), Lognormal.from_mean(42.0, 2.0)):
        assert duration.mean_s == pytest.approx(42.0)
    assert log(Lognormal.from_median(42.0, 2.0).mean_s) == pytest.approx(log(42) + 2)


def test_figures_of_volunteer_hosts() -> None:
    """Constants used by volunteer-computing simulators: means 10.35 and 31.76 hours."""
    hour = 3600.0
    assert Weibull(0.393, 2.964 * hour).mean_s / hour == pytest.approx(10.35, abs=0.01)
    down = Lognormal(-0.586 + log(hour), 2.844)
    assert down.mean_s / hour == pytest.approx(31.76, abs=0.02)


# --- processes ------------------------------------------------------------------------------


def _up_fraction(availability: Availability, horizon: float, seed: int) -> float:
    down = 0.0
    for start, end, _ in availability.outages(Streams(seed), "node"):
        if start >= horizon:
            break
        down += min(end, horizon) - start
    return 1 - down / horizon


@pytest.mark.parametrize("stationary", [True, False])
def test_long_run_fraction_is_mtbf_over_mtbf_plus_mttr(stationary: bool) -> None:
    model = Renewal(Weibull.from_mean(50.0, 0.8), Lognormal.from_mean(20.0, 0.8), stationary)
    assert model.expected_fraction == 50 / 70
    fractions = [_up_fraction(model, 20_000.0, seed) for seed in range(40)]
    error = np.std(fractions) / sqrt(len(fractions))
    assert abs(np.mean(fractions) - 50 / 70) < 5 * error + 0.002


def test_a_stationary_process_looks_the_same_at_every_moment() -> None:
    """P(up) at time 0 and soon after is the long-run fraction; otherwise it starts up."""
    model = Renewal(Weibull.from_mean(50.0, 0.5), Exponential(50.0), stationary=True)
    fresh = Renewal(model.up, model.down, stationary=False)

    def up_at(process: Renewal, time: float) -> float:
        return float(np.mean([_is_up(process, time, seed) for seed in range(4000)]))

    for time in (0.0, 5.0, 40.0):
        assert up_at(model, time) == pytest.approx(0.5, abs=0.04)
    assert up_at(fresh, 0.0) == 1.0
    assert up_at(fresh, 5.0) < 0.9


def _is_up(process: Renewal, time: float, seed: int) -> bool:
    for start, end, _ in process.outages(Streams(seed), "node"):
        if time < start:
            return True
        if time < end:
            return False
    return True


@settings(deadline=None)
@given(st.sampled_from(DURATIONS), st.sampled_from(DURATIONS), st.booleans(), st.integers(0, 2**32))
def test_outages_are_increasing_disjoint_and_repeatable(
    up: Duration, down: Duration, stationary: bool, seed: int
) -> None:
    model = Renewal(up, down, stationary)
    first, again = (list(islice(model.outages(Streams(seed), "node"), 50)) for _ in range(2))
    assert first == again
    edges = [edge for outage in first for edge in outage[:2]]
    assert edges[0] >= 0
    assert edges == sorted(edges)
    assert all(start < end for start, end, _ in first)


def test_always_up() -> None:
    assert list(AlwaysUp().outages(Streams(0), "node")) == []
    assert AlwaysUp().expected_fraction == 1.0


# --- traces ---------------------------------------------------------------------------------

intervals = st.lists(st.floats(0, 1e6), unique=True, max_size=12).map(
    lambda edges: tuple(zip(sorted(edges)[::2], sorted(edges)[1::2], strict=False))
)


@settings(deadline=None)
@given(intervals)
def test_uptimes_and_outages_are_complements(up: tuple[tuple[float, float], ...]) -> None:
    outages = TraceAvailability.from_uptimes(up).intervals
    total = sum(end - start for start, end in up)
    horizon = 2e6
    down = sum(min(end, horizon) - start for start, end in outages)
    assert total + down == pytest.approx(horizon)
    assert outages[-1][1] == inf
    edges = [edge for interval in outages for edge in interval]
    assert edges == sorted(edges)


def test_uptimes_that_touch_are_joined() -> None:
    trace = TraceAvailability.from_uptimes([(0, 5), (5, 10), (20, inf)])
    assert list(trace.intervals) == [(10, 20)]
    assert list(trace.outages(Streams(0), "node")) == [(10, 20, 0)]
    assert trace.expected_fraction is None
    assert list(TraceAvailability.from_uptimes([]).intervals) == [(0, inf)]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([(5, 1)], r"interval 0: \(5 s, 1 s\) must start at 0 or later and end after"),
        ([(-1, 1)], "interval 0"),
        ([(3, 3)], "interval 0"),
        ([(float("nan"), 3)], "interval 0"),
        ([(0, 5), (4, 6)], "interval 1: it starts at 4 s, before the one before it ended"),
        ([(7, 8), (1, 2)], "interval 1"),
    ],
)
def test_impossible_traces_are_refused(given: list[tuple[float, float]], message: str) -> None:
    with pytest.raises(InputError, match=message):
        TraceAvailability(tuple(given))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Exponential(0), "exponential mean must be positive and finite, got 0"),
        (lambda: Weibull(-1, 1), "Weibull shape must be positive"),
        (lambda: Weibull.from_mean(1, 0), "Weibull shape must be positive"),
        (lambda: Weibull(1, inf), "Weibull scale must be positive"),
        (lambda: Lognormal(inf, 1), "lognormal mu must be finite, got inf"),
        (lambda: Lognormal(0, 0), "lognormal sigma must be positive"),
        (lambda: Weibull(0.001, 1), r"Weibull shape must be at least 0\.05, got 0\.001"),
        (lambda: Lognormal(0, 30), "lognormal sigma must be at most 20, got 30"),
        (lambda: Lognormal.from_mean(-3, 1), "lognormal mean must be positive"),
        (lambda: Lognormal.from_median(0, 1), "lognormal median must be positive"),
    ],
)
def test_impossible_distributions_are_refused(make: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()  # type: ignore[operator]
