"""Monotone cubics: equal to those of a library, and never beyond their neighbours."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.interpolate import PchipInterpolator

from infsim.cost.monotone import interpolated, refined

axes = st.lists(st.floats(1.0, 1e4), min_size=2, max_size=9, unique=True).map(sorted)


@given(x=axes, data=st.data())
def test_it_is_the_cubic_of_scipy(x: list[float], data: st.DataObject) -> None:
    assume(all(b - a > 1e-3 * b for a, b in pairwise(x)))
    row = st.lists(st.floats(1e-3, 1.0), min_size=len(x), max_size=len(x))
    times = np.array([data.draw(row), data.draw(row)])
    at = np.linspace(x[0], x[-1], 41)
    found = interpolated(np.array(x), times, at)
    assert found == pytest.approx(PchipInterpolator(x, times, axis=1)(at), rel=1e-9, abs=1e-12)


@given(x=axes, data=st.data())
def test_points_stay_and_what_rises_keeps_rising(x: list[float], data: st.DataObject) -> None:
    assume(all(b - a > 1e-3 * b for a, b in pairwise(x)))
    steps = data.draw(st.lists(st.floats(0.0, 1.0), min_size=len(x), max_size=len(x)))
    times = np.cumsum(steps)
    points, found = refined(x, times, 0)
    assert list(found[:: (len(points) - 1) // (len(x) - 1)]) == times.tolist()
    assert all(b >= a - 1e-12 for a, b in pairwise(found.tolist()))


def test_rises_too_small_to_divide_by_are_flat() -> None:
    x = np.array([1.0, 2.0, 3.0])
    times = np.array([0.0, 5e-324, 1.0])
    assert interpolated(x, times, x).tolist() == times.tolist()
