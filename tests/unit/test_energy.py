"""Energy, carbon and cost: integrals against brute force."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infsim.cluster.carbon import CarbonIntensity
from infsim.cluster.device import Device
from infsim.cluster.node import Node, Site
from infsim.cluster.price import ElectricityPrice
from infsim.cost.energy import PowerDraw
from infsim.cost.power import PowerTable
from infsim.errors import InputError


@st.composite
def series(draw: st.DrawFn) -> CarbonIntensity:
    values = draw(st.lists(st.integers(0, 900), min_size=1, max_size=8))
    steps = draw(st.lists(st.integers(1, 50), min_size=len(values), max_size=len(values)))
    start = draw(st.integers(-20, 20))
    starts = [start + sum(steps[:i]) for i in range(len(values))]
    period = sum(steps) if draw(st.booleans()) else None
    return CarbonIntensity([float(s) for s in starts], [float(v) for v in values], period)


@settings(deadline=None)
@given(series(), st.integers(-50, 200), st.integers(0, 100))
def test_integral_is_the_sum_of_the_steps(carbon: CarbonIntensity, start: int, span: int) -> None:
    """All steps are at whole seconds, so that the integral is a sum over seconds."""
    brute = sum(carbon.at(second + 0.5) for second in range(start, start + span))
    assert carbon.integral(start, start + span) == pytest.approx(brute, abs=1e-6)


@settings(deadline=None)
@given(series(), *[st.floats(-50, 300)] * 3)
def test_integrals_add_up(carbon: CarbonIntensity, a: float, b: float, c: float) -> None:
    a, b, c = sorted((a, b, c))
    parts = carbon.integral(a, b) + carbon.integral(b, c)
    assert parts == pytest.approx(carbon.integral(a, c), abs=1e-6)
    assert carbon.integral(a, b) >= 0


def test_a_constant_intensity_is_constant() -> None:
    carbon = CarbonIntensity.constant(56.0)
    assert carbon.is_constant
    assert carbon.at(-1e9) == carbon.at(1e9) == 56.0
    assert carbon.integral(10, 20) == 560.0


def test_a_periodic_series_comes_round() -> None:
    carbon = CarbonIntensity([0.0, 3600.0], [40.0, 60.0], period_s=7200.0)
    assert [carbon.at(t) for t in (0, 3599, 3600, 7200, 10_800, -1)] == [40, 40, 60, 40, 60, 60]
    assert carbon.integral(0, 72_000) == pytest.approx(10 * carbon.integral(0, 7200))


@pytest.mark.parametrize(
    ("starts", "values", "period", "message"),
    [
        ([], [], None, "0 times for 0 values"),
        ([0.0], [1.0, 2.0], None, "1 times for 2 values"),
        ([0.0], [-1.0], None, r"must not be negative, got -1\.0 g/kWh"),
        ([0.0], [float("inf")], None, "inf is not finite"),
        ([0.0, 0.0], [1.0, 1.0], None, "times must increase"),
        ([0.0, 10.0], [1.0, 1.0], 10.0, "longer than its period"),
    ],
)
def test_impossible_series_are_refused(
    starts: list[float], values: list[float], period: float | None, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        CarbonIntensity(starts, values, period)


def test_power_of_a_node_is_that_of_its_devices_and_its_site() -> None:
    device = Device("d", 1, 1.0, {"fp32": 1.0}, idle_w=50.0, active_w=300.0)
    site = Site("s", CarbonIntensity([0.0, 3600.0], [100.0, 400.0]), pue=1.5)
    draw = PowerDraw(Node("n", device, count=2), site)
    assert (draw.idle_w, draw.extra_w(1), draw.extra_w(4096)) == (150.0, 750.0, 750.0)
    # up for two hours, busy in the second one
    assert draw.energy_j(7200, 3600 * 750) == 3600 * 150 + 3600 * 900
    up, busy = site.carbon.integral(0, 7200), site.carbon.integral(3600, 7200)
    assert draw.per_kwh(up, busy * 750) == pytest.approx(0.150 * 100 + 0.900 * 400)


def test_power_follows_the_load_where_it_was_measured() -> None:
    device = Device("d", 1, 1.0, {"fp32": 1.0}, idle_w=50.0, active_w=300.0)
    table = PowerTable("made up", (1.0, 101.0), (150.0, 350.0))
    draw = PowerDraw(Node("n", device, count=2), Site("s", pue=1.5), table)
    assert [draw.extra_w(tokens) for tokens in (1, 51, 101, 9999)] == [300.0, 600.0, 900.0, 900.0]


@pytest.mark.parametrize(
    ("tokens", "power_w", "said"),
    [
        ((), (), "0 loads"),
        ((1.0, 1.0), (100.0, 200.0), "loads must increase"),
        ((1.0, 2.0), (100.0, 0.0), "positive"),
        ((1.0, 2.0), (100.0,), "2 loads: 1"),
    ],
)
def test_impossible_power_tables_are_refused(tokens: Any, power_w: Any, said: str) -> None:
    with pytest.raises(InputError, match=said):
        PowerTable("made up", tokens, power_w)


def test_a_price_may_be_negative() -> None:
    price = ElectricityPrice([0.0, 3600.0], [0.2, -0.3], period_s=7200.0, currency="EUR")
    assert price.integral(0, 7200) == pytest.approx(-360.0)
    assert price.currency == "EUR"


def test_a_short_span_late_in_a_long_series_is_exact() -> None:
    """Four years of hours have sums of 1e10 g s/kWh; of 20 ms, all digits are wanted."""
    hours = 35_064
    carbon = CarbonIntensity(
        [3600.0 * i for i in range(hours)], [400.0 + i % 7 for i in range(hours)]
    )
    start = 3600.0 * (hours - 2) + 1.0
    assert carbon.integral(start, start + 0.02) == carbon.at(start) * ((start + 0.02) - start)
