"""Intervals cover what they promise; what is paired is sharper; a transient is found."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infsim.results.statistics import (
    batch_interval,
    holm,
    mser,
    paired_difference,
    t_interval,
)

values = st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=20)


@pytest.mark.parametrize("n", [2, 3, 5, 20])
def test_t_interval_covers_the_mean_as_often_as_it_says(n: int) -> None:
    rng = np.random.default_rng(n)
    covered = 0
    for sample in rng.normal(3.0, 2.0, size=(2000, n)):
        estimate = t_interval(sample)
        covered += estimate.low <= 3.0 <= estimate.high
    # binomial: 95 % of 2000 with a standard deviation of 9.7; four of them
    assert 1861 <= covered <= 1939


def test_t_interval_is_that_of_a_published_example() -> None:
    # Law, Simulation Modeling and Analysis, 5th ed., example 4.26: ten observations give
    # 1.34 ± 0.24 at 90 %
    data = [1.20, 1.50, 1.68, 1.89, 0.95, 1.49, 1.58, 1.55, 0.50, 1.09]
    estimate = t_interval(data, confidence=0.90)
    assert estimate.value == pytest.approx(1.343)
    assert estimate.half_width == pytest.approx(0.24, abs=0.005)


def test_one_value_has_no_interval_and_none_has_no_mean() -> None:
    one = t_interval([4.0])
    assert one.value == 4.0
    assert math.isnan(one.low)
    assert math.isnan(t_interval([]).value)
    assert math.isnan(t_interval([1.0, math.nan]).value)


@given(values)
def test_the_mean_lies_within_its_interval_and_between_the_values(data: list[float]) -> None:
    estimate = t_interval(data)
    assert estimate.low <= estimate.value <= estimate.high
    assert min(data) <= estimate.value <= max(data)


@given(values, st.floats(-100, 100))
def test_an_interval_moves_with_its_values(data: list[float], shift: float) -> None:
    before, after = t_interval(data), t_interval([x + shift for x in data])
    assert after.value == pytest.approx(before.value + shift, abs=1e-6)
    assert after.half_width == pytest.approx(before.half_width, abs=1e-6)


def test_batch_means_cover_where_the_plain_interval_does_not() -> None:
    # first-order autoregression with coefficient 0.8: neighbours resemble one another
    rng = np.random.default_rng(1)
    plain = batched = 0
    for _ in range(300):
        noise = rng.standard_normal(2000)
        series = np.empty(2000)
        series[0] = noise[0] / 0.6
        for i in range(1, 2000):
            series[i] = 0.8 * series[i - 1] + noise[i]
        naive = t_interval(series)
        batches = batch_interval(float(series.mean()), series.reshape(10, 200).mean(axis=1))
        plain += naive.low <= 0 <= naive.high
        batched += batches.low <= 0 <= batches.high
    assert plain < 0.70 * 300  # its 95 % are about 49 %
    assert batched > 0.90 * 300


def test_batches_that_lack_a_value_give_no_interval() -> None:
    assert math.isnan(batch_interval(1.0, [1.0, math.nan, 2.0]).low)
    assert math.isnan(batch_interval(1.0, []).low)


def test_a_paired_difference_is_sharper_than_an_unpaired_one() -> None:
    rng = np.random.default_rng(2)
    common = rng.normal(100, 10, 8)  # what the random numbers do to both alternatives
    one, two = common + rng.normal(0, 0.5, 8), common + 2 + rng.normal(0, 0.5, 8)
    paired = paired_difference(one, two)
    unpaired = math.hypot(t_interval(one).half_width, t_interval(two).half_width)
    assert paired.estimate.low <= 2 <= paired.estimate.high
    assert paired.estimate.half_width < unpaired / 5
    assert paired.p_value < 0.001


def test_a_difference_of_nothing_is_found_as_seldom_as_the_level_says() -> None:
    rng = np.random.default_rng(3)
    samples = rng.normal(0, 1, size=(2000, 2, 5))
    found = sum(paired_difference(one, two).p_value < 0.05 for one, two in samples)
    assert 61 <= found <= 139  # binomial: 100 ± 4 standard deviations


def test_equal_values_do_not_differ_and_a_constant_difference_is_no_noise() -> None:
    assert paired_difference([1.0, 2.0], [1.0, 2.0]).p_value == 1.0
    assert paired_difference([0.1, 0.2], [0.1 + 1e-17, 0.2]).p_value == 1.0
    assert paired_difference([1.0, 2.0], [1.5, 2.5]).p_value == 0.0
    assert paired_difference([1.0], [2.0]).p_value == 1.0  # a single pair tells nothing


def test_unequal_numbers_cannot_be_paired() -> None:
    with pytest.raises(ValueError, match=r"\(2,\) and \(3,\)"):
        paired_difference([1.0, 2.0], [1.0, 2.0, 3.0])


def test_holm_is_that_of_a_worked_example() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_lies_between_no_correction_and_bonferroni(raw: list[float]) -> None:
    adjusted = holm(raw)
    for p, q in zip(raw, adjusted, strict=True):
        assert p <= q <= min(1.0, len(raw) * p) + 1e-12
    order = np.argsort(raw, kind="stable")
    assert np.all(np.diff(np.asarray(adjusted)[order]) >= 0)


def test_holm_keeps_false_marks_below_the_level() -> None:
    rng = np.random.default_rng(4)
    families = rng.uniform(size=(2000, 10))
    marked = sum(min(holm(list(family))) < 0.05 for family in families)
    assert marked <= 139  # 5 % of 2000, and four standard deviations


def test_mser_finds_a_known_transient() -> None:
    rng = np.random.default_rng(5)
    cuts = []
    for _ in range(20):
        series = rng.standard_normal(2000)
        series[:300] += np.linspace(15, 0, 300)  # decays linearly to nothing at 300
        cut = mser(series)
        assert cut.reliable
        cuts.append(cut.index)
        assert abs(series[cut.index :].mean()) < abs(series.mean())
    assert 200 <= np.median(cuts) <= 320


def test_mser_cuts_little_where_there_is_no_transient() -> None:
    rng = np.random.default_rng(6)
    cuts = [mser(rng.standard_normal(2000)).index for _ in range(20)]
    assert np.median(cuts) < 200


def test_mser_says_when_a_run_is_too_short() -> None:
    assert not mser(np.linspace(0, 1, 500)).reliable  # a trend without end
    assert mser([1.0, 2.0]).index == 0
    assert not mser([1.0, 2.0]).reliable
