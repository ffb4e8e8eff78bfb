"""Fits of kernel tables: exact where measured, thin where neighbours tell, cold like a model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from infsim.calibrate.fit.cold import cold
from infsim.calibrate.fit.device import fit_device
from infsim.calibrate.fit.errors import one_by_one, summary
from infsim.calibrate.fit.linear import between, fit_linears
from infsim.calibrate.fit.thin import points_kept, thinned, thinned_curve
from infsim.calibrate.fit.whole_steps import whole_step_errors, whole_steps
from infsim.calibrate.fit.write import write_calibration
from infsim.calibrate.table import KernelTable
from infsim.cli.main import main
from infsim.cluster.device import load_device
from infsim.cluster.node import Node
from infsim.cost.calibration import read_calibration
from infsim.cost.curves import Curve
from infsim.cost.kernels import linear_table
from infsim.cost.measured import MeasuredStepCost
from infsim.cost.tiles import LINES
from infsim.errors import InputError
from infsim.model.catalog import load, load_format
from tests.kernel_rows import META, PEAK, attention_rows, linear_rows


def test_repeats_become_their_median_and_the_larger_library_wins() -> None:
    rows = linear_rows([(512, 256)], (1, 8))
    rows += [rows[0] | {"time_s": rows[0]["time_s"] * f} for f in (2.0, 3.0)]
    rows += linear_rows([(512, 256)], (1,), library="b", time_s=1.0)
    rows += linear_rows([(512, 256)], (1,), form="fp16", time_s=1.0)
    (measured,) = fit_linears(KernelTable.from_rows(rows, META))
    table = measured.table
    assert (table.format, table.library, table.tokens) == ("bf16", "a", (1.0, 8.0))
    assert table.shapes[512, 256][0] == pytest.approx(2 * PEAK.reference_s(1, 512, 256))


def test_bf16_and_fp16_are_told_apart_where_both_were_measured() -> None:
    """On a processor one may be several times as fast as the other."""
    shapes, tokens = [(512, 256), (1024, 256)], (1, 8, 64)
    rows = linear_rows(shapes, tokens)
    rows += [row | {"format": "fp16", "time_s": 3 * row["time_s"]} for row in rows]
    known = fit_device([KernelTable.from_rows(rows + attention_rows(), META)])
    one, other = (linear_table(known, load_format(form)) for form in ("bf16", "fp16"))
    assert one is not None
    assert other is not None
    assert [t.format for t in (one, other)] == ["bf16", "fp16"]
    assert other.shapes[512, 256] == pytest.approx([3 * t for t in one.shapes[512, 256]])
    alone = replace(known, linears=(one,))
    assert linear_table(alone, load_format("fp16")) is one


def test_two_zeros_in_four_are_a_format() -> None:
    shapes, tokens = [(512, 256), (1024, 256)], (1, 8, 64)
    rows = linear_rows(shapes, tokens, "fp16")
    pruned = {"pattern": "2:4", "density": 0.5, "library": "sparse"}
    rows += [row | pruned | {"time_s": 0.6 * row["time_s"]} for row in rows]
    known = fit_device([KernelTable.from_rows(rows + attention_rows(), META)])
    assert [table.format for table in known.linears] == ["fp16", "sparse24"]
    table = linear_table(known, load_format("sparse24"))
    assert table is not None
    assert table.library == "sparse"
    dense = linear_table(known, load_format("fp16"))
    assert dense is not None
    assert table.shapes[512, 256] == pytest.approx([0.6 * t for t in dense.shapes[512, 256]])


def test_stored_without_zeros_is_a_format_for_each_share_of_them() -> None:
    """And zeros in a share that no format of the catalogue has are left out."""
    shapes, tokens = [(512, 256), (1024, 256)], (1, 8, 64)
    rows = linear_rows(shapes, tokens, "fp32")
    for pattern, density, ratio in (
        ("unstructured", 0.5, 3.0),
        ("unstructured", 0.1, 0.7),
        ("block-32", 0.1, 0.3),
        ("block-32", 0.33, 0.9),
    ):
        like = {"pattern": pattern, "density": density, "library": f"sparse-{pattern}"}
        rows += [
            row | like | {"time_s": ratio * row["time_s"]}
            for row in linear_rows(shapes, tokens, "fp32")
        ]
    known = fit_device([KernelTable.from_rows(rows + attention_rows(), META)])
    found = {table.format: table for table in known.linears}
    assert found.keys() == {"fp32", "fp32-csr50", "fp32-csr90", "fp32-block90"}
    assert found["fp32-block90"].library == "sparse-block-32"
    dense = found["fp32"].shapes[512, 256]
    for form, ratio in (("fp32-csr50", 3.0), ("fp32-csr90", 0.7), ("fp32-block90", 0.3)):
        assert linear_table(known, load_format(form)) is found[form]
        assert found[form].shapes[512, 256] == pytest.approx([ratio * t for t in dense])
    assert linear_table(known, load_format("fp32-csr80")) is None


def test_zeros_that_are_stored_like_any_weight_cost_what_other_weights_do() -> None:
    rows = linear_rows([(512, 256), (1024, 256)], (1, 8, 64), "fp16")
    known = fit_device([KernelTable.from_rows(rows + attention_rows(), META)])
    assert linear_table(known, load_format("pruned50")) is known.linears[0]


def test_whole_steps_are_held_against_the_sum_of_kernels() -> None:
    rows = linear_rows([(512, 256), (4096, 4096)], (1, 8, 64), "bf16") + attention_rows()
    known = fit_device([KernelTable.from_rows(rows, META)])
    model = "llama-3.1-8b"
    operators = load(model).graph.operators
    cost = MeasuredStepCost(
        Node("n", load_device("rtx-4090")), load_format("bf16"), operators, known
    )
    step = {"kernel": "step", "name": model, "format": "bf16", "devices": 1}
    steps = [
        step | {"decodes": 4, "context": 100, "time_s": cost.step_s(0, 0, 0, 4, 400, 4) / 1.02},
        step | {"prefills": 1, "chunk": 64, "prefix": 10,
                "time_s": cost.step_s(64, 64 * 10 + 64 * 65 / 2, 74, 0, 0, 1) / 1.02},
        step | {"name": "unheard-of", "prefills": 1, "chunk": 64, "time_s": 1.0},
    ]  # fmt: skip
    found = whole_steps(KernelTable.from_rows(rows + steps, META), known)
    (error,) = whole_step_errors(found)
    assert (error["what"], error["format"], error["points"]) == ("whole steps", "bf16", 2)
    assert error["median"] == pytest.approx(0.02)
    fitted = fit_device([KernelTable.from_rows(rows + steps, META)])
    assert error in list(fitted.errors)
    assert fitted.operator_s == 0  # steps are shorter than the sum

    longer = [step | {"time_s": 1.02 * step["time_s"] + 1e-4 * len(operators)} for step in steps]
    fitted = fit_device([KernelTable.from_rows(rows + longer, META)])
    assert fitted.operator_s == pytest.approx(1e-4)
    (error,) = (e for e in fitted.errors if e["what"] == "whole steps")
    assert error["median"] == pytest.approx(0, abs=1e-9)
    again = MeasuredStepCost(
        Node("n", load_device("rtx-4090")), load_format("bf16"), operators, fitted
    )
    assert again.step_s(0, 0, 0, 4, 400, 4) == pytest.approx(longer[0]["time_s"])


def test_steps_of_another_engine_say_nothing_about_these_kernels() -> None:
    rows = linear_rows([(512, 256), (4096, 4096)], (1, 8, 64), "bf16") + attention_rows()
    other = {"kernel": "step", "name": "llama-3.1-8b", "format": "bf16", "devices": 1,
             "decodes": 4, "context": 100, "time_s": 1.0}  # fmt: skip
    fitted = fit_device([KernelTable.from_rows(rows, META), KernelTable.from_rows([other], META)])
    assert fitted.operator_s == 0
    assert all(error["what"] != "whole steps" for error in fitted.errors)


def test_a_format_takes_its_own_table_before_that_of_one_alike() -> None:
    """fp8 with a scale for each tensor, and for each block: the same bits and arithmetic."""
    tokens = (1, 8, 64)
    rows = linear_rows([(512, 256)], tokens, "fp8") + linear_rows([(512, 256)], tokens, "fp8-block")
    known = fit_device([KernelTable.from_rows(rows + attention_rows(), META)])
    for form, found in (("fp8", "fp8"), ("fp8-block", "fp8-block"), ("fp8-kv8", "fp8")):
        table = linear_table(known, load_format(form))
        assert table is not None
        assert table.format == found


def test_experts_go_into_curves_along_those_that_get_tokens() -> None:
    rows = linear_rows([(512, 256)], (1, 8))
    rows += [
        {"kernel": "linear", "format": "bf16", "n": 768, "k": 256, "experts": 8,
         "active_experts": a, "tokens": m, "time_s": 1e-3 * a}
        for m in (1, 64) for a in (2, 8)
    ]  # fmt: skip
    (measured,) = fit_linears(KernelTable.from_rows(rows, META))
    (few, many) = measured.table.experts[768, 256, 8]
    assert (few[0], many[0]) == (1.0, 64.0)
    assert many[1].at(5) == pytest.approx(5e-3)


def test_what_neighbours_tell_is_left_out() -> None:
    """All but one shape have the efficiency of their neighbours."""
    sizes = [300 * 2**i for i in range(6)]
    rows = linear_rows([(n, k) for n in sizes for k in sizes], (1, 2, 4, 8, 16))
    odd = [r for r in rows if (r["n"], r["k"]) == (2400, 1200)]
    for row in odd:
        row["time_s"] *= 3
    (measured,) = fit_linears(KernelTable.from_rows(rows, META))
    kept = thinned(measured.table, PEAK, shapes=8, times=24)
    assert len(kept.shapes) <= 8
    assert len(kept.tokens) == 3
    assert {(300, 300), (2400, 1200), (9600, 9600)} <= kept.shapes.keys()
    assert thinned(measured.table, PEAK, shapes=99, times=999) == measured.table


def test_matrices_of_the_catalogue_are_kept() -> None:
    """Llama-3.1-8B's queries, keys and values on one and on two devices, as others tell anyway."""
    sizes = [256 * 2**i for i in range(7)]
    shapes = [(n, k) for n in sizes for k in sizes] + [(6144, 4096), (3072, 4096)]
    (measured,) = fit_linears(KernelTable.from_rows(linear_rows(shapes, (1, 8, 64)), META))
    kept = thinned(measured.table, PEAK, shapes=30)
    assert len(kept.shapes) == 30
    assert {(6144, 4096), (3072, 4096), (256, 256), (16384, 16384)} <= kept.shapes.keys()


