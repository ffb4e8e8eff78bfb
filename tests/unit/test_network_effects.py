"""How delays vary, what TCP costs, and what access lines carry."""

from __future__ import annotations

from math import exp, inf

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infsim.cluster.networks.access import access_class, access_classes
from infsim.cluster.networks.tcp import SEGMENT_BYTES, Tcp
from infsim.cluster.networks.variation import SlowVariation, VariationModel
from infsim.errors import InputError
from infsim.rng import Streams

sizes = st.floats(1, 1e9)
times = st.floats(1e-4, 1)
rates = st.one_of(st.just(inf), st.floats(1e3, 1e10))

# --- TCP ------------------------------------------------------------------------------------


def test_slow_start_worked_out_by_hand() -> None:
    tcp = Tcp("fresh", initial_window_bytes=10_000, message_overhead_s=0.001)
    # a handshake, then rounds of 10, 20 and 40 kB: the third needs no acknowledgement to end
    assert tcp.extra_s(60_000, 0.1, inf) == pytest.approx(0.001 + 0.1 + 2 * 0.1)
    assert tcp.extra_s(10_000, 0.1, inf) == pytest.approx(0.001 + 0.1)
    # at 1 MB/s the windows take 10 and 20 ms of each round to send; the first segment 1.4 ms more
    stalls = 2 * (0.1 + SEGMENT_BYTES / 1e6) - 0.010 - 0.020
    assert tcp.extra_s(60_000, 0.1, 1e6) == pytest.approx(0.001 + 0.1 + stalls)
    # at 100 kB/s the first window fills the path
    assert tcp.extra_s(60_000, 0.1, 1e5) == pytest.approx(0.001 + 0.1 + 0.1 + 0.01448 - 0.1)


def test_a_kept_connection_costs_its_overhead_only() -> None:
    assert Tcp("kept", message_overhead_s=0.002).extra_s(1e9, 0.2, 1e6) == 0.002


@given(sizes, sizes, times, rates)
def test_a_fresh_connection_costs_a_handshake_at_least_and_more_for_more(
    size: float, other: float, rtt_s: float, rate: float
) -> None:
    tcp = Tcp("fresh", message_overhead_s=0.0)
    less, more = (tcp.extra_s(s, rtt_s, rate) for s in sorted((size, other)))
    assert rtt_s <= less <= more + 1e-12
    # rounds double, so their number grows with the logarithm of the size
    rounds = 1 + max(np.log2(max(size, other) / tcp.initial_window_bytes + 1), 0)
    assert more <= rtt_s + rounds * (rtt_s + SEGMENT_BYTES / rate) + 1e-9


@given(sizes, times, rates)
def test_scaled_times_scale_what_tcp_costs(size: float, rtt_s: float, rate: float) -> None:
    tcp = Tcp("fresh", message_overhead_s=0.0)
    assert tcp.extra_s(size, 2 * rtt_s, rate / 2) == pytest.approx(
        2 * tcp.extra_s(size, rtt_s, rate)
    )


