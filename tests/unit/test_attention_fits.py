"""Fits of attention: exact where measured, curves along chunks, sums where kernels take turns."""

from __future__ import annotations

import numpy as np
import pytest

from infsim.calibrate.fit.attention import attention_table, fit_attentions, grid
from infsim.calibrate.fit.attention_keys import on_prefixes
from infsim.calibrate.fit.errors import attention_errors
from infsim.calibrate.table import KernelTable
from infsim.cost.attention import AttentionTime
from infsim.cost.curves import Curve
from tests.kernel_rows import META, attention_rows, key_rows


def test_batches_by_key_become_chunks_after_the_same_prefixes() -> None:
    rows = key_rows() + [row for d in (1, 8) for c in (64, 512) for row in key_rows(d, c)]
    rows += [row for row in attention_rows() if "decodes" in row]
    table = attention_table(KernelTable.from_rows(rows, META), "bf16", "a", (32, 8, 128))
    assert table.prefixes == (0, 8, 56, 248, 1016, 4088)
    times = AttentionTime(table)
    for tokens, prefix in ((16, 0), (128, 0), (1024, 0), (128, 248), (1024, 1016), (1024, 3000)):
        pairs = tokens * prefix + tokens * (tokens + 1) / 2
        exact_s = 1e-5 + 1e-9 * tokens * (prefix + tokens / 2)
        assert times.prefill_s(tokens, pairs) == pytest.approx(exact_s, rel=1e-9)
        mixed_s = times.mixed_s(tokens, pairs, 8, 8 * 512)
        assert mixed_s == pytest.approx(exact_s + 1e-8 * 8 * 512, rel=1e-9)


def test_regular_prefixes_are_left_as_they_are() -> None:
    table = KernelTable.from_rows(attention_rows(), META)
    assert on_prefixes(table) is table


def test_cells_that_were_not_measured_continue_the_line() -> None:
    rows = [
        r
        for r in attention_rows()
        if r.get("decodes") and (r["decodes"], r["context"]) != (64, 4096)
    ]
    table = KernelTable.from_rows(rows, META)
    (counts, contexts), cells = grid(table, ("decodes", "context"))
    assert (counts, contexts) == ((1.0, 8.0, 64.0), (64.0, 512.0, 4096.0))
    assert cells[2, 2] == pytest.approx(1e-5 + 1e-8 * 64 * 4096)
    assert np.isnan(grid(table, ("decodes", "context"), filled=False)[1][2, 2])


def test_attention_is_exact_at_what_was_measured() -> None:
    table = KernelTable.from_rows(attention_rows(), META)
    (fitted,) = fit_attentions(table)
    times = AttentionTime(fitted)
    for row in attention_rows():
        if "decodes" in row:
            curve = Curve(times.contexts, tuple(times.decode_s(row["decodes"])))
            assert curve.at(row["context"]) == pytest.approx(row["time_s"])
        elif row["prefills"] * row["chunk"] <= 1024:
            tokens, chunk = row["prefills"] * row["chunk"], row["chunk"]
            assert times.prefill_s(tokens, tokens * (chunk + 1) / 2) == pytest.approx(row["time_s"])
    longer = times.prefill_s(128, 128 * 1000 + 128 * 129 / 2)
    assert longer > times.prefill_s(128, 128 * 129 / 2)


def test_shapes_of_heads_without_both_phases_or_of_windows_are_left_out() -> None:
    rows = [r for r in attention_rows() if "decodes" in r]
    assert fit_attentions(KernelTable.from_rows(rows, META)) == []
    windows = [row | {"window": 128} for row in attention_rows()]
    assert fit_attentions(KernelTable.from_rows(windows, META)) == []


def test_few_mixed_batches_make_no_grid() -> None:
    """A campaign that ended early may have them at one prefix only: then they are the sum."""
    mixed = {"prefills": 1, "prefix": 0, "decodes": 8, "context": 512}
    rows = [r | {"prefix": 0} for r in attention_rows()]
    rows += [rows[0] | mixed | {"chunk": chunk, "time_s": 1.0} for chunk in (16, 64)]
    (table,) = fit_attentions(KernelTable.from_rows(rows, META))
    assert not table.mixed_s
    assert table.prefill_s


def test_a_table_of_one_shape_has_grids_of_all_its_batches() -> None:
    rows = KernelTable.from_rows(attention_rows(), META)
    found = attention_table(rows, "bf16", "a", (32, 8, 128))
    assert found.prompts == (1.0, 4.0)
    assert found.prompt_chunks == (16.0, 128.0, 1024.0)
    assert found.mixed_s == ()


def test_chunks_that_were_not_measured_after_a_prefix_lie_on_its_own_curve() -> None:
    """Each prefix was measured at chunks of its own, as where least was known."""
    shape = attention_rows()[0]

    def time_s(chunk: float, prefix: float) -> float:
        return 1e-5 + 1e-9 * (chunk * prefix + chunk * chunk / 2)

    own = {0: (16, 64, 128, 512, 1024), 512: (16, 256, 1024), 2048: (16, 96, 384, 1024)}
    rows = [
        shape | {"chunk": chunk, "prefix": prefix, "time_s": time_s(chunk, prefix)}
        for prefix, chunks in own.items()
        for chunk in chunks
    ]
    table = KernelTable.from_rows(rows, META)
    (chunks, prefixes), cells = grid(table, ("chunk", "prefix"))
    for prefix, found in zip(prefixes, cells.T, strict=True):
        for chunk, cell in zip(chunks, found.tolist(), strict=True):
            exact = chunk in own[int(prefix)]
            assert cell == pytest.approx(time_s(chunk, prefix), rel=1e-9 if exact else 0.1)


@pytest.mark.parametrize(("joint", "kept"), [(1.0, False), (1.04, False), (1.5, True)])
def test_mixed_batches_are_a_grid_only_where_their_parts_do_not_tell_them(
    joint: float, kept: bool
) -> None:
    rows = [row | {"prefix": row.get("prefix", 0)} for row in attention_rows()]
    rows += [
        rows[0]
        | {"prefills": 1, "chunk": t, "prefix": 2048, "time_s": 1e-5 + 1e-9 * t * (t + 4096)}
        for t in (16, 128, 1024)
    ]
    (apart,) = fit_attentions(KernelTable.from_rows(rows, META))
    times = AttentionTime(apart)
    mixed = [
        rows[0] | {"chunk": t, "prefix": p, "decodes": d, "context": c, "time_s": joint * (
            times.prefill_s(t, t * p + t * (t + 1) / 2)
            + Curve(times.contexts, tuple(times.decode_s(d))).at(c)
        )}
        for t in (64, 256, 1024) for p in (0, 1024) for d in (4, 16) for c in range(64, 2049, 64)
    ]  # fmt: skip
    measured = KernelTable.from_rows(rows + mixed, META)
    (table,) = fit_attentions(measured)
    assert bool(table.mixed_s) == kept
    (error,) = (e for e in attention_errors(measured, [table]) if e["what"] == "mixed")
    assert error["held_out"] == ("points of the grid" if kept else "sum of the parts")
    # more contexts than are kept lie on a line here, chunks a factor of sixteen apart do not
    assert error["median"] == pytest.approx(0.0 if kept else 1 - 1 / joint, abs=1e-4)
