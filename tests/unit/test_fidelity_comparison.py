"""Laws of comparing recorded with simulated times."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infsim.fidelity.comparison import Part, medians, times
from infsim.fidelity.runs import compare_run
from infsim.fidelity.served import TIMES, Recording
from tests.recordings import small

SECONDS = st.floats(1e-3, 1e3)
REQUESTS = st.lists(
    st.tuples(SECONDS, SECONDS, SECONDS, st.integers(1, 500)), min_size=1, max_size=40
)


def latencies(requests: list[tuple[float, float, float, int]], scale: float = 1.0) -> Any:
    arrival_s, wait_s, rest_s, tokens = (np.array(column) for column in zip(*requests, strict=True))
    first_s = arrival_s + wait_s
    end_s = first_s + np.where(tokens > 1, rest_s, 0.0)
    return times(scale * arrival_s, scale * first_s, scale * end_s, tokens)


@given(REQUESTS)
def test_a_run_has_no_error_against_itself(requests: list[Any]) -> None:
    same = latencies(requests)
    assert {row.error for row in Part("", same, same).rows} == {0.0}


@given(REQUESTS, st.floats(0.1, 10))
def test_a_slower_simulation_is_as_much_off_in_every_figure(
    requests: list[Any], scale: float
) -> None:
    for row in Part("", latencies(requests), latencies(requests, scale)).rows:
        off = abs(scale - 1) if row.name.endswith("MAPE") else scale - 1
        assert row.error == pytest.approx(off, abs=1e-6)


@given(REQUESTS, REQUESTS, st.floats(0.1, 10))
def test_errors_do_not_depend_on_the_unit_of_time(
    requests: list[Any], others: list[Any], scale: float
) -> None:
    count = min(len(requests), len(others))
    # lengths are those of the request, in the simulation too
    others = [(*b[:3], a[3]) for a, b in zip(requests[:count], others[:count], strict=True)]
    plain = Part("", latencies(requests[:count]), latencies(others)).rows
    scaled = Part("", latencies(requests[:count], scale), latencies(others, scale)).rows
    for one, other in zip(plain, scaled, strict=True):
        assert other.error == pytest.approx(one.error, rel=1e-6, abs=1e-6)
        assert other.real == pytest.approx(scale * one.real, rel=1e-9)


@given(REQUESTS, st.randoms(use_true_random=False))
def test_the_order_of_requests_does_not_matter(requests: list[Any], random: Any) -> None:
    shuffled = random.sample(requests, len(requests))
    made = [(a, 1.1 * b, c, n) for a, b, c, n in requests]
    made_shuffled = [(a, 1.1 * b, c, n) for a, b, c, n in shuffled]
    plain = Part("", latencies(requests), latencies(made)).rows
    other = Part("", latencies(shuffled), latencies(made_shuffled)).rows
    for one, two in zip(plain, other, strict=True):
        assert two.error == pytest.approx(one.error, abs=1e-9)


@given(REQUESTS, st.floats(1.5, 10))
def test_one_slow_repeat_of_three_does_not_count(requests: list[Any], slower: float) -> None:
    usual, slow = latencies(requests), latencies(requests, slower)
    rows = Part("", usual, medians([usual, slow, usual])).rows
    assert {row.error for row in rows} == {0.0}


def test_figures_are_those_of_hand() -> None:
    """Three requests, of which the last has one token, and so no TPOT."""
    real = times(np.zeros(3), np.array([1.0, 2, 3]), np.array([3.0, 8, 3]), np.array([3, 4, 1]))
    made = times(np.zeros(3), np.array([1.0, 3, 3]), np.array([2.0, 9, 3]), np.array([3, 4, 1]))
    rows = {row.name: row for row in Part("", real, made).rows}
    assert rows["TTFT mean"].error == pytest.approx(7 / 6 - 1)
    assert rows["TTFT P50"].error == pytest.approx(0.5)
    assert rows["TTFT MAPE"].error == pytest.approx(0.5 / 3)
    assert rows["TPOT mean"].real == pytest.approx(1.5)
    assert rows["TPOT mean"].error == pytest.approx(1.25 / 1.5 - 1)
    assert rows["E2E P99"].real == pytest.approx(3 + 0.98 * 5)


def test_what_the_simulator_recorded_it_meets(tmp_path: Path) -> None:
    """But for times that are recorded in whole microseconds."""
    recording = Recording.load(small(tmp_path, 4))  # slower: a microsecond is less of it
    table = pq.read_table(tmp_path / "requests.parquet")
    columns = {name: table[name].to_numpy().copy() for name in table.column_names}
    for load, time in product((0.0, 0.3), TIMES):
        (requests,) = recording.runs(load, time)
        made = recording.simulated(requests).requests
        own = np.isclose(columns["load"], load) & (columns["time"] == time)
        parts_s = np.diff(
            [made[f"{n}_s"] for n in ("arrival", "start", "first_token", "end")], axis=0
        )
        for name, part_s in zip(("queue_us", "prefill_us", "decode_us"), parts_s, strict=True):
            columns[name][own] = np.rint(1e6 * part_s)
    pq.write_table(pa.table(columns), tmp_path / "requests.parquet")
    (comparison,) = compare_run(tmp_path)
    assert comparison.capacity is not None
    assert len(comparison.rows) == 1 + 18
    assert max(abs(row.error) for row in comparison.rows) < 1e-3
    assert recording.repeated() != [0.0] * len(recording.repeated())
    assert not any(Recording.load(tmp_path).repeated())


def test_errors_do_not_change_where_the_machine_is_twice_as_slow(tmp_path: Path) -> None:
    found = []
    for name, scale in (("as-it-was", 1), ("slow", 2)):
        (tmp_path / name).mkdir()
        (comparison,) = compare_run(small(tmp_path / name, scale))
        found.append([row.error for row in comparison.rows])
    assert found[1] == pytest.approx(found[0], abs=1e-9)
