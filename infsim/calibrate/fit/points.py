"""Measured points by what was measured, repeated ones as their median."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from infsim.calibrate.table import KernelTable
from infsim.cost.curves import Curve

Key = tuple[Any, ...]


def medians(table: KernelTable, columns: Sequence[str]) -> dict[Key, float]:
    """Return the median time of the rows of each combination of some columns, sorted by it."""
    times: dict[Key, list[float]] = {}
    cells = [table[name].tolist() for name in columns]
    for *key, time in zip(*cells, table["time_s"].tolist(), strict=True):
        times.setdefault(tuple(key), []).append(time)
    return {key: float(np.median(times[key])) for key in sorted(times)}


def curves(table: KernelTable, by: Sequence[str], along: str) -> dict[Key, Curve]:
    """Return a curve along one column for each combination of others."""
    points: dict[Key, list[tuple[float, float]]] = {}
    for (*key, x), time in medians(table, (*by, along)).items():
        points.setdefault(tuple(key), []).append((float(x), time))
    return {key: curve_of(found) for key, found in points.items()}


def curve_of(points: Iterable[tuple[float, float]]) -> Curve:
    """Return the curve through some points."""
    x, time = zip(*sorted(points), strict=True)
    return Curve(tuple(x), tuple(time))