def test_no_more_than_a_window_in_a_round_trip() -> None:
    most = Tcp(window_bytes=1e6).most_bytes_per_s(np.array([[0.0, 0.1], [0.2, 0.0]]))
    assert most.tolist() == [[inf, 1e7], [5e6, inf]]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"window_bytes": 0}, "window_bytes must be positive, got 0"),
        ({"initial_window_bytes": -1}, "initial_window_bytes must be positive"),
        ({"message_overhead_s": -1}, "must not be negative"),
        ({"connection": "new"}, "kept or fresh, not 'new'"),
    ],
)
def test_impossible_tcp_is_refused(wrong: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Tcp(**wrong)  # type: ignore[arg-type]


# --- variation ------------------------------------------------------------------------------

NAMES = [f"node-{i}" for i in range(60)]


def logs(variation: SlowVariation, time_s: float, count: int = 60) -> np.ndarray:
    pairs = [(i, j) for i in range(count) for j in range(i)]
    return np.log([variation.factor(i, j, time_s) for i, j in pairs])


@settings(deadline=None, max_examples=20)
@given(st.lists(st.floats(0, 20_000), min_size=1, max_size=6))
def test_factors_do_not_depend_on_who_asks_for_what_or_when(
    moments: list[float],
) -> None:
    first, second = (SlowVariation(VariationModel(), NAMES[:3], Streams(4)) for _ in range(2))
    asked = {t: first.factor(0, 1, t) for t in moments}
    for t in reversed(moments):
        second.factor(2, 1, t)
        assert second.factor(1, 0, t) == asked[t] > 0


def test_factors_belong_to_names_not_to_numbers() -> None:
    one = SlowVariation(VariationModel(), ["a", "b"], Streams(1))
    other = SlowVariation(VariationModel(), ["new", "b", "a"], Streams(1))
    assert one.factor(0, 1, 500.0) == other.factor(1, 2, 500.0)
    again = SlowVariation(VariationModel(), ["a", "b"], Streams(1, replication=1))
    assert one.factor(0, 1, 500.0) != again.factor(0, 1, 500.0)


def test_the_mean_factor_is_one_and_factors_hold_for_a_step() -> None:
    model = VariationModel(end_sigma=0, pair_sigma=0, end_spread=0.2, pair_spread=0.3, step_s=1e4)
    variation = SlowVariation(model, NAMES, Streams(0))
    assert variation.factor(0, 1, 0.0) == variation.factor(0, 1, 9999.0)
    assert variation.factor(0, 1, 0.0) != variation.factor(0, 1, 1e4)
    values = np.exp([logs(variation, t * 2e4) for t in range(4)])
    # 7,080 values of a standard deviation of .42, correlated by their ends
    assert values.mean() == pytest.approx(1, abs=0.05)


def test_correlation_falls_as_told() -> None:
    model = VariationModel(end_spread=0, pair_sigma=0, pair_spread=0.3, correlation_s=600)
    variation = SlowVariation(model, NAMES, Streams(0))
    start = logs(variation, 0.0)
    for later_s in (300.0, 600.0, 1200.0):
        found = np.corrcoef(start, logs(variation, later_s))[0, 1]
        assert found == pytest.approx(exp(-later_s / 600), abs=0.07)


def test_a_daily_swing_peaks_when_told() -> None:
    model = VariationModel(
        end_spread=0, pair_spread=0, daily_swing=0.5, peak_s=20 * 3600.0, step_s=1.0
    )
    variation = SlowVariation(model, NAMES, Streams(0))
    assert variation.factor(0, 1, 20 * 3600.0) == pytest.approx(1.5)
    assert variation.factor(0, 1, 8 * 3600.0) == pytest.approx(0.5)


@pytest.mark.parametrize(
    "wrong", [{"step_s": 0}, {"pair_spread": -1}, {"end_share": 2}, {"daily_swing": 1}]
)
def test_impossible_variations_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(InputError, match=next(iter(wrong))):
        VariationModel(**wrong)


# --- access lines ---------------------------------------------------------------------------


def test_access_lines_are_drawn_by_name_around_their_median() -> None:
    home = access_class("home-uk")
    lines = np.array([home.draw(Streams(0), f"home-{i}") for i in range(2000)])
    assert home.draw(Streams(0), "home-7") == tuple(lines[7])
    medians = [home.up_bytes_per_s, home.down_bytes_per_s]
    assert np.median(lines, axis=0) == pytest.approx(medians, rel=0.06)
    assert np.log(lines).std(axis=0) == pytest.approx([home.up_sigma, home.down_sigma], rel=0.05)
    # Ofcom: 88 % of lines reach 30 Mbit/s, 3 % stay below 10 Mbit/s
    assert (lines[:, 1] >= 30e6 / 8).mean() == pytest.approx(0.88, abs=0.06)
    assert (lines[:, 1] < 10e6 / 8).mean() == pytest.approx(0.03, abs=0.03)


def test_every_access_class_says_where_it_comes_from() -> None:
    for name, line in access_classes().items():
        assert line.source, name
        assert 0 < line.up_bytes_per_s <= line.down_bytes_per_s
    with pytest.raises(InputError, match="unknown access class 'home-cabel'; did you mean 'home-c"):
        access_class("home-cabel")
