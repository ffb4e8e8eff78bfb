"""Repeats beside two references: what they would have taken at the usual pace."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from infsim.calibrate.measure import bench as bench_module
from infsim.calibrate.measure.bench import Bench, Pace, Reading, References, Repeat, Timer
from infsim.calibrate.measure.kernel import Case
from tests.benches import MadeUpClock, bench, claimed


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_module, "PAUSE_S", 0.0)


def made_up(slow: list[Pace], memory: float) -> Reading:
    """A point of which a share of the time at the usual pace waits for memory."""
    repeats = [Repeat(p.memory_s**memory * p.arithmetic_s ** (1 - memory), p) for p in slow]
    return Reading((tuple(repeats),), Pace(1.0, 1.0), memory)


@pytest.mark.parametrize("memory", [0.0, 0.4, 1.0])
def test_what_reads_weights_slows_down_with_memory_and_the_rest_with_arithmetic(
    memory: float,
) -> None:
    rng = np.random.default_rng(0)
    slow = [Pace(*rng.uniform(0.8, 1.3, 2)) for _ in range(200)]
    point = made_up(slow, memory)
    assert point.time_s == pytest.approx(1.0, rel=0.02)
    wrong = replace(point, memory=0.0 if memory > 0.5 else 1.0)
    assert wrong.spread_s > 5 * point.spread_s


def test_each_round_counts_as_one() -> None:
    """Of many repeats in one state of the machine, and few in others."""
    still = Pace(1.0, 1.0)
    rounds = [[1.0] * 15, [1.2] * 3, [1.3] * 3]
    point = Reading(tuple(tuple(Repeat(t, still) for t in each) for each in rounds), still)
    assert point.time_s == 1.2
    assert point.spread_s == pytest.approx(np.std([1.0, 1.2, 1.3], ddof=1))
    assert point.standard_error == pytest.approx(1.25 * point.spread_s / 3**0.5 / 1.2)
    assert point.runs == 21


def test_a_share_of_the_time_is_read_from_memory() -> None:
    """As long as the bytes take at the pace of the reference, which reads 1000 of them in 1 ms."""
    slow = 1.0

    class Clock(MadeUpClock):
        def timer(self, make: Callable[[], Case]) -> Timer:
            case = make()
            if case.touch is not None:
                return lambda: 1e-3 * (slow if case.cold_bytes else 1.0)
            return claimed(case)

    stand = Bench(
        Clock(),
        References(lambda: Case(int, touch=int, cold_bytes=1000), lambda: Case(int, touch=int)),
    )
    assert stand.reference_bytes == 1000
    slow = 1.2
    for cold_bytes, share in ((0.0, 0.0), (500.0, 0.25), (1e6, 1.0)):
        reading = stand.read(partial(Case, lambda: 2e-3, cold_bytes=cold_bytes))
        assert reading is not None
        at_first = replace(reading, usual=Pace(1e-3, 1e-3))
        assert at_first.time_s == pytest.approx(2e-3 / 1.2**share, rel=0.01)
    wall = stand.read(lambda: Case(lambda: 2e-3, wall=True, cold_bytes=1e6))
    assert wall is not None
    assert replace(wall, usual=Pace(1e-3, 1e-3)).time_s == 2e-3


def test_moments_in_which_nothing_is_measured_do_not_count_for_the_usual_pace() -> None:
    stand = bench()
    for _ in range(30):
        assert stand.read(lambda: Case(lambda: 1e-3)) is not None
    stand._memory = lambda: 3e-3
    assert stand.drift() == pytest.approx(1.0)
    assert stand.usual == Pace(1e-3, 1e-3)


def test_a_disk_has_a_pace_of_its_own() -> None:
    slow = [Pace(1.3, 1.3)] * 3
    own = Reading((tuple(Repeat(2.0, pace) for pace in slow),), Pace(1.0, 1.0), paced=False)
    assert own.time_s == 2.0


def test_a_busy_moment_at_the_end_is_waited_out() -> None:
    stand = bench()
    left = 200

    def timer() -> float:
        nonlocal left
        left -= 1
        return 2e-3 if left > 0 else 1e-3

    stand._memory = timer
    assert stand.drift() == 0
