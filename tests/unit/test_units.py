"""Quantities with units: round trips, and errors that help."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infsim.units import DIMENSIONS, UnitError, format_exact, format_quantity, parse

AMOUNTS = st.floats(min_value=1e-9, max_value=1e15)
WITH_UNITS = sorted(set(DIMENSIONS) - {"fraction", "count"})


@pytest.mark.parametrize(
    ("text", "dimension", "expected"),
    [
        ("40 ms", "time", 0.04),
        ("1.5h", "time", 5400.0),
        ("2 days", "time", 172800.0),
        ("24 GiB", "memory", 24 * 2**30),
        ("24 GB", "memory", 24e9),
        ("25 Gbit/s", "bandwidth", 3.125e9),
        ("25 Gbps", "bandwidth", 3.125e9),
        ("2 GiB/s", "bandwidth", 2.0**31),
        ("unlimited", "bandwidth", math.inf),
        ("3.2 /s", "rate", 3.2),
        ("90 req/min", "rate", 1.5),
        ("300 W", "power", 300.0),
        ("1.2 kWh", "energy", 4.32e6),
        ("312 TFLOP/s", "flops", 3.12e14),
        ("660 TOPS", "flops", 6.6e14),
        ("56 g/kWh", "carbon_intensity", 56.0),
        ("56 kg/MWh", "carbon_intensity", 56.0),
        ("80 EUR/MWh", "price", 0.08),
        ("-500 EUR/MWh", "price", -0.5),
        ("120 km", "distance", 120e3),
        ("80 %", "fraction", 0.8),
        (0.8, "fraction", 0.8),
        ("16k", "count", 16000.0),
        ("7B", "count", 7e9),
        (12, "count", 12.0),
        (0, "time", 0.0),
    ],
)
def test_parse(text: str | float, dimension: str, expected: float) -> None:
    # correctly rounded: 40 ms is the float 0.04, not 40 * 0.001 with its rounding error
    assert parse(text, dimension) == expected


@pytest.mark.parametrize(
    ("value", "dimension", "said"),
    [
        ("24 GBit", "memory", "did you mean 'GB'"),
        ("10 GB", "bandwidth", "not a unit of bandwidth"),
        ("3 sec", "time", "did you mean 's'"),
        ("3", "time", "has no unit; write a time such as 40 ms"),
        (3.5, "time", "has no unit"),
        ("-3 s", "time", "negative"),
        ("-3 g/kWh", "carbon_intensity", "negative"),
        ("fast", "time", "'fast' is not a time"),
        ("nan s", "time", "not a time"),
        ("", "time", "not a time"),
        (True, "time", "True is not a time"),
        ("1.5", "count", "not whole"),
        ("120 %", "fraction", "more than 1"),
        ("unlimited", "memory", "not a memory"),
        ("40 MS", "time", "not a unit of time"),
    ],
)
def test_what_is_no_quantity_is_refused(value: str | float, dimension: str, said: str) -> None:
    with pytest.raises(UnitError, match=said):
        parse(value, dimension)


def test_large_and_small_prefixes_are_told_apart_by_case() -> None:
    assert parse("1 MW", "power") == 1e9 * parse("1 mW", "power")


@given(AMOUNTS, st.sampled_from(WITH_UNITS))
def test_format_exact_is_undone_by_parse(value: float, dimension: str) -> None:
    assert parse(format_exact(value, dimension), dimension) == value


@given(AMOUNTS, st.sampled_from(WITH_UNITS), st.integers(2, 6))
def test_format_quantity_keeps_its_digits(value: float, dimension: str, digits: int) -> None:
    text = format_quantity(value, dimension, digits)
    assert parse(text, dimension) == pytest.approx(value, rel=10.0 ** (1 - digits), abs=1e-12)


@given(st.integers(1, 999), st.sampled_from(WITH_UNITS), st.data())
def test_what_people_write_comes_back_no_longer(
    number: int, dimension: str, data: st.DataObject
) -> None:
    unit = data.draw(st.sampled_from(DIMENSIONS[dimension].shown))
    text = str(format_exact(parse(f"{number} {unit}", dimension), dimension))
    assert len(text.split()[0]) <= len(str(number))


@pytest.mark.parametrize(
    ("value", "dimension", "text"),
    [
        (0.0123, "time", "12.3 ms"),
        (-0.0123, "time", "-12.3 ms"),
        (90.0, "time", "90.0 s"),
        (7200.0, "time", "2.00 h"),
        (4.5e9, "memory", "4.19 GiB"),
        (0.0, "memory", "0 B"),
        (3.125e9, "bandwidth", "25.0 Gbit/s"),
        (0.934, "fraction", "93.4 %"),
        (12345.0, "count", "12.3k"),
        (7.0, "count", "7.00"),
        (0.25, "price", "0.250/kWh"),
        (-0.25, "price", "-0.250/kWh"),
        (math.inf, "bandwidth", "unlimited"),
        (math.nan, "time", "nan"),
    ],
)
def test_format_quantity(value: float, dimension: str, text: str) -> None:
    assert format_quantity(value, dimension) == text
