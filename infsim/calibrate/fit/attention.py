"""Attention: grids of one chunk, of decodes, and of both in one batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from infsim.calibrate.fit.attention_keys import on_prefixes
from infsim.calibrate.fit.points import medians
from infsim.calibrate.fit.prefill import filled_prefill
from infsim.calibrate.fit.thin import points_kept
from infsim.calibrate.table import KernelTable
from infsim.cost.attention import FULL, AttentionTime
from infsim.cost.curves import Curve
from infsim.cost.monotone import interpolated
from infsim.cost.tables import AttentionTable
from infsim.errors import InputError
from infsim.model.catalog import MODELS, load

Grid = NDArray[np.float64]
Axis = tuple[float, ...]
Shape = tuple[int, int, int]

ONE_BY_ONE = 0.05
"""Error, in the median, at which the parts of mixed batches are said to tell them."""
MOST_POINTS = 20
"""Of an axis of a grid."""


def fit_attentions(table: KernelTable) -> list[AttentionTable]:
    """Return a table of each number type of the KV cache and shape of heads.

    Kept are the shapes of the catalogue's models and of their tensor-parallel shards; of a kind
    (head size, heads per KV head) of which none was measured, the shape with most points. Rows of
    sliding windows are left out, and shapes without prompts or without decodes.
    """
    used = _used_shapes()
    kinds = {_kind(shape) for shape in used}
    found = attention_rows(table)
    kept = {key for key in found if key[2] in used}
    known = {(form, _kind(shape)) for form, _, shape in kept}
    for key in sorted(found, key=lambda key: len(found[key]), reverse=True):
        kind = key[0], _kind(key[2])
        if kind[1] in kinds and kind not in known:
            known.add(kind)
            kept.add(key)
    return [attention_table(rows, *key) for key, rows in found.items() if key in kept]


def _kind(shape: Shape) -> tuple[int, float]:
    heads, kv_heads, head_dim = shape
    return head_dim, heads / kv_heads


def _used_shapes() -> set[Shape]:
    """Heads, KV heads and head size of the catalogue's models on 1 to 8 devices."""
    operators = (load(name).graph.operators[0] for name in MODELS.names())
    return {
        (op.heads // devices, max(op.kv_heads // devices, 1), op.head_dim)
        for op in operators
        for devices in (1, 2, 4, 8)
        if op.kv_heads and op.heads % devices == 0
    }


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
    """Whether there are prompts alone and decodes alone, each of several sizes."""
    prompts = rows.take((rows["decodes"] == 0) & (rows["prefills"] == 1))
    decodes = rows.take(rows["prefills"] == 0)
    sizes = (prompts["chunk"], decodes["decodes"], decodes["context"])
    return all(len(np.unique(axis)) > 1 for axis in sizes)


def attention_table(rows: KernelTable, form: str, library: str, shape: Shape) -> AttentionTable:
    """Return the grids of the rows of one shape (heads, KV heads, head size)."""
    rows = on_prefixes(rows)
    prefill_axes, prefill = _prefill(rows.take(rows["decodes"] == 0), shape[0])
    decode_axes, decode = grid(rows.take(rows["prefills"] == 0), ("decodes", "context"))
    prompts_axes: Sequence[Axis] = ((), ())
    prompts = np.empty(0)
    several = rows.take((rows["prefills"] > 0) & (rows["prefix"] == 0) & (rows["decodes"] == 0))
    if _spans(several, _PROMPTS):
        prompts_axes, prompts = grid(several, _PROMPTS)
    heads, kv_heads, head_dim = shape
    chunks, prefixes = prefill_axes
    sequences, contexts = decode_axes
    counts, prompt_chunks = prompts_axes
    apart = AttentionTable(
        format=form,
        library=library,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        chunks=chunks,
        prefixes=prefixes,
        prefill_s=_flat(prefill),
        sequences=sequences,
        contexts=contexts,
        decode_s=_flat(decode),
        prompts=counts,
        prompt_chunks=prompt_chunks,
        prompts_s=_flat(prompts),
    )
    return _mixed(apart, mixed_rows(rows))


def mixed_rows(rows: KernelTable) -> KernelTable:
    """Return the rows of one chunk beside decodes."""
    return rows.take((rows["prefills"] == 1) & (rows["decodes"] > 0))


def _mixed(apart: AttentionTable, rows: KernelTable) -> AttentionTable:
    """Add the grid of mixed batches, if there is one, and their parts do not tell them anyway.

    Where one kernel runs after the other, as on processors, mixed batches are measured at a few
    points only, and the sum says more than lines between these.
    """
    if not _spans(rows, _MIXED) or np.median(np.abs(sum_errors(apart, rows))) < ONE_BY_ONE:
        return apart
    (chunks, prefixes, sequences, contexts), cells = grid(rows, _MIXED)
    return replace(
        apart,
        mixed_chunks=chunks,
        mixed_prefixes=prefixes,
        mixed_sequences=sequences,
        mixed_contexts=contexts,
        mixed_s=_flat(cells),
    )


def sum_errors(apart: AttentionTable, rows: KernelTable) -> list[float]:
    """Return the relative error of the sum of both parts at each measured mixed batch."""
    times = AttentionTime(apart)
    errors = []
    for (chunk, prefix, decodes, context), true in medians(rows, _MIXED).items():
        pairs = chunk * prefix + chunk * (chunk + 1) / 2
        decode = Curve(times.contexts, tuple(times.decode_s(decodes)))
        errors.append((times.prefill_s(chunk, pairs) + decode.at(context)) / true - 1)
    return errors


_PREFILL = ("chunk", "prefix")
_PROMPTS = ("prefills", "chunk")
_MIXED = ("chunk", "prefix", "decodes", "context")


def _spans(rows: KernelTable, axes: Sequence[str]) -> bool:
    """Whether there are rows of several values of each axis."""
    return all(len(np.unique(rows[axis])) > 1 for axis in axes)


def grid(rows: KernelTable, axes: Sequence[str], *, filled: bool = True) -> tuple[list[Axis], Grid]:
    """Return the axes and the times of a grid, cells that were not measured filled in.

    A missing cell continues the line through the last two before it along the first axis that has
    them; before the first one, that one holds. Chunks come first, and follow their curve; those of
    single prompts are filled by `infsim.calibrate.fit.prefill`. Without ``filled`` cells stay NaN.
    Of long axes the points are kept between which lines err most.
    """
    points = medians(rows, axes)
    values = [sorted({float(key[i]) for key in points}) for i in range(len(axes))]
    cells = np.full([len(axis) for axis in values], np.nan)
    for key, time in points.items():
        cells[tuple(values[i].index(float(x)) for i, x in enumerate(key))] = time
    measured = cells
    cells = filled_prefill(cells, values) if axes == _PREFILL else _filled(cells, axes, values)
    if np.isnan(cells).any():
        raise InputError(f"too few points for a grid of {' x '.join(axes)}")
    for i, axis in enumerate(values):
        across, there = (np.moveaxis(x, i, -1).reshape(-1, len(axis)) for x in (cells, measured))
        kept = points_kept(np.array(axis), across, MOST_POINTS, ~np.isnan(there))
        values[i] = [axis[j] for j in kept]
        cells, measured = np.take(cells, kept, axis=i), np.take(measured, kept, axis=i)
    cells = cells if filled else measured
    return [tuple(axis) for axis in values], cells


def _filled(cells: Grid, axes: Sequence[str], values: Sequence[Sequence[float]]) -> Grid:
    if "chunk" in axes:
        i = axes.index("chunk")
        cells = np.apply_along_axis(_curved, i, cells, np.array(values[i]))
    for i in (*reversed(range(len(axes))), *range(len(axes))):
        cells = np.apply_along_axis(_continued, i, cells, np.array(values[i]))
    return cells


def _curved(times: Grid, x: Grid) -> Grid:
    """Missing times along chunks by the monotone cubic, continued beyond the last two."""
    known = np.flatnonzero(~np.isnan(times))
    filled = _continued(times, x)
    if len(known) > 2:
        inner = np.arange(known[0], known[-1])
        inner = inner[np.isnan(times[inner])]
        filled[inner] = interpolated(x[known], times[known], x[inner])
    return filled


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
    (chunks, prefixes), cells = grid(single, _PREFILL)
    if len(prefixes) > 1:
        return [chunks, prefixes], cells
    x, own = np.array(chunks), cells[:, 0]
    pairs = x * (x + 1) / 2
    pair_s = (own[-1] - own[-2]) / (pairs[-1] - pairs[-2])
    longest = chunks[-1]
    entry_s = pair_s * np.maximum(x, FULL / heads)
    return [chunks, (0.0, longest)], np.stack([own, own + longest * entry_s], axis=1)


def _flat(cells: Grid) -> tuple[float, ...]:
    return tuple(cells.ravel().tolist())
