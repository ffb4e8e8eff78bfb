"""Measuring on a machine that is made up: what counts, what is refused, what is written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from itertools import count, cycle
from pathlib import Path
from time import sleep

import numpy as np
import pytest

from infsim.calibrate.measure import bench as bench_module
from infsim.calibrate.measure import campaign as campaign_module
from infsim.calibrate.measure.bench import Bench, Pace
from infsim.calibrate.measure.campaign import MOST_ROUNDS, Campaign, DriftError, measure
from infsim.calibrate.measure.kernel import Case, Kernel
from infsim.calibrate.measure.run import Plan, run
from infsim.calibrate.measure.shapes import Shapes
from infsim.calibrate.measure.suites import kernels
from infsim.calibrate.table import KernelTable, Meta
from infsim.errors import InputError
from tests.benches import bench

GRID = (1, 2, 4, 8, 16)


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_module, "PAUSE_S", 0.0)


def kernel(
    time: Callable[[int], float],
    error: float = 0.0,
    columns: Mapping[str, str | int | float] | None = None,
    points: tuple[int, ...] = GRID,
) -> Kernel:
    told = columns or {"kernel": "norm", "name": "made up", "format": "bf16", "n": 64}

    def make(point: int) -> Case:
        return Case(lambda: time(point), lambda: error)

    return Kernel(told, "tokens", points, lambda: make, tolerance=0.01)


def straight(x: int) -> float:
    return 1e-4 * (1 + x)


def campaign(*kernels: Kernel, stand: Bench | None = None, wanted: float = 0.05) -> Campaign:
    return measure(kernels, stand or bench(), budget_s=60.0, wanted=wanted)


def test_rows_hold_what_was_measured() -> None:
    found = campaign(kernel(straight))
    assert [row["tokens"] for row in found.rows] == [1, 4, 16]
    assert [row["time_s"] for row in found.rows] == [straight(x) for x in (1, 4, 16)]
    assert all(row["spread_s"] == 0 and row["runs"] >= 3 for row in found.rows)
    assert (found.saved, found.unsteady, found.unfinished) == (2, 0, 0)
    KernelTable.from_rows(found.rows, Meta("h200")).check("made up")


def test_a_full_grid_saves_nothing() -> None:
    found = campaign(kernel(straight), wanted=0.0)
    assert [row["tokens"] for row in found.rows] == list(GRID)
    assert found.saved == 0


def test_a_kernel_that_takes_far_too_long_at_its_smallest_is_given_up() -> None:
    """Tried twice only: each point would be repeated, and the budget be gone."""
    runs = 0

    def time(x: int) -> float:
        nonlocal runs
        runs += 1
        sleep(0.02)
        return straight(x)

    endless = kernel(time, columns={"kernel": "step", "name": "endless", "format": "fp8"})
    found = measure([kernel(straight), endless], bench(), budget_s=60.0, longest_s=1e-3)
    (reason,) = found.unavailable.values()
    assert "TimeoutError: 0.02" in reason
    assert runs == 2
    assert {row["name"] for row in found.rows} == {"made up"}


def test_a_kernel_whose_library_is_loaded_by_its_first_run_is_measured() -> None:
    first = iter([0.02])

    def time(x: int) -> float:
        sleep(next(first, 0.0))
        return straight(x)

    found = measure([kernel(time)], bench(), budget_s=60.0, longest_s=1e-3)
    assert found.unavailable == {}
    assert found.rows


def test_repeats_beside_an_unsteady_reference_do_not_count() -> None:
    calls = 0

    def reference() -> float:  # every eighth is interrupted once the baseline is known
        nonlocal calls
        calls += 1
        return 2e-3 if calls > 1000 and calls % 8 == 0 else 1e-3

    def time(x: int) -> float:  # is interrupted just when the reference after it is
        return 5 * straight(x) if (calls + 1) % 8 == 0 and calls > 1000 else straight(x)

    found = campaign(kernel(time), stand=bench(reference))
    assert [row["time_s"] for row in found.rows] == [straight(x) for x in (1, 4, 16)]
    assert all(row["spread_s"] == 0 for row in found.rows)


def test_a_point_beside_which_the_reference_never_stands_still_is_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stand = bench()
    restless = cycle([1e-3, 1.2e-3])
    monkeypatch.setattr(stand, "_pace", lambda: Pace(next(restless), 0.0))
    assert stand.read(lambda: Case(lambda: 1e-3)) is None
    other = Pace(1.7e-3, 1.7e-3)  # still, but of another machine
    monkeypatch.setattr(stand, "_pace", lambda: other)
    assert stand.read(lambda: Case(lambda: 1e-3)) is None
    with pytest.raises(DriftError):
        campaign(kernel(straight), stand=stand)


def test_times_are_those_of_the_usual_machine() -> None:
    """Quiet for a tenth of the campaign, else 1.4 times slower."""
    calls = 0

    def slowness() -> float:
        return 1.0 if calls % 2000 < 200 else 1.4

    def reference() -> float:
        nonlocal calls
        calls += 1
        return 1e-3 * slowness()

    stand = bench(reference)
    named = [
        kernel(lambda x: straight(x) * slowness() ** 1.1, columns={"kernel": "norm", "n": n})
        for n in range(1, 100)
    ]
    found = measure(named, stand, budget_s=2.0)
    assert found.usual.total_s == pytest.approx(2.8e-3)
    assert stand.quiet_s == pytest.approx(2e-3)
    off = [row["time_s"] / (straight(row["tokens"]) * 1.4**1.1) - 1 for row in found.rows]
    assert np.median(np.abs(off)) < 1e-9
    assert max(np.abs(off)) < 0.05


def test_points_are_measured_again_in_other_rounds() -> None:
    said: list[str] = []

    def time(x: int) -> float:
        return straight(x) * (1.1 if said[-1].startswith("round") else 1.0)

    found = measure([kernel(time)], bench(), budget_s=60.0, searching=0.5, say=said.append)
    assert said[-1] == f"round {MOST_ROUNDS}: 3 points"
    assert found.rounds == MOST_ROUNDS
    error = 1.25 * np.std([1.0, *[1.1] * (MOST_ROUNDS - 1)], ddof=1) / MOST_ROUNDS**0.5 / 1.1
    assert found.standard_error["p95"] == pytest.approx(error, abs=1e-4)
    for row in found.rows:
        assert row["runs"] >= 3 * MOST_ROUNDS
        assert row["time_s"] == pytest.approx(1.1 * straight(row["tokens"]))


def test_a_search_that_needs_its_budget_is_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = count()
    monkeypatch.setattr(campaign_module.time, "monotonic", lambda: float(next(clock)))
    named = [kernel(straight, columns={"kernel": "norm", "n": n}) for n in range(1, 40)]
    once = measure(named, bench(), budget_s=60.0)
    assert once.rounds == 1
    assert once.standard_error == {}
    clock = count()
    assert measure(named, bench(), budget_s=60.0, searching=0.3).rounds > 1


@pytest.mark.parametrize("reason", ["restless", "broken"])
def test_what_cannot_be_measured_in_another_round_stays_as_it_was(
    reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither is a kernel unavailable that was measured before."""
    said: list[str] = []
    stand = bench()
    restless = cycle([1e-3, 1.3e-3])

    def time(x: int) -> float:
        if said[-1].startswith("round"):
            if reason == "broken":
                raise MemoryError
            stand._memory = lambda: next(restless)
        return straight(x)

    named = [kernel(time, columns={"kernel": "norm", "n": n}) for n in (32, 64)]
    monkeypatch.setattr(stand, "drift", lambda: 0.0)  # the machine is itself again at the end
    found = measure(named, stand, budget_s=5.0, say=said.append)
    assert found.rounds == 1
    assert found.unavailable == {}
    assert [row["time_s"] for row in found.rows] == 2 * [straight(x) for x in (1, 4, 16)]


