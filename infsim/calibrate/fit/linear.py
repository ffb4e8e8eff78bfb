"""Linear layers: measured times by format, shape and tokens."""

from __future__ import annotations

from collections import Counter

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

    All shapes share the tokens of their union; between their own points times are interpolated.
    """
    best: dict[str, tuple[str, KernelTable]] = {}
    for (form, library), rows in linear_rows(table).items():
        if form not in best or len(rows) > len(best[form][1]):
            best[form] = library, rows
    return [linear_table(form, library, rows) for form, (library, rows) in best.items()]


def linear_table(form: str, library: str, rows: KernelTable) -> LinearTable:
    """Return the table of the rows of one format and library."""
    found = curves(rows, ("n", "k"), "tokens")
    tokens = tuple(sorted({x for curve in found.values() for x in curve.x}))
    shapes = {(n, k): tuple(curve.at(x) for x in tokens) for (n, k), curve in found.items()}
    return LinearTable(form, library, tokens, shapes, {})


def shape_curves(table: LinearTable) -> dict[tuple[int, int], Curve]:
    """Return the curve of each shape of a table."""
    return {shape: Curve(table.tokens, times) for shape, times in table.shapes.items()}
