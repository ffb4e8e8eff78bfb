"""Kernel tables: what is written is read, and what makes no sense is refused."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infsim.calibrate.table import (
    COLUMNS,
    COUNTS,
    KERNELS,
    REALS,
    TEXT,
    KernelTable,
    Meta,
    concatenate,
)
from infsim.errors import InputError

META = Meta("h200", source="a test", versions={"torch": "2.13"}, noise=0.01, refused={"why": 3})

ROW = st.fixed_dictionaries(
    {"kernel": st.sampled_from(KERNELS), "time_s": st.floats(1e-9, 1e3)},
    optional={
        "name": st.text(max_size=8),
        "format": st.sampled_from(["", "bf16", "fp8", "w4a16"]),
        "density": st.floats(0.01, 1),
        "spread_s": st.floats(0, 1),
        **{name: st.integers(0, 2**40) for name in COUNTS},
    },
)


def same(table: KernelTable, other: KernelTable) -> bool:
    return all(
        np.array_equal(table[name], other[name], equal_nan=name in REALS) for name in COLUMNS
    )


@settings(deadline=None, max_examples=40)
@given(st.lists(ROW, max_size=6))
def test_a_table_is_read_as_it_was_written(rows: list[dict[str, Any]]) -> None:
    table = KernelTable.from_rows(rows, META)
    with TemporaryDirectory() as folder:
        file = table.write(folder)
        again = KernelTable.read(folder)
        assert same(again, KernelTable.read(file))
        assert sorted(p.name for p in Path(folder).iterdir()) == ["kernels.parquet", "meta.yaml"]
    assert same(again, table)
    assert again.meta == table.with_meta(rows=len(rows)).meta
    for name in COLUMNS:
        assert again[name].dtype == (
            object if name in TEXT else np.float64 if name in REALS else np.int64
        )


def test_rows_name_only_what_applies() -> None:
    rows = [
        {"kernel": "linear", "n": 8, "k": 4, "format": "bf16", "time_s": 1e-5},
        {"kernel": "collective", "bytes": 1024, "time_s": 2e-5, "spread_s": 1e-6},
    ]
    table = KernelTable.from_rows(rows, META)
    assert list(table.rows()) == rows
    assert np.isnan(table["spread_s"][0])
    assert np.isnan(table["density"]).all()


def test_rows_are_selected_by_their_values() -> None:
    table = KernelTable.from_columns(
        {"kernel": ["linear", "linear", "norm"], "tokens": [1, 2, 2], "time_s": 1e-6}, META
    )
    assert len(table.select(kernel="linear", tokens=2)) == 1
    assert len(table.select(tokens=(1, 2))) == 3
    assert len(concatenate([table, table.select(kernel="norm")])) == 4
    with pytest.raises(InputError, match="unknown column 'token'; did you mean 'tokens'"):
        table.select(token=1)


def test_no_rows_are_a_table(tmp_path: Path) -> None:
    KernelTable.from_rows([], META).write(tmp_path)
    assert len(KernelTable.read(tmp_path)) == 0


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"kernel": "norm", "time_s": 1.0, "toekns": 3}, "unknown column 'toekns'.*'tokens'"),
        ({"kernel": "norm"}, "needs the column 'time_s'"),
        ({"kernel": "norm", "time_s": ["fast"]}, "'time_s' holds numbers, got 'fast'"),
        ({"kernel": 3, "time_s": 1.0}, "'kernel' holds words"),
        ({"kernel": "norm", "time_s": 1.0, "n": [2.0, 2.5]}, "whole numbers, got 2.5 in row 2"),
        ({"kernel": ["norm"] * 2, "time_s": [1.0] * 3}, "unequal length"),
    ],
)
def test_columns_are_checked(columns: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        KernelTable.from_columns(columns, META)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"kernel": "liner"}, "kernels.parquet:2: kernel: .*'liner'; did you mean 'linear'"),
        ({"format": "bf61"}, "format: unknown format 'bf61'; did you mean 'bf16'"),
        ({"time_s": 0.0}, "kernels.parquet:2: time_s: 0.0: must be positive"),
        ({"time_s": -1.0}, "-1.0"),
        ({"time_s": float("nan")}, "nan"),
        ({"time_s": float("inf")}, "inf"),
        ({"tokens": -4}, "tokens: -4: must not be negative"),
        ({"density": 1.5}, r"density: 1.5: not in \(0, 1\]"),
        ({"spread_s": -1e-6}, "spread_s: -1e-06"),
    ],
)
def test_senseless_rows_are_not_written(row: dict[str, Any], message: str, tmp_path: Path) -> None:
    good = {"kernel": "linear", "time_s": 1.0}
    with pytest.raises(InputError, match=message):
        KernelTable.from_rows([good, good | row], META).write(tmp_path)
    assert not list(tmp_path.iterdir())


def test_what_is_no_table_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no kernel table"):
        KernelTable.read(tmp_path)
    file = KernelTable.from_rows([{"kernel": "norm", "time_s": 1.0}], META).write(tmp_path)
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="no kernel table"):
        KernelTable.read(tmp_path)
    pq.write_table(pa.table({"kernel": ["norm", None], "time_s": [1.0, 2.0]}), file)
    with pytest.raises(InputError, match=r"kernels.parquet: 1 empty cells"):
        KernelTable.read(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("source: x", "no 'hardware'"),
        ("hardware: h200\nlicense: MIT", "unknown key 'license'; did you mean 'licence'"),
        ("a: [", "cannot read it"),
    ],
)
def test_the_meta_is_checked(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "meta.yaml").write_text(text)
    with pytest.raises(InputError, match=message):
        Meta.read(tmp_path / "meta.yaml")