def test_some_points_are_drawn_and_kept_from_the_search() -> None:
    """The search of a straight line would need three: the drawn ones do not change that."""
    grid = tuple(range(1, 41))
    found = measure([kernel(straight, points=grid)], bench(), budget_s=60.0)
    drawn = [row["tokens"] for row in found.rows if row["held_out"]]
    assert len(found.rows) == 6
    assert len(drawn) == 3
    assert not {1, 40} & set(drawn)
    assert found.saved == 34
    every = measure([kernel(straight, points=grid)], bench(), budget_s=60.0, wanted=0.0)
    assert [row["tokens"] for row in every.rows] == list(grid)
    assert [row["tokens"] for row in every.rows if row["held_out"]] == drawn


@pytest.mark.parametrize(("factor", "refused"), [(0.85, True), (0.95, False), (1.05, False)])
def test_a_run_in_which_the_machine_changed_is_refused(factor: float, refused: bool) -> None:
    stand = bench()
    stand.quiet_s /= factor
    if refused:
        with pytest.raises(DriftError, match=r"-15\.0%"):
            campaign(kernel(straight), stand=stand)
    else:
        assert campaign(kernel(straight), stand=stand).drift == pytest.approx(factor - 1)


def test_kernels_that_fail_are_told_with_the_reason_and_stop_nothing() -> None:
    def broken(point: int) -> float:
        raise RuntimeError("no such instruction\nsecond line")

    other = {"kernel": "norm", "name": "broken", "format": "bf16", "n": 64}
    found = campaign(kernel(broken, columns=other), kernel(straight))
    assert found.unavailable == {"norm broken bf16 64": "RuntimeError: no such instruction"}
    assert len(found.rows) == 3