def test_kernels_change_at_the_same_tokens_for_all_shapes() -> None:
    """A shape that was not measured at 7 tokens takes half of what another one takes more there."""

    def curve(factor: float, tokens: tuple[int, ...]) -> Curve:
        times = {1: 1.0, 4: 1.6, 7: 4.4, 8: 2.4, 64: 10.0}
        return Curve(tuple(map(float, tokens)), tuple(factor * times[m] for m in tokens))

    known = {(512, 256): curve(1.0, (1, 4, 7, 8, 64)), (1024, 256): curve(2.0, (1, 4, 8, 64))}
    assert between(known, (1024, 256), 8, LINES) == 4.8  # as measured
    line = 3.2 + 3 / 4 * (4.8 - 3.2)
    own = 1.6 + 3 / 4 * (2.4 - 1.6)
    assert between(known, (1024, 256), 7, LINES) == pytest.approx(line * (4.4 / own) ** 0.5)
    assert between({(1024, 256): known[1024, 256]}, (1024, 256), 7, LINES) == pytest.approx(line)


def test_points_on_a_line_go_first() -> None:
    x = np.array([1.0, 2.0, 3.0, 4.0, 5.0])
    assert points_kept(x, np.array([[1.0, 2.0, 3.0, 9.0, 5.0]]), 4) == [0, 2, 3, 4]
    bent = Curve((1.0, 2.0, 3.0, 4.0), (1.0, 2.0, 3.0, 9.0))
    assert thinned_curve(bent, 3) == Curve((1.0, 3.0, 4.0), (1.0, 3.0, 9.0))


