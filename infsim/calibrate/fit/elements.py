"""Element-wise kernels, heads, sampling and collectives: curves along tokens, sequences, bytes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from infsim.calibrate.fit.points import curves, medians
from infsim.calibrate.fit.thin import thinned_curve
from infsim.calibrate.table import KernelTable
from infsim.cost.curves import Curve
from infsim.cost.tables import ALL_GATHER, ALL_REDUCE, REDUCE_SCATTER, CollectiveTable, ElementTable

KERNELS = ("norm", "activation", "rotary", "residual", "kv_write", "embedding", "sample")
_COLLECTIVES = (ALL_REDUCE, ALL_GATHER, REDUCE_SCATTER)
_OTHER_NORMS = ("final_norm", "head_norm")


def fit_elements(table: KernelTable) -> list[ElementTable]:
    """Return a curve for each element-wise kernel and width, and for each head.

    The width of a head is the number of its weights.
    """
    found = []
    for kernel in KERNELS:
        rows = element_rows(table, kernel)
        found += [
            ElementTable(kernel, width, thinned_curve(curve))
            for (width,), curve in curves(rows, ("n",), "tokens").items()
        ]
    heads = element_rows(table, "head")
    heads = heads.take(heads["k"] > 0)
    found += [
        ElementTable("head", n * k, thinned_curve(curve))
        for (n, k), curve in curves(heads, ("n", "k"), "tokens").items()
    ]
    return found


def element_rows(table: KernelTable, kernel: str) -> KernelTable:
    """Return the rows of a kernel of known width that is run in every layer, or of heads."""
    rows = table.select(kernel=kernel)
    return rows.take((rows["n"] > 0) & ~_among(rows, _OTHER_NORMS))


def fit_collectives(table: KernelTable) -> list[CollectiveTable]:
    """Return the curves of operations inside a machine, by devices: the fastest library's."""
    rows = table.select(kernel="collective")
    rows = rows.take((rows["nodes"] <= 1) & (rows["bytes"] > 0) & _among(rows, _COLLECTIVES))
    best: dict[tuple[str, int], Curve] = {}
    for (_, *key), curve in curves(rows, ("library", "name", "devices"), "bytes").items():
        operation = key[0], key[1]
        if operation not in best or curve.at(2**20) < best[operation].at(2**20):
            best[operation] = curve
    return [
        CollectiveTable(devices, thinned_curve(curve), name)
        for (name, devices), curve in sorted(best.items())
    ]


def load_bytes_per_s(table: KernelTable) -> float | None:
    """Return how fast the largest file was loaded, in bytes per second; None if none was."""
    points = medians(table.select(kernel="load"), ("bytes",))
    (size,), time = max(points.items(), default=((0,), 1.0))
    return float(f"{size / time:.4g}") if size else None


def _among(rows: KernelTable, names: tuple[str, ...]) -> NDArray[np.bool_]:
    return np.isin(rows["name"].astype(str), names)
