"""Attention: grids of one chunk, of decodes, and of both in one batch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from infsim.calibrate.fit.points import medians
from infsim.calibrate.table import KernelTable
from infsim.cost.calibration import AttentionTable
from infsim.errors import InputError

Grid = NDArray[np.float64]
Axis = tuple[float, ...]
Shape = tuple[int, int, int]

FULL_TOKENS = 8192
"""Query tokens times heads below which a chunk leaves processors idle, so that each KV entry of a
prefix costs as much: 256 tokens of 32 heads on the RTX 4090, the device where it was measured."""


def fit_attentions(table: KernelTable) -> list[AttentionTable]:
    """Return tables of each number type of the KV cache, head size and heads per KV head.

    Of equal ones the shape with most points is taken. Rows of sliding windows are left out, and
    shapes without prompts or without decodes.
    """
    best: dict[tuple[str, int, float], tuple[int, AttentionTable]] = {}
    for (form, library, shape), rows in attention_rows(table).items():
        heads, kv_heads, head_dim = shape
        kind = form, head_dim, heads / kv_heads
        if kind not in best or best[kind][0] < len(rows):
            best[kind] = len(rows), attention_table(rows, form, library, shape)
    return [fitted for _, fitted in best.values()]


def attention_rows(table: KernelTable) -> dict[tuple[str, str, Shape], KernelTable]:
    """Return rows by number type of the KV cache, library and shape that has both phases."""
    rows = table.select(kernel="attention", window=0)
    rows = rows.take(rows["heads"] > 0)
    columns = ("format", "kv_format", "heads", "kv_heads", "head_dim")
    found = {}
    for key in medians(rows, columns):
        form, kv_format, *shape = key
        library, one = _best_library(rows.select(**dict(zip(columns, key, strict=True))))
        if _both_phases(one):
            found[kv_format or form, library, (shape[0], shape[1], shape[2])] = one
    return found


def _best_library(rows: KernelTable) -> tuple[str, KernelTable]:
    """The library with most rows of those with both phases; all of them where each has one."""
    names = sorted(set(rows["library"]))
    parts = {name: rows.select(library=name) for name in names}
    whole = [name for name in names if _both_phases(parts[name])]
    if not whole:
        return ", ".join(names), rows
    best = max(whole, key=lambda name: len(parts[name]))
    return best, parts[best]


def _both_phases(rows: KernelTable) -> bool:
    return bool((rows["decodes"] == 0).any() and (rows["prefills"] == 0).any())


def attention_table(rows: KernelTable, form: str, library: str, shape: Shape) -> AttentionTable:
    """Return the grids of the rows of one shape (heads, KV heads, head size)."""
    prefill_axes, prefill = _prefill(rows.take(rows["decodes"] == 0), shape[0])
    decode_axes, decode = grid(rows.take(rows["prefills"] == 0), ("decodes", "context"))
    mixed_rows = rows.take((rows["prefills"] == 1) & (rows["decodes"] > 0))
    mixed_axes: Sequence[Axis] = ((), (), (), ())
    mixed = np.empty(0)
    if len(mixed_rows):
        mixed_axes, mixed = grid(mixed_rows, ("chunk", "prefix", "decodes", "context"))
    return AttentionTable(
        form, library, *shape,
        *prefill_axes, _flat(prefill),
        *decode_axes, _flat(decode),
        *mixed_axes, _flat(mixed),
    )  # type: ignore[call-arg]  # fmt: skip


def grid(rows: KernelTable, axes: Sequence[str]) -> tuple[list[Axis], Grid]:
    """Return the axes and the times of a grid, cells that were not measured filled in.

    A missing cell continues the line through the last two before it along the first axis that has
    them; before the first one, that one holds.
    """
    points = medians(rows, axes)
    values = [sorted({float(key[i]) for key in points}) for i in range(len(axes))]
    cells = np.full([len(axis) for axis in values], np.nan)
    for key, time in points.items():
        cells[tuple(values[i].index(float(x)) for i, x in enumerate(key))] = time
    for i in (*reversed(range(len(axes))), *range(len(axes))):
        cells = np.apply_along_axis(_continued, i, cells, np.array(values[i]))
    if np.isnan(cells).any():
        raise InputError(f"too few points for a grid of {' x '.join(axes)}")
    return [tuple(axis) for axis in values], cells


def _continued(times: Grid, x: Grid) -> Grid:
    known = np.flatnonzero(~np.isnan(times))
    if len(known) < 2 or len(known) == len(times):
        return times
    filled = np.interp(x, x[known], times[known])
    a, b = known[-2:]
    slope = max((times[b] - times[a]) / (x[b] - x[a]), 0.0)
    filled[b:] = times[b] + slope * (x[b:] - x[b])
    return filled


def _prefill(rows: KernelTable, heads: int) -> tuple[list[Axis], Grid]:
    """Times by chunk and prefix; prefixes that were not measured are priced by their pairs."""
    single = rows.take(rows["prefills"] == 1)
    (chunks, prefixes), cells = grid(single, ("chunk", "prefix"))
    if len(prefixes) > 1:
        return [chunks, prefixes], cells
    x, own = np.array(chunks), cells[:, 0]
    pairs = x * (x + 1) / 2
    pair_s = (own[-1] - own[-2]) / (pairs[-1] - pairs[-2])
    longest = chunks[-1]
    entry_s = pair_s * np.maximum(x, FULL_TOKENS / heads)
    return [chunks, (0.0, longest)], np.stack([own, own + longest * entry_s], axis=1)


def _flat(cells: Grid) -> tuple[float, ...]:
    return tuple(cells.ravel().tolist())
