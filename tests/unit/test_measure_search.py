"""Points are measured where lines between them are least sure, and few where they are straight."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infsim.calibrate.measure.search import CurveSearch
from infsim.calibrate.measure.shapes import TOKENS
from infsim.cost.curves import Curve
from infsim.errors import InputError


def search(
    time: Callable[[int], float], wanted: float, longest_s: float = float("inf")
) -> dict[int, float]:
    """Measure a curve as the search wants it."""
    found = CurveSearch(TOKENS, longest_s)
    measured: dict[int, float] = {}
    while (point := found.next(wanted)) is not None:
        assert point not in measured, "a point is measured once"
        measured[point] = time(point)
        found.add(point, measured[point])
    inside = [x for x in TOKENS if min(measured) <= x <= max(measured)]
    assert found.saved == len(inside) - len(measured)
    return measured


def worst(measured: dict[int, float], time: Callable[[int], float]) -> float:
    """Largest relative error of lines between the measured points."""
    x = tuple(sorted(measured))
    curve = Curve(tuple(map(float, x)), tuple(measured[i] for i in x))
    return max(abs(curve.at(p) / time(p) - 1) for p in TOKENS)


def test_a_straight_line_needs_its_ends_and_one_look_between() -> None:
    assert len(search(lambda x: 1e-3 + 1e-5 * x, 0.05)) == 3


def test_nothing_wanted_but_the_truth_measures_every_point() -> None:
    assert sorted(search(lambda x: 1e-3 + 1e-5 * x, 0.0)) == list(TOKENS)


@given(
    base=st.floats(1e-6, 1e-2),
    token=st.floats(1e-8, 1e-3),
    memory=st.floats(1e-6, 1e-1),
)
def test_a_roofline_is_met_within_the_wanted_error(
    base: float, token: float, memory: float
) -> None:
    def time(x: int) -> float:
        return base + max(memory, token * x)

    measured = search(time, 0.05)
    assert worst(measured, time) <= 0.1
    assert len(measured) < len(TOKENS) / 2


def test_a_step_in_the_small_range_is_found() -> None:
    def time(x: int) -> float:  # more time for 7 tokens than for 8
        return 12.7e-3 if x < 8 else 9.4e-3 + 1e-6 * x

    measured = search(time, 0.05)
    assert {7, 8} <= measured.keys()
    assert worst(measured, time) <= 0.06


def test_points_beyond_the_longest_run_are_left_out() -> None:
    measured = search(lambda x: 1e-4 * x, 0.05, longest_s=0.05)
    assert max(measured) == 448  # the largest point of the grid up to 500


def test_what_grows_slower_than_its_tokens_is_followed_to_the_limit() -> None:
    measured = search(lambda x: 1e-2 + 1e-5 * x, 0.05, longest_s=0.05)
    # 3072 would do, but is out of reach in proportion to what is known on the way
    assert 2048 <= max(measured) <= 4096


def test_points_that_cannot_be_measured_are_not_asked_for_again() -> None:
    found = CurveSearch((1, 2, 3, 4, 5))
    asked = []
    while (point := found.next(0.0)) is not None:
        asked.append(point)
        if point == 3:
            found.give_up(point)
        else:
            found.add(point, float(point**2))
    assert asked.count(3) == 1


def test_a_dip_too_narrow_for_a_search_is_met_where_all_points_are_measured() -> None:
    found = CurveSearch(TOKENS, dense_to=8)
    asked = []
    while (point := found.next(0.05)) is not None:
        asked.append(point)
        found.add(point, 9e-3 if point == 4 else 1e-2 + 1e-6 * point)
    assert set(range(1, 9)) <= set(asked)
    assert len(asked) == len(set(asked)) < 20


@pytest.mark.parametrize("points", [(), (2, 1), (1, 1)])
def test_a_grid_must_increase(points: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="must increase"):
        CurveSearch(points)
