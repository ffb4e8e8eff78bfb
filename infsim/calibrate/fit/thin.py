"""Fewer points: those that their neighbours tell anyway are left out.

Public tables have tens of thousands of matrix products. Coefficients keep the shapes and numbers
of tokens that are hardest to predict from the others.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from infsim.cost.calibration import LinearTable
from infsim.cost.curves import Curve
from infsim.cost.linear import NEIGHBOURS, Peak

Array = NDArray[np.float64]

MOST_SHAPES = 100
MOST_TIMES = 6000
MOST_POINTS = 160
LEAST_SIZE = 256


def thinned(
    table: LinearTable, peak: Peak, shapes: int = MOST_SHAPES, times: int = MOST_TIMES
) -> LinearTable:
    """Return a table of at most so many shapes, and times; the extremes are kept.

    Matrices of fewer than 256 features a side, which no layer has, go first where there are too
    many.
    """
    if len(table.shapes) > shapes:
        large = {s: t for s, t in table.shapes.items() if min(s) >= LEAST_SIZE}
        table = replace(table, shapes=large or table.shapes)
    known = list(table.shapes)
    excess = excess_of(table, peak)
    kept = _shapes_kept(np.log(np.array(known, dtype=float)), excess, shapes)
    rows = np.array(list(table.shapes.values()))
    chosen = points_kept(np.array(table.tokens), rows, times // len(kept))
    return replace(
        table,
        tokens=tuple(table.tokens[j] for j in chosen),
        shapes={known[i]: tuple(table.shapes[known[i]][j] for j in chosen) for i in kept},
    )


def thinned_curve(curve: Curve, points: int = MOST_POINTS) -> Curve:
    """Return a curve of at most so many of its points, the first and the last among them."""
    kept = points_kept(np.array(curve.x), np.array([curve.time_s]), points)
    return Curve(tuple(curve.x[i] for i in kept), tuple(curve.time_s[i] for i in kept))


def excess_of(table: LinearTable, peak: Peak) -> Array:
    """Logarithm of the times over the reference, by shape and tokens."""
    return np.array(
        [
            [
                np.log(t / peak.reference_s(m, n, k))
                for m, t in zip(table.tokens, times, strict=True)
            ]
            for (n, k), times in table.shapes.items()
        ]
    )


def _shapes_kept(places: Array, excess: Array, most: int) -> list[int]:
    """Leave out, round by round, the tenth that its neighbours predict best."""
    kept = np.arange(len(places))
    corners = [places.min(axis=0), places.max(axis=0)]
    edge = np.array([any((place == corner).all() for corner in corners) for place in places])
    while len(kept) > most:
        error = _predicted(places[kept], excess[kept])
        error[edge[kept]] = np.inf
        drop = min(max(len(kept) // 10, 1), len(kept) - most)
        kept = np.delete(kept, np.argsort(error, kind="stable")[:drop])
    return sorted(kept.tolist())


def _predicted(places: Array, excess: Array) -> Array:
    """95th percentile of the error of each shape, from the shapes around it."""
    apart = np.hypot(*(places[:, None] - places[None]).transpose(2, 0, 1))
    np.fill_diagonal(apart, np.inf)
    near = np.argsort(apart, axis=1, kind="stable")[:, :NEIGHBOURS]
    weights = 1 / np.take_along_axis(apart, near, axis=1) ** 2
    weights /= weights.sum(axis=1, keepdims=True)
    guess = (weights[:, :, None] * excess[near]).sum(axis=1)
    found: Array = np.quantile(np.abs(guess - excess), 0.95, axis=1)
    return found


def points_kept(points: Array, times: Array, most: int) -> list[int]:
    """Return at most so many indices: points whose lines between the others err least go first."""
    kept = list(range(len(points)))
    while len(kept) > most:
        inner = np.array(kept)
        x, t = points[inner], times[:, inner]
        share = (x[1:-1] - x[:-2]) / (x[2:] - x[:-2])
        line = t[:, :-2] + share * (t[:, 2:] - t[:, :-2])
        error = np.quantile(np.abs(line / t[:, 1:-1] - 1), 0.9, axis=0)
        kept.pop(int(np.argmin(error)) + 1)
    return kept
