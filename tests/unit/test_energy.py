"""Energy and carbon: integrals against brute force, files against damage."""

from __future__ import annotations

import gzip
from datetime import datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infsim.cluster.carbon import CarbonIntensity
from infsim.cluster.series_file import read_carbon
from infsim.cluster.device import Device
from infsim.cluster.node import Node, Site
from infsim.cost.energy import PowerDraw
from infsim.errors import InputError
from tests.shared_data import shared


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
    draw = PowerDraw.of(Node("n", device, count=2), site)
    assert draw == PowerDraw(150.0, 900.0)
    # up for two hours, busy in the second one
    assert draw.energy_j(7200, 3600) == 3600 * 150 + 3600 * 900
    up, busy = site.carbon.integral(0, 7200), site.carbon.integral(3600, 7200)
    assert draw.per_kwh(up, busy) == pytest.approx(0.150 * 100 + 0.900 * 400)


# --- files ----------------------------------------------------------------------------------

GOOD = "timestamp,carbon_intensity\n2023-01-01 00:00:00,50\n2023-01-01 01:00:00,60.5\n"


def test_a_file_starts_at_its_first_row_or_where_it_is_told(tmp_path: Path) -> None:
    path = tmp_path / "fr.csv"
    path.write_text(GOOD)
    carbon = read_carbon(path)
    assert [carbon.at(t) for t in (0, 3599, 3600, 1e6)] == [50, 50, 60.5, 60.5]
    later = read_carbon(path, start=datetime(2023, 1, 1, 0, 30))
    assert [later.at(t) for t in (0, 1799, 1800)] == [50, 50, 60.5]
    with pytest.raises(InputError, match="2024-01-01 00:00:00 is outside of the series"):
        read_carbon(path, start=datetime(2024, 1, 1))


def test_gzip_and_time_zones_are_read(tmp_path: Path) -> None:
    path = tmp_path / "fr.csv.gz"
    zoned = GOOD.replace(":00:00,", ":00:00+01:00,")
    path.write_bytes(gzip.compress(zoned.encode()))
    assert read_carbon(path).at(3600) == 60.5
    assert read_carbon(path, start=datetime(2023, 1, 1, 1)).at(0) == 60.5


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no rows"),
        ("timestamp,carbon_intensity\n", "no rows"),
        (GOOD + "2023-01-01 02:00:00\n", r":4: expected 2 columns .* got 1"),
        (GOOD + "2023-01-01 02:00:00,x\n", ":4: 'x' is not a number"),
        (GOOD + "2023-01-01 02:00:00,-3\n", ":4: carbon intensity '-3' g/kWh is not possible"),
        (GOOD + "2023-01-01 02:00:00,nan\n", ":4: carbon intensity 'nan'"),
        (GOOD + "1.1.2023,3\n", r":4: '1\.1\.2023' is not a time \(write for example"),
        (GOOD + "2023-01-01 01:00:00,3\n", ":4: time .* is not after"),
        (GOOD + "2023-01-01 02:00:00+00:00,3\n", ":4: .*either all times have a time zone"),
    ],
)
def test_damaged_files_are_refused_with_their_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "carbon.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        read_carbon(path)


def test_files_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "carbon.csv.gz"
    for data in (None, b"not gzip", gzip.compress(GOOD.encode())[:-9], gzip.compress(b"\xff\xfe")):
        if data is not None:
            path.write_bytes(data)
        with pytest.raises(InputError, match="cannot read carbon intensity"):
            read_carbon(path)


def test_real_series() -> None:
    carbon = read_carbon(shared("energy/carbon/FR_2021-2024.csv.gz"))
    year = carbon.integral(0, 365 * 86400) / (365 * 86400)
    assert 40 < year < 90  # France, 2021
