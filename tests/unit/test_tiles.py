"""Staircases of tiles: through every point, within their neighbours, and found in measurements."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infsim.calibrate.fit.linear import best_tiles, left_out
from infsim.cost.calibration import Calibration
from infsim.cost.curves import Curve
from infsim.cost.tiles import CHOICES, GPU, LINES, MOST, Tiles, staircase, work
from infsim.errors import InputError
from tests.calibrations import a_calibration

TOKENS = st.lists(st.integers(1, 9000), min_size=2, max_size=12, unique=True).map(sorted)
MEASURED = (1, 2, 4, 8, 16, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024)


def gpu_s(tokens: int) -> float:
    """A kernel that only sees whole tiles."""
    rows = 8 if tokens <= 16 else 32 if tokens <= 64 else 64
    return 5e-6 + 1e-7 * rows * -(-tokens // rows)


@pytest.mark.parametrize("tiles", CHOICES)
@given(tokens=TOKENS, data=st.data())
def test_staircases_go_through_every_point_and_stay_within_neighbours(
    tiles: Tiles, tokens: list[int], data: Any
) -> None:
    times = data.draw(st.lists(st.floats(1e-6, 1.0), min_size=len(tokens), max_size=len(tokens)))
    curve = staircase(tokens, times, tiles)
    assert [curve.at(m) for m in tokens] == times
    i = data.draw(st.integers(0, len(tokens) - 2))
    at = curve.at(data.draw(st.floats(tokens[i], tokens[i + 1])))
    low, high = sorted(times[i : i + 2])
    assert low * (1 - 1e-9) <= at <= high * (1 + 1e-9)


@pytest.mark.parametrize("tiles", CHOICES)
@given(tokens=TOKENS)
def test_work_rises_with_every_token_and_is_theirs_at_the_end_of_a_tile(
    tiles: Tiles, tokens: list[int]
) -> None:
    works = [work(m, tiles) for m in tokens]
    assert all(b > a for a, b in pairwise(works))
    assert all(w >= m for m, w in zip(tokens, works, strict=True))
    assert work(4096, tiles) == 4096
    # a line between two points is the same whatever they take
    at = staircase((tokens[0], tokens[-1]), (1.0, 3.0), tiles)
    share = (works[1] - works[0]) / (works[-1] - works[0])
    if tokens[-1] < MOST * 4:  # no tile is too small to be drawn
        assert at.at(tokens[1]) == pytest.approx(1 + 2 * share)


@pytest.mark.parametrize(
    "tiles", [[[2, 8]], [[1, 8], [1, 64]], [[1, 8], [64, 0]], [[1, 64], [17, 8]], [[1, 8, 3]]]
)
def test_tiles_that_cannot_be_are_refused(tiles: list[list[int]]) -> None:
    data = a_calibration().to_json()
    data["linear"][0]["tiles"] = tiles
    with pytest.raises(InputError, match=r"tiles must|not coefficients"):
        Calibration.from_json(data)
    data["linear"][0]["tiles"] = [[1, 8], [17, 64]]
    assert Calibration.from_json(data).to_json() == data
    del data["linear"][0]["tiles"]  # of a file from before there were any
    assert Calibration.from_json(data).linears[0].tiles == LINES


def test_the_first_row_of_a_tile_takes_most_of_it() -> None:
    curve = staircase((64, 128), (gpu_s(64), gpu_s(128)), GPU)
    assert curve.at(65) > 0.9 * gpu_s(128)
    assert staircase((64, 128), (1.0, 2.0), LINES) == Curve((64, 128), (1.0, 2.0))


def test_tiles_are_found_in_what_was_measured() -> None:
    stairs = Curve(tuple(map(float, MEASURED)), tuple(map(gpu_s, MEASURED)))
    assert best_tiles([stairs]) == GPU
    i = MEASURED.index(96)
    assert left_out(stairs, i, GPU) == pytest.approx(gpu_s(96), rel=0.06)
    assert left_out(stairs, i, LINES) < 0.85 * gpu_s(96)
    fours = Curve(stairs.x, tuple(1e-6 * (4 * -(-m // 4) + 20) for m in MEASURED))
    assert 4 in {rows for _, rows in best_tiles([fours])}


def test_lines_remain_where_tiles_say_nothing_more() -> None:
    straight = Curve(tuple(map(float, MEASURED)), tuple(1e-5 + 1e-7 * m for m in MEASURED))
    assert best_tiles([straight]) == LINES
    assert best_tiles([Curve((1.0, 8.0), (1.0, 2.0))]) == LINES