def test_a_kernel_with_wrong_results_is_not_measured() -> None:
    found = campaign(kernel(straight, error=0.02))
    assert found.rows == []
    assert "wrong by 0.02 at 1 tokens, more than 0.01" in found.unavailable["norm made up bf16 64"]


@pytest.mark.parametrize("error", [float("nan"), float("inf")])
def test_results_that_are_no_numbers_are_wrong(error: float) -> None:
    assert campaign(kernel(straight, error=error)).rows == []


def test_the_largest_error_of_right_results_is_kept() -> None:
    assert campaign(kernel(straight, error=0.004)).errors == {"norm bf16": 0.004}


def test_a_spent_budget_leaves_curves_unfinished() -> None:
    found = measure([kernel(straight)] * 3, bench(), budget_s=0.0)
    assert found.rows == []
    assert found.unfinished == 3


def test_a_short_budget_leaves_no_kind_of_kernel_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time for a fifth of the ends: a fifth of each kind has them."""
    clock = count()
    monkeypatch.setattr(campaign_module.time, "monotonic", lambda: float(next(clock)))
    named = [
        kernel(straight, columns={"kernel": kind, "name": str(i), "n": 64})
        for kind in ("norm", "residual", "rotary")
        for i in range(20)
    ]
    found = measure(named, bench(), budget_s=60.0)
    per_kind = Counter(str(row["kernel"]) for row in found.rows)
    assert 0 < len(found.rows) < 60
    assert len(per_kind) == 3
    assert max(per_kind.values()) - min(per_kind.values()) <= len(GRID)


def test_ctrl_c_keeps_what_was_measured() -> None:
    def then_stop(x: int) -> float:
        if x == GRID[-1]:
            raise KeyboardInterrupt
        return straight(x)

    said: list[str] = []
    slow = kernel(then_stop, columns={"kernel": "residual", "n": 64})
    found = measure([kernel(straight), slow], bench(), budget_s=60.0, say=said.append)
    assert found.interrupted
    assert {row["kernel"] for row in found.rows} == {"norm", "residual"}
    assert said[-1].startswith("interrupted")
    assert not campaign(kernel(straight)).interrupted


def test_what_was_measured_is_handed_out_on_the_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(campaign_module, "CHECKPOINT_S", 0.0)
    kept: list[Campaign] = []
    named = [kernel(straight, columns={"kernel": "norm", "n": n}) for n in (32, 64)]
    whole = measure(named, bench(), budget_s=60.0, keep=kept.append)
    assert [len(part.rows) for part in kept] == sorted(len(part.rows) for part in kept)
    assert kept[0].rows
    assert all(part.interrupted for part in kept)
    assert kept[-1].rows == whole.rows
    lasting = iter([1e-3] * 3500)
    drifting = bench(lambda: next(lasting, 2e-3))
    with pytest.raises(DriftError):
        measure(named * 40, drifting, budget_s=1.0, wanted=0.0, keep=kept.append)
    assert all(abs(part.drift) <= 0.1 for part in kept)


def test_shapes_are_those_of_the_catalogue_and_its_shards() -> None:
    shapes = Shapes(["qwen2.5-0.5b"], [1, 2])
    assert {(m.name, m.n, m.k, m.devices) for m in shapes.matrices} == {
        ("qkv", 1152, 896, 1), ("o", 896, 896, 1),
        ("gate_up", 9728, 896, 1), ("down", 896, 4864, 1),
        ("qkv", 576, 896, 2), ("o", 896, 448, 2),
        ("gate_up", 4864, 896, 2), ("down", 896, 2432, 2),
    }  # fmt: skip
    assert [(a.heads, a.kv_heads, a.head_dim) for a in shapes.attentions] == [
        (14, 2, 64),
        (7, 1, 64),
    ]


@pytest.mark.parametrize("name", ["qwen-0.5", "resnet18"])
def test_only_transformers_of_the_catalogue_have_shapes(name: str) -> None:
    with pytest.raises(InputError):
        Shapes([name])


def test_an_unknown_suite_is_told() -> None:
    with pytest.raises(InputError, match="did you mean 'linear'"):
        list(kernels(["linaer"], Shapes(["qwen2.5-0.5b"]), "cpu"))


@pytest.fixture
def _without_torch(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    import sys

    monkeypatch.setitem(sys.modules, "torch", None)
    return


@pytest.mark.usefixtures("_without_torch")
def test_without_torch_it_says_how_to_get_it() -> None:
    with pytest.raises(InputError, match="pip install infsim"):
        run(Plan("h200"), list)


def test_the_hardware_must_be_in_the_catalogue(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="unknown device"):
        run(Plan("my-machine"), list)