def test_operands_in_a_cache_are_priced_as_from_memory() -> None:
    """1 TB/s from memory, and 4 TB/s for what fits into the cache."""

    def row(n: int, rate: float, **more: Any) -> dict[str, Any]:
        return {"kernel": "linear", "format": "bf16", "library": "a", "n": n, "k": 4096,
                "tokens": 1, "time_s": n * 4096 * 2 / rate} | more  # fmt: skip

    rows = [row(65536, 1e12), row(4096, 4e12), row(8192, 0.5e12), row(4096, 4e12, library="b")]
    table = KernelTable.from_rows(rows, META)
    found, changed = cold(table)
    assert changed == 1
    assert found["time_s"][1] == pytest.approx(4096 * 4096 * 2 / 1e12)
    for unchanged in (0, 2, 3):  # slower anyway, or of a library that measured nothing large
        assert found["time_s"][unchanged] == table["time_s"][unchanged]


def test_a_device_is_fitted_written_and_read(tmp_path: Path, capsys: Any) -> None:
    rows = linear_rows([(6144, 4096), (4096, 4096), (28672, 4096), (4096, 14336)], (1, 8, 64, 512))
    rows += attention_rows()
    rows += [{"kernel": "norm", "name": name, "n": 4096, "tokens": m, "time_s": 1e-6 * m * f}
             for m in (1, 8, 64) for name, f in (("norm", 1), ("final_norm", 9))]  # fmt: skip
    rows += [{"kernel": "head", "n": 1000, "k": 4096, "tokens": m, "time_s": 1e-4} for m in (1, 8)]
    rows += [{"kernel": "collective", "name": "all_reduce", "library": lib, "bytes": b,
              "devices": 2, "nodes": 1, "time_s": 1e-5 * f} for b in (1024, 2**22)
             for lib, f in (("slow", 2), ("fast", 1))]  # fmt: skip
    rows += [{"kernel": "load", "name": "file", "bytes": b, "time_s": 1e-3 + b / 4e8}
             for b in (2**20, 2**26)]  # fmt: skip
    folder = tmp_path / "table"
    KernelTable.from_rows(rows, META).write(folder)
    out = tmp_path / "costs.json"
    with pytest.raises(SystemExit) as end:
        main(["calibrate", "fit", str(folder), "--out", str(out)])
    assert not end.value.code
    assert "decode layer" in capsys.readouterr().out
    known = read_calibration(out)
    assert known.device == "rtx-4090"
    assert known.linears[0].shapes[4096, 4096][1] == pytest.approx(
        PEAK.reference_s(8, 4096, 4096), rel=1e-4
    )
    norm, head = known.elements
    assert norm.kernel == "norm"
    assert norm.curve.at(8) == pytest.approx(8e-6)
    assert (head.kernel, head.width) == ("head", 4_096_000)
    assert known.collectives[0].curve.at(2048) == pytest.approx(1e-5)
    assert known.load_bytes_per_s == pytest.approx(2**26 / (1e-3 + 2**26 / 4e8), rel=1e-3)
    again = tmp_path / "again.json"
    write_calibration(known, again)
    assert again.read_bytes() == out.read_bytes()


def test_errors_are_those_of_held_out_points() -> None:
    assert one_by_one(Curve((1.0, 2.0, 3.0), (1.0, 4.0, 3.0))) == [pytest.approx(2 / 4 - 1)]
    found = summary("linear", "bf16", "tokens", [-0.1, 0.0, 0.2])
    assert (found["points"], found["median"]) == (3, 0.1)


def test_tables_that_cannot_be_fitted_are_refused() -> None:
    table = KernelTable.from_rows(attention_rows(), META)
    with pytest.raises(InputError, match="no linear layers"):
        fit_device([table])
    with pytest.raises(InputError, match="different hardware: l40s, rtx-4090"):
        fit_device([table, table.with_meta(hardware="l40s")])
