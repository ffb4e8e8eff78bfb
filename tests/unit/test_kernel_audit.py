"""What is physically impossible is refused: bounds worked out by hand, and spoilt tables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infsim.calibrate.audit import (
    CONTRADICTING,
    IMPOSSIBLE,
    NOT_POSITIVE,
    OUTLYING,
    STEP,
    Audit,
    audit,
)
from infsim.calibrate.bounds import CACHE_BYTES, _causal_pairs, least_time_s
from infsim.calibrate.importers.imported import Imported, Piece
from infsim.calibrate.importers.source import Source
from infsim.calibrate.table import KernelTable, Meta
from infsim.cluster.device import load_device
from infsim.errors import InputError
from infsim.model.catalog import load

A100 = load_device("a100-80gb")
CACHE = CACHE_BYTES["a100-80gb"]


def least(**row: Any) -> float:
    table = KernelTable.from_rows([{"kernel": "linear", "time_s": 1.0} | row], Meta("a100-80gb"))
    return float(least_time_s(table, A100)[0])


def test_a_large_product_is_bound_by_arithmetic() -> None:
    assert least(format="bf16", tokens=8192, n=8192, k=8192) == 2 * 8192**3 / 312e12
    assert least(format="w8a8", tokens=8192, n=8192, k=8192) == 2 * 8192**3 / 624e12
    # unpacked to 16 bits before they are multiplied
    assert least(format="w4a16", tokens=8192, n=8192, k=8192) == 2 * 8192**3 / 312e12


def test_one_token_is_bound_by_the_weights_that_do_not_fit_into_the_cache() -> None:
    weights = 2 * 16384 * 16384
    values = 2 * 2 * 16384
    assert least(format="bf16", tokens=1, n=16384, k=16384) == pytest.approx(
        (weights + values - CACHE) / 2039e9
    )
    half = least(format="w8a16", tokens=1, n=16384, k=16384)
    assert half == pytest.approx((weights / 2 + values - CACHE) / 2039e9)
    # what fits takes only its arithmetic
    assert least(format="bf16", tokens=1, n=1024, k=1024) == 2 * 1024**2 / 312e12


def test_pruned_weights_are_not_multiplied_or_read() -> None:
    dense = least(format="bf16", tokens=1, n=65536, k=65536)
    half = least(format="bf16", tokens=1, n=65536, k=65536, density=0.5)
    assert half == pytest.approx(dense / 2, rel=0.02)


def test_only_experts_with_tokens_are_read() -> None:
    shape = {"format": "bf16", "tokens": 1, "n": 3 * 14336, "k": 4096, "experts": 8}
    two, one = least(**shape, active_experts=2), least(**shape, active_experts=1)
    assert two - one == pytest.approx(2 * 3 * 14336 * 4096 / 2039e9)


def test_decode_attention_reads_the_cache() -> None:
    shape = {"kernel": "attention", "format": "bf16", "heads": 32, "kv_heads": 8, "head_dim": 128}
    entries = 64 * 4096
    moved = entries * 2 * 8 * 128 * 2 + 64 * 32 * 128 * 4
    assert least(**shape, decodes=64, context=4096) == pytest.approx((moved - CACHE) / 2039e9)
    narrow = least(**shape, decodes=64, context=4096, kv_format="fp8")
    assert narrow < 0.6 * least(**shape, decodes=64, context=4096)
    seen = least(**shape, decodes=64, context=4096, window=1024)
    assert seen == pytest.approx(least(**shape, decodes=64, context=1024))


def test_prefill_attention_computes_half_of_the_square() -> None:
    shape = {"kernel": "attention", "format": "bf16", "heads": 32, "kv_heads": 8, "head_dim": 128}
    pairs = 8192 * 8193 / 2
    assert least(**shape, prefills=1, chunk=8192) == pytest.approx(4 * 32 * 128 * pairs / 312e12)


@given(st.integers(0, 30), st.integers(0, 30), st.integers(1, 40))
def test_pairs_are_those_of_counting(chunk: int, prefix: int, window: int) -> None:
    counted = sum(min(prefix + query, window) for query in range(1, chunk + 1))
    given = (np.array([float(x)]) for x in (chunk, prefix, window))
    assert _causal_pairs(*given)[0] == counted


def test_a_step_reads_the_model_once() -> None:
    figures = load("llama-3.1-8b").graph.operators
    weights = 2 * sum(op.parameters + op.head_parameters for op in figures)
    step = least(kernel="step", name="llama-3.1-8b", format="fp16", decodes=1, context=0)
    assert step == pytest.approx((weights - CACHE) / 2039e9)
    # an unknown model has no bound
    assert least(kernel="step", name="llama-9", format="fp16", decodes=1) == 0


def imported(rows: list[dict[str, Any]]) -> Imported:
    source = Source(Path("table.csv"), {}, np.arange(2, len(rows) + 2))
    table = KernelTable.from_rows(rows, Meta("a100-80gb"))
    return Imported.of([Piece(source, np.arange(len(rows)), table.columns)], table.meta)


def honest(tokens: int, **changes: Any) -> dict[str, Any]:
    work = 2 * tokens * 8192 * 8192 / 312e12
    weights = 2 * 8192 * 8192 / 2039e9
    row = {"kernel": "linear", "format": "bf16", "tokens": tokens, "n": 8192, "k": 8192}
    return row | {"time_s": max(work, weights) * 1.3} | changes


GOOD = [honest(2**i) for i in range(14)]


def run(*rows: dict[str, Any]) -> Audit:
    return audit(imported([*GOOD, *rows]), A100)


def test_an_honest_table_passes() -> None:
    found = run()
    assert found.table.meta.refused == {}
    assert found.table.meta.flagged == {}
    assert len(found.table) == len(GOOD)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (honest(16384, time_s=float("nan")), NOT_POSITIVE),
        (honest(16384, time_s=-1e-3), NOT_POSITIVE),
        (honest(16384, time_s=0.0), NOT_POSITIVE),
        (honest(16384, time_s=float("inf")), NOT_POSITIVE),
        (honest(16384, time_s=2e-3), IMPOSSIBLE),
    ],
)
def test_a_bad_row_is_refused_and_its_place_told(row: dict[str, Any], reason: str) -> None:
    found = run(row)
    assert found.table.meta.refused == {reason: 1}
    assert len(found.table) == len(GOOD)
    assert found.examples[0].startswith(f"table.csv:{len(GOOD) + 2}: {reason}")


def test_clocks_above_the_datasheet_are_allowed() -> None:
    bound = 2 * 16384 * 8192**2 / 312e12
    assert run(honest(16384, time_s=bound / 1.09)).table.meta.refused == {}
    assert run(honest(16384, time_s=bound / 1.11)).table.meta.refused == {IMPOSSIBLE: 1}


def test_repeats_that_agree_become_their_median() -> None:
    times = [7.00e-3, 7.10e-3, 7.05e-3]
    found = run(*(honest(16384, time_s=t, runs=2) for t in times)).table.select(tokens=16384)
    assert found["time_s"] == [7.05e-3]
    assert found["runs"] == [6]
    assert found["spread_s"] == pytest.approx([np.std(times)])


def test_repeats_that_contradict_each_other_are_refused() -> None:
    found = run(honest(16384, time_s=7e-3), honest(16384, time_s=11e-3))
    assert found.table.meta.refused == {CONTRADICTING: 2}


@pytest.mark.parametrize("factor", [5.0, 1.05])
def test_an_outlier_is_refused_and_its_neighbours_are_not(factor: float) -> None:
    rows = [
        row | {"time_s": row["time_s"] * factor} if row["tokens"] == 16 else row for row in GOOD
    ]
    found = audit(imported(rows), A100)
    assert found.table.meta.refused == ({OUTLYING: 1} if factor == 5.0 else {})
    assert set(found.table["tokens"]) >= {8, 32}


def test_a_step_is_kept_and_counted() -> None:
    rows = [row | {"time_s": row["time_s"] * 1.5} if row["tokens"] == 4 else row for row in GOOD]
    found = audit(imported(rows), A100)
    assert found.table.meta.refused == {}
    assert found.table.meta.flagged == {STEP: 1}


@pytest.mark.parametrize("unit", [1e-3, 1e3])
def test_a_wrong_unit_is_an_error(unit: float) -> None:
    rows = [row | {"time_s": row["time_s"] * unit} for row in GOOD]
    with pytest.raises(InputError, match=r"table.csv:\d+: .*right unit"):
        audit(imported(rows), A100)


def test_a_table_of_another_device_is_an_error() -> None:
    with pytest.raises(InputError, match=r"table.csv:2.*rtx-3060"):
        audit(imported(GOOD), load_device("rtx-3060"))


def test_a_table_of_mostly_bad_times_is_an_error() -> None:
    rows = [row | {"time_s": -1.0} if row["tokens"] > 32 else row for row in GOOD]
    with pytest.raises(InputError, match="of 14 rows too many are refused: 8 time is not"):
        audit(imported(rows), A100)
