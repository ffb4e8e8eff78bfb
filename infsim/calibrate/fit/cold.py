"""Times as memory allows them, where a benchmark found its operands in a cache.

A microbenchmark multiplies with the same weights again and again, and attends to the same KV cache.
What fits into the last-level cache (96 MB on an L40S) is then faster than memory, which it is not
in a model: there, each layer brings its own. Rows faster than the memory of the largest problems
take what their bytes take at that rate.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from infsim.calibrate.table import KernelTable
from infsim.model.catalog import load_format

LARGE_BYTES = 256e6
"""Of so many, no last-level cache holds a part that matters."""
FEW_TOKENS = 16
"""Up to so many, a linear layer only reads its weights."""

FAST = 0.95
"""Quantile of the rates of large problems that is taken for the memory's."""


def cold(table: KernelTable) -> tuple[KernelTable, int]:
    """Return the table as if nothing was in a cache, and how many rows that changed."""
    time = table["time_s"].copy()
    weights = _per_row(table, "format", table["n"] * table["k"]) * (table["kernel"] == "linear")
    weights[table["experts"] > 0] = 0
    entries = table["decodes"] * table["context"] * 2 * table["kv_heads"] * table["head_dim"]
    kv = _per_row(table, "kv_format", entries) * (table["prefills"] == 0)
    kv[table["window"] > 0] = 0
    groups = np.array(
        [
            f"{kernel} {form} {kv_form} {library}"
            for kernel, form, kv_form, library in zip(
                table["kernel"], table["format"], table["kv_format"], table["library"], strict=True
            )
        ]
    )
    for moved, reads_only in ((weights, table["tokens"] <= FEW_TOKENS), (kv, kv > 0)):
        for group in np.unique(groups[moved > 0]):
            mine = (groups == group) & (moved > 0)
            large = mine & reads_only & (moved >= LARGE_BYTES)
            if large.any():
                rate = np.quantile(moved[large] / time[large], FAST)
                time[mine] = np.maximum(time[mine], moved[mine] / rate)
    changed = int((time > table["time_s"] * 1.001).sum())
    return replace(table, columns={**table.columns, "time_s": time}), changed


def _per_row(table: KernelTable, column: str, values: NDArray[np.int64]) -> NDArray[np.float64]:
    """Bytes of so many values of each row, in the format of a column, or else its main one."""
    bits = np.zeros(len(table))
    forms = np.where(table[column] == "", table["format"], table[column])
    for name in set(forms) - {""}:
        bits[forms == name] = load_format(name).weight_bits
    found: NDArray[np.float64] = values * bits / 8
    return found
