"""Cross-validated errors of fits: each measured point predicted from the others.

Where points were drawn for it, `infsim.calibrate.fit.held_out` tells better.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from math import log
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from infsim.calibrate.fit.attention import (
    Axis,
    Grid,
    attention_rows,
    grid,
    mixed_rows,
    sum_errors,
)
from infsim.calibrate.fit.attention_keys import on_prefixes
from infsim.calibrate.fit.linear import Curves, MeasuredLinear, Shape, between
from infsim.calibrate.fit.points import Key, medians
from infsim.calibrate.table import KernelTable
from infsim.cost.attention import AttentionTime
from infsim.cost.curves import Curve, total
from infsim.cost.linear import LinearTimes, Peak
from infsim.cost.monotone import interpolated
from infsim.cost.tables import AttentionTable, ElementTable, LinearTable
from infsim.cost.tiles import staircase

FOLDS = 5


def summary(what: str, form: str, held_out: str, errors: ArrayLike) -> dict[str, Any]:
    """Return median and 95th percentile of the absolute relative errors, for the file."""
    size = np.abs(np.asarray(errors, dtype=np.float64))
    return {
        "what": what,
        "format": form,
        "held_out": held_out,
        "points": int(size.size),
        "median": round(float(np.median(size)), 4),
        "p95": round(float(np.quantile(size, 0.95)), 4),
    }


def linear_errors(kept: LinearTable, measured: MeasuredLinear, peak: Peak) -> list[dict[str, Any]]:
    """Return the errors of linear layers.

    Parameters
    ----------
    kept : LinearTable
        The coefficients.
    measured : MeasuredLinear
        All that was measured, in the same format.
    peak : Peak

    Notes
    -----
    Held-out tokens: those that the coefficients leave out, for the shapes that they keep; where
    they keep all, each in turn. Held-out shapes: those that the coefficients leave out, and the
    kept ones a fifth at a time; with fewer than ten shapes, each in turn. Only points that were
    measured count.
    """
    form = kept.format
    found = []
    if errors := _token_errors(kept, measured.curves):
        found.append(summary("linear", form, "tokens", errors))
    if len(measured.curves) > 3:
        shapes = dict(_held_out_shapes(kept, measured.curves, peak))
        errors = [e for by_tokens in shapes.values() for e in by_tokens]
        found.append(summary("linear", form, "shapes", errors))
    return found


def _token_errors(kept: LinearTable, measured: Curves) -> list[float]:
    errors = []
    left_out = {x for curve in measured.values() for x in curve.x} - set(kept.tokens)
    # where most shapes were measured, a gap is one of all of them: nobody tells of it
    often = Counter(x for curve in measured.values() for x in curve.x)
    gaps = {x for x, count in often.items() if 2 * count > len(measured)}
    for shape, times in kept.shapes.items():
        true, curve = measured[shape], kept.curve(times)
        if left_out:
            errors += [curve.at(m) / true.at(m) - 1 for m in true.x if m in left_out]
        else:
            alone = {shape: true}
            errors += [
                between(alone if m in gaps else measured, shape, m, kept.tiles, held_out=True)
                / true.at(m)
                - 1
                for m in true.x[1:-1]
            ]
    return errors


def one_by_one(curve: Curve) -> list[float]:
    """Relative errors of each inner point of a curve, from the line between its neighbours."""
    errors = []
    for i in range(1, len(curve.x) - 1):
        ends = Curve(curve.x[i - 1 : i + 2 : 2], curve.time_s[i - 1 : i + 2 : 2])
        errors.append(ends.at(curve.x[i]) / curve.time_s[i] - 1)
    return errors


def _held_out_shapes(
    kept: LinearTable, measured: Curves, peak: Peak
) -> Iterator[tuple[Shape, list[float]]]:
    """Yield the errors of each shape at the tokens of the coefficients, from other shapes."""
    shapes = list(kept.shapes)
    folds = np.random.default_rng(0).permutation(len(shapes)) % min(FOLDS, len(shapes))
    if len(shapes) < 2 * FOLDS:
        folds = np.arange(len(shapes))
    least = min(min(shape) for shape in shapes)
    rest = [s for s in measured if s not in kept.shapes and min(s) >= least]
    yield from _errors(kept, measured, peak, rest)
    for fold in range(int(folds.max()) + 1):
        out = [shape for shape, f in zip(shapes, folds, strict=True) if f == fold]
        others = {shape: t for shape, t in kept.shapes.items() if shape not in out}
        yield from _errors(replace(kept, shapes=others), measured, peak, out)


def _errors(
    table: LinearTable, measured: Curves, peak: Peak, shapes: Sequence[Shape]
) -> Iterator[tuple[Shape, list[float]]]:
    times = LinearTimes(table, peak)
    for n, k in shapes:
        true, guess = measured[n, k], times.curve(n, k)
        there = [m for m in true.x if m in table.tokens]
        yield (n, k), [guess.at(m) / true.at(m) - 1 for m in there]


def layer_errors(kept: LinearTable, whole: LinearTable, peak: Peak) -> list[dict[str, Any]]:
    """Return the error of the four matrices of a layer together, none of which is known.

    Layers are made of the shapes that were measured: hidden size h, 1.5 h features out of the
    first matrix and 4 h inside of the feed-forward part.
    """
    errors: list[float] = []
    hidden = sorted({k for n, k in whole.shapes if n == k})
    for h in hidden:
        layer = [(3 * h // 2, h), (h, h), (4 * h, h), (h, 4 * h)]
        if not all(shape in whole.shapes for shape in layer):
            continue
        others = {shape: t for shape, t in kept.shapes.items() if shape not in layer}
        times = LinearTimes(replace(kept, shapes=others), peak)
        curves = [(times.curve(n, k), Curve(whole.tokens, whole.shapes[n, k])) for n, k in layer]
        for m in kept.tokens:
            guess = sum(curve.at(m) for curve, _ in curves)
            errors.append(guess / sum(true.at(m) for _, true in curves) - 1)
    return [summary("matrices of a layer", kept.format, "shapes", errors)] if errors else []


def attention_errors(rows: KernelTable, fitted: Sequence[AttentionTable]) -> list[dict[str, Any]]:
    """Return the errors off the grids or inside of them, and of shapes of heads left out.

    Where more was measured than a grid keeps, at what it leaves out; else at each inner point, from
    the others.
    """
    known = attention_rows(rows)
    found: dict[tuple[str, str, str], list[float]] = {}
    for table in fitted:
        shape = table.heads, table.kv_heads, table.head_dim
        one = known[table.format, table.library, shape]
        for what, (part, axes) in _parts(one).items():
            if what == "mixed" and not table.mixed_s:
                held_out, errors = "sum of the parts", sum_errors(table, part)
            elif left_out := _off_grid(what, part, axes, table):
                held_out, errors = "points off the grid", priced(left_out, AttentionTime(table))
            elif len(part):
                errors = _inner(axes, *grid(part, axes, filled=False)).tolist()
                held_out = "points of the grid"
            else:
                continue
            found.setdefault((what, table.format, held_out), []).extend(errors)
    for (form, _, shape), one in known.items():
        if any((t.format, (t.heads, t.kv_heads, t.head_dim)) == (form, shape) for t in fitted):
            continue
        for what, errors in _other_shape(one, form, shape, fitted):
            found.setdefault((what, form, "shapes of heads"), []).extend(errors)
    return [summary(*key, errors) for key, errors in found.items() if errors]


def _parts(rows: KernelTable) -> dict[str, tuple[KernelTable, tuple[str, ...]]]:
    prompts, decodes = rows["prefills"], rows["decodes"]
    return {
        "prefill": (rows.take((decodes == 0) & (prompts == 1)), ("chunk", "prefix")),
        "decode": (rows.take(prompts == 0), ("decodes", "context")),
        "mixed": (mixed_rows(rows), ("chunk", "prefix", "decodes", "context")),
        "several prompts": (
            rows.take((prompts > 1) & (rows["prefix"] == 0)),
            ("prefills", "chunk"),
        ),
    }


def _other_shape(
    rows: KernelTable, form: str, shape: tuple[int, int, int], fitted: Sequence[AttentionTable]
) -> Iterator[tuple[str, list[float]]]:
    """Yield the errors of a shape of heads that is priced with the table of another one."""
    heads, kv_heads, head_dim = shape
    like = [
        table
        for table in fitted
        if (table.format, table.head_dim, table.heads / table.kv_heads)
        == (form, head_dim, heads / kv_heads)
    ]
    if not like:
        return
    near = min(like, key=lambda table: abs(log(table.kv_heads / kv_heads)))
    ratio = kv_heads / near.kv_heads
    times = AttentionTime(near, ratio, ratio)
    points = medians(rows, BATCH)
    yield "prefill", priced({b: t for b, t in points.items() if not b[3]}, times)
    yield "decode", priced({b: t for b, t in points.items() if not b[0]}, times)


BATCH = ("prefills", "chunk", "prefix", "decodes", "context")


def _off_grid(
    what: str, rows: KernelTable, axes: Sequence[str], table: AttentionTable
) -> dict[Key, float]:
    """Batches of prompts, or of decodes, at values of an axis that the coefficients leave out."""
    kept = {
        "prefill": (table.chunks, table.prefixes),
        "decode": (table.sequences, table.contexts),
        "several prompts": (table.prompts, table.prompt_chunks),
    }
    if what not in kept:
        return {}
    at = [BATCH.index(name) for name in axes]
    return {
        batch: time
        for batch, time in medians(rows, BATCH).items()
        if any(batch[i] not in axis for i, axis in zip(at, kept[what], strict=True))
    }


def priced(points: Mapping[Key, float], times: AttentionTime) -> list[float]:
    """Return relative errors of batches of prompts, or of decodes, within the sizes of the grid."""
    errors = []
    for (count, chunk, prefix, decodes, context), true in points.items():
        if decodes and decodes <= times.most_sequences:
            curve = Curve(times.contexts, tuple(times.decode_s(decodes)))
            errors.append(curve.at(context) / true - 1)
        elif count and count * chunk <= times.longest_chunk:
            pairs = count * (chunk * prefix + chunk * (chunk + 1) / 2)
            errors.append(times.prefill_s(count * chunk, pairs) / true - 1)
    return errors


ELEMENTS, HEAD = "element-wise", "head and sampling"


def element_kind(kernel: str) -> str:
    """Return under which name the errors of a kernel are told."""
    return HEAD if kernel in ("head", "sample") else ELEMENTS


def element_errors(elements: Sequence[ElementTable]) -> list[dict[str, Any]]:
    """Return the errors of element-wise kernels together, and of heads and sampling."""
    kinds: dict[str, list[float]] = {ELEMENTS: [], HEAD: []}
    for table in elements:
        kinds[element_kind(table.kernel)] += one_by_one(table.curve)
    return [summary(kind, "", "tokens", errors) for kind, errors in kinds.items() if errors]


def step_errors(
    rows: KernelTable,
    fitted: Sequence[AttentionTable],
    linear: LinearTable,
    elements: Sequence[ElementTable],
) -> list[dict[str, Any]]:
    """Return the errors of whole layers: all kernels together, tokens and attention held out.

    Of a table that measured the layer of one model, whose matrices are all of its shapes. Each
    inner point of the attention's grid is told by its neighbours, and so are the other kernels at
    its number of tokens.
    """
    known = attention_rows(rows)
    whole = _beside(linear, elements)
    found = []
    for table in fitted:
        one = known[table.format, table.library, (table.heads, table.kv_heads, table.head_dim)]
        one = on_prefixes(one)
        for what, (part, axes) in _parts(one).items():
            if len(part) and what in _STEPS:
                values, cells = grid(part, axes, filled=False)
                tokens = sum(
                    np.array(axis).reshape([-1 if j == i else 1 for j in range(len(axes))])
                    for i, axis in enumerate(values)
                    if axes[i] in ("chunk", "decodes")
                )
                tokens = np.broadcast_to(tokens, cells.shape)
                beside = np.vectorize(whole.at)(tokens)
                sizes, at = np.unique(tokens, return_inverse=True)
                left_out = [_beside(linear, elements, x).at(x) for x in sizes.tolist()]
                guessed = np.array(left_out)[at].reshape(cells.shape)
                errors = _inner(axes, values, cells, beside, guessed)
                if errors.size:
                    found.append(summary(_STEPS[what], table.format, "tokens and grid", errors))
    return found


_TIMES = {"norm": 2.0, "activation": 1.0, "rotary": 1.0, "residual": 2.0, "kv_write": 1.0}
_STEPS = {"prefill": "prefill layer", "decode": "decode layer", "mixed": "mixed layer"}


def _beside(linear: LinearTable, elements: Sequence[ElementTable], but: float = 0.0) -> Curve:
    """All kernels of a layer beside attention, as if one number of tokens was not measured."""
    return total(
        [
            (1.0, staircase(*_without(linear.tokens, times, but), linear.tiles))
            for times in linear.shapes.values()
        ]
        + [
            (_TIMES.get(t.kernel, 0.0), Curve(*_without(t.curve.x, t.curve.time_s, but)))
            for t in elements
        ]
    )


def _without(x: Axis, times: Axis, but: float) -> tuple[Axis, Axis]:
    """Points but an inner one."""
    if but not in x[1:-1]:
        return x, times
    i = x.index(but)
    return x[:i] + x[i + 1 :], times[:i] + times[i + 1 :]


def _inner(
    axes: Sequence[str],
    values: Sequence[Axis],
    cells: Grid,
    beside: ArrayLike = 0.0,
    guessed: ArrayLike = 0.0,
) -> NDArray[np.float64]:
    """Relative errors of inner points, with other kernels beside them and the guess at those."""
    whole, other = np.broadcast_to(beside, cells.shape), np.broadcast_to(guessed, cells.shape)
    found = []
    for i, axis in enumerate(values):
        x = np.array(axis)
        if len(x) < 3:
            continue
        t, b, g = (np.moveaxis(a, i, -1)[..., 1:-1] for a in (cells, whole, other))
        along = np.moveaxis(cells, i, -1)
        guess = _curved(x, along) if axes[i] == "chunk" else _straight(x, along)
        found.append(((guess + g) / (t + b) - 1).ravel())
    errors = np.concatenate(found) if found else np.zeros(0)
    return errors[~np.isnan(errors)]


def _straight(x: NDArray[np.float64], t: Grid) -> Grid:
    """Inner points of the last axis as lines between their neighbours say."""
    share = (x[1:-1] - x[:-2]) / (x[2:] - x[:-2])
    line: Grid = t[..., :-2] + share * (t[..., 2:] - t[..., :-2])
    return line


def _curved(x: NDArray[np.float64], t: Grid) -> Grid:
    """Inner points of each row as the monotone cubic through its others says."""
    guess = np.full((*t.shape[:-1], len(x) - 2), np.nan)
    for row in np.ndindex(t.shape[:-1]):
        known = np.flatnonzero(~np.isnan(t[row]))
        for i in known[1:-1].tolist():
            others = known[known != i]
            guess[(*row, i - 1)] = interpolated(x[others], t[row][others], x[i : i + 1])[0]
    return guess
