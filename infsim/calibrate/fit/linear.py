"""Linear layers: measured times by format, shape and tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import exp, log
from statistics import median

from infsim.calibrate.fit.points import curves
from infsim.calibrate.table import KernelTable
from infsim.cost.curves import Curve
from infsim.cost.tables import LinearTable
from infsim.cost.tiles import CHOICES, LINES, Tiles, work
from infsim.model.catalog import FORMATS

Shape = tuple[int, int]
Curves = Mapping[Shape, Curve]

PRUNED = {
    **{("2:4", form): "sparse24" for form in ("fp16", "bf16")},
    ("2:4", "fp8"): "sparse24-fp8",
    **{("unstructured", form): f"{form}-csr" for form in ("fp32", "fp16")},
    **{("block-32", form): f"{form}-block" for form in ("fp32", "fp16")},
}
"""Formats of the catalogue with a pattern of zeros in weights of a number type; where these may be
more or fewer, the name ends with their percentage."""
CLEARLY = 0.97
"""Share of the error of lines below which tiles are said to tell more."""
SHARED = 0.5
"""Share of what other shapes take more or less than their lines, between the points of a shape."""


@dataclass(frozen=True)
class MeasuredLinear:
    """All that was measured of one format.

    Attributes
    ----------
    table : LinearTable
        Of all shapes at the union of their tokens.
    curves : mapping of (int, int) to Curve
        The measured points of each shape.
    """

    table: LinearTable
    curves: Curves


def linear_rows(table: KernelTable) -> dict[tuple[str, str], KernelTable]:
    """Return the rows of linear layers of known shape by format and library.

    Dense ones, and those with a pattern of zeros that is a format of the catalogue.
    """
    known = table.select(kernel="linear", experts=0)
    known = known.take((known["n"] > 0) & (known["k"] > 0))
    dense = known.take(~(known["density"] < 1))
    found = {}
    for form, library in sorted(set(zip(dense["format"], dense["library"], strict=True))):
        found[form, library] = dense.select(format=form, library=library)
    for (pattern, form), name in PRUNED.items():
        pruned = known.select(pattern=pattern, format=form)
        for library, density in sorted(set(zip(pruned["library"], pruned["density"], strict=True))):
            zeros = "" if pattern == "2:4" else f"{100 * (1 - density):.0f}"
            if name + zeros in FORMATS.names():
                found[name + zeros, library] = pruned.select(library=library, density=density)
    return found


def fit_linears(table: KernelTable) -> list[MeasuredLinear]:
    """Return one table for each format: of the library that measured most points.

    bf16 and fp16 are alike on GPUs, and not on processors: one that has less than half as many
    points as the other is left out, so that the other stands in for it.
    """
    best: dict[str, tuple[int, str, KernelTable]] = {}
    for (form, library), rows in linear_rows(table).items():
        if form not in best or len(rows) > best[form][0]:
            best[form] = len(rows), library, rows
    for form, other in (("bf16", "fp16"), ("fp16", "bf16")):
        if form in best and other in best and 2 * best[form][0] < best[other][0]:
            del best[form]
    found = []
    for form, (_, library, rows) in best.items():
        measured = measured_linear(form, library, rows)
        experts = _experts(table.select(kernel="linear", format=form))
        found.append(replace(measured, table=replace(measured.table, experts=experts)))
    return found


def _experts(rows: KernelTable) -> dict[tuple[int, int, int], tuple[tuple[float, Curve], ...]]:
    """Return curves along the experts that get tokens, by shape and experts, and by tokens."""
    grouped = rows.take((rows["experts"] > 0) & (rows["active_experts"] > 0) & (rows["n"] > 0))
    found: dict[tuple[int, int, int], tuple[tuple[float, Curve], ...]] = {}
    for (n, k, experts, tokens), curve in curves(
        grouped, ("n", "k", "experts", "tokens"), "active_experts"
    ).items():
        found[n, k, experts] = (*found.get((n, k, experts), ()), (float(tokens), curve))
    return found


def measured_linear(form: str, library: str, rows: KernelTable) -> MeasuredLinear:
    """Return what the rows of one format and library say, at the tokens of any of its shapes."""
    found: Curves = {(n, k): curve for (n, k), curve in curves(rows, ("n", "k"), "tokens").items()}
    tokens = tuple(sorted({x for curve in found.values() for x in curve.x}))
    tiles = best_tiles(list(found.values()))
    shapes = {shape: tuple(between(found, shape, x, tiles) for x in tokens) for shape in found}
    return MeasuredLinear(LinearTable(form, library, tokens, shapes, {}, tiles), found)


def best_tiles(curves: Sequence[Curve]) -> Tiles:
    """Return the tiles with which inner points are told best by the others, each left out in turn.

    Lines, unless tiles make the mean error (of logarithms) clearly smaller.
    """
    errors = {
        tiles: [
            abs(log(left_out(curve, i, tiles) / curve.time_s[i]))
            for curve in curves
            for i in range(1, len(curve.x) - 1)
        ]
        for tiles in CHOICES
    }
    best = min(CHOICES, key=lambda tiles: sum(errors[tiles]))
    return best if sum(errors[best]) < CLEARLY * sum(errors[LINES]) else LINES


def left_out(curve: Curve, i: int, tiles: Tiles) -> float:
    """Seconds at the i-th point as its neighbours say."""
    return _line(curve, curve.x[i - 1], curve.x[i], curve.x[i + 1], tiles)


def between(
    known: Curves, shape: Shape, tokens: float, tiles: Tiles, *, held_out: bool = False
) -> float:
    """Seconds of a shape at a number of tokens, as measured, or between its points.

    Kernels change at the same tokens for all shapes: between two points it is the line (in the work
    of the tokens, see `infsim.cost.tiles`), times half (in the logarithm) of what others, measured
    there, take over their own lines in the median.

    Parameters
    ----------
    known : mapping of (int, int) to Curve
    shape : tuple of int
    tokens : float
    tiles : Tiles
    held_out : bool
        Take the point as if it was not measured.
    """
    own = known[shape]
    if tokens in own.x and not held_out:
        return own.at(tokens)
    low = max((x for x in own.x if x < tokens), default=None)
    high = min((x for x in own.x if x > tokens), default=None)
    if low is None or high is None:
        return own.at(tokens)
    excess = [
        log(other.at(tokens) / _line(other, low, tokens, high, tiles))
        for name, other in known.items()
        if name != shape and tokens in other.x and other.x[0] <= low and high <= other.x[-1]
    ]
    return _line(own, low, tokens, high, tiles) * exp(SHARED * median(excess) if excess else 0.0)


def _line(curve: Curve, low: float, tokens: float, high: float, tiles: Tiles) -> float:
    start, here, end = (work(m, tiles) for m in (low, tokens, high))
    return Curve((start, end), (curve.at(low), curve.at(high))).at(here)
