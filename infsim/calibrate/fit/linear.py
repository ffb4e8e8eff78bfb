"""Linear layers: measured times by format, shape and tokens."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from infsim.calibrate.fit.points import curves
from infsim.calibrate.table import KernelTable
from infsim.cost.calibration import LinearTable
from infsim.cost.curves import Curve


def linear_rows(table: KernelTable) -> dict[tuple[str, str], KernelTable]:
    """Return the rows of dense linear layers of known shape by format and library."""
    dense = table.select(kernel="linear", experts=0)
    dense = dense.take((dense["n"] > 0) & (dense["k"] > 0) & ~(dense["density"] < 1))
    pairs = Counter(zip(dense["format"].tolist(), dense["library"].tolist(), strict=True))
    return {
        (form, library): dense.select(format=form, library=library)
        for form, library in sorted(pairs)
    }


def fit_linears(table: KernelTable) -> list[LinearTable]:
    """Return one table for each format: of the library that measured most points.

    bf16 and fp16 are alike on GPUs, and not on processors: one that has less than half as many
    points as the other is left out, so that the other stands in for it. All shapes share the tokens
    of their union; between their own points times are interpolated.
    """
    best: dict[str, tuple[int, LinearTable]] = {}
    for (form, library), rows in linear_rows(table).items():
        if form not in best or len(rows) > best[form][0]:
            best[form] = len(rows), linear_table(form, library, rows)
    for form, other in (("bf16", "fp16"), ("fp16", "bf16")):
        if form in best and other in best and 2 * best[form][0] < best[other][0]:
            del best[form]
    return [
        replace(fitted, experts=_experts(table.select(kernel="linear", format=fitted.format)))
        for _, fitted in best.values()
    ]


def _experts(rows: KernelTable) -> dict[tuple[int, int, int], tuple[tuple[float, Curve], ...]]:
    """Return curves along the experts that get tokens, by shape and experts, and by tokens."""
    grouped = rows.take((rows["experts"] > 0) & (rows["active_experts"] > 0) & (rows["n"] > 0))
    found: dict[tuple[int, int, int], tuple[tuple[float, Curve], ...]] = {}
    for (n, k, experts, tokens), curve in curves(
        grouped, ("n", "k", "experts", "tokens"), "active_experts"
    ).items():
        found[n, k, experts] = (*found.get((n, k, experts), ()), (float(tokens), curve))
    return found


def linear_table(form: str, library: str, rows: KernelTable) -> LinearTable:
    """Return the table of the rows of one format and library."""
    found = curves(rows, ("n", "k"), "tokens")
    tokens = tuple(sorted({x for curve in found.values() for x in curve.x}))
    shapes = {(n, k): tuple(curve.at(x) for x in tokens) for (n, k), curve in found.items()}
    return LinearTable(form, library, tokens, shapes, {})
