"""Fewer points: those that their neighbours tell anyway are left out.

Public tables have tens of thousands of matrix products. Coefficients keep the shapes and numbers
of tokens that are hardest to predict from the others.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from infsim.cost.curves import Curve
from infsim.cost.linear import SCATTER, Peak, covariance, excess_of
from infsim.cost.tables import LinearTable
from infsim.cost.tiles import work
from infsim.model.catalog import MODELS, load

Array = NDArray[np.float64]

MOST_SHAPES = 160
MOST_TIMES = 9600
MOST_POINTS = 160
LEAST_SIZE = 256
MOST_ERROR = 1e3
"""More than any error of a logarithm."""


def thinned(
    table: LinearTable, peak: Peak, shapes: int = MOST_SHAPES, times: int = MOST_TIMES
) -> LinearTable:
    """Return a table of at most so many shapes, and times.

    The extremes are kept, and the matrices of the catalogue's models and of their tensor-parallel
    shards. Matrices of fewer than 256 features a side, which no layer has, go first where there are
    too many.
    """
    if len(table.shapes) > shapes:
        large = {s: t for s, t in table.shapes.items() if min(s) >= LEAST_SIZE}
        table = replace(table, shapes=large or table.shapes)
    known = list(table.shapes)
    excess = np.array([excess_of(table, peak, shape) for shape in known])
    places = np.log(np.array(known, dtype=float))
    corners = places.min(axis=0), places.max(axis=0)
    used = used_shapes()
    rank = np.array(
        [
            np.inf if any((place == corner).all() for corner in corners) else float(shape in used)
            for shape, place in zip(known, places, strict=True)
        ]
    )
    kept = _shapes_kept(places, excess, rank, shapes)
    rows = np.array(list(table.shapes.values()))
    works = np.array([work(m, table.tiles) for m in table.tokens])
    chosen = points_kept(works, rows, times // len(kept))
    return replace(
        table,
        tokens=tuple(table.tokens[j] for j in chosen),
        shapes={known[i]: tuple(table.shapes[known[i]][j] for j in chosen) for i in kept},
    )


def thinned_curve(curve: Curve, points: int = MOST_POINTS) -> Curve:
    """Return a curve of at most so many of its points, the first and the last among them."""
    kept = points_kept(np.array(curve.x), np.array([curve.time_s]), points)
    return Curve(tuple(curve.x[i] for i in kept), tuple(curve.time_s[i] for i in kept))


def used_shapes() -> set[tuple[int, int]]:
    """Return the matrices of the catalogue's models on 1 to 8 devices."""
    linears = {linear for name in MODELS.names() for op in load(name).graph.operators
               for linear in op.linears}  # fmt: skip
    return {linear.shard(devices) for linear in linears for devices in (1, 2, 4, 8)}


def _shapes_kept(places: Array, excess: Array, rank: Array, most: int) -> list[int]:
    """Leave out, round by round, the tenth of the lowest rank that the others predict best."""
    kept = np.arange(len(places))
    while len(kept) > most:
        error = _predicted(places[kept], excess[kept])
        error = np.where(np.isinf(rank[kept]), np.inf, error + MOST_ERROR * rank[kept])
        drop = min(max(len(kept) // 10, 1), len(kept) - most)
        kept = np.delete(kept, np.argsort(error, kind="stable")[:drop])
    return sorted(kept.tolist())


def _predicted(places: Array, excess: Array) -> Array:
    """95th percentile of the error of each shape, from the others.

    Leaving one out of a kriging needs no other inverse: the error is what the inverse of the
    covariance makes of the values, over its diagonal.
    """
    inverse = np.linalg.inv(covariance(places, places, SCATTER))
    errors = inverse @ (excess - excess.mean(axis=0)) / np.diag(inverse)[:, None]
    found: Array = np.quantile(np.abs(errors), 0.95, axis=1)
    return found


def points_kept(
    points: Array, times: Array, most: int, measured: NDArray[np.bool_] | None = None
) -> list[int]:
    """Return at most so many indices: points whose lines between the others err least go first.

    Only errors at ``measured`` times count, all by default.
    """
    kept = list(range(len(points)))
    if measured is None:
        measured = np.ones(times.shape, dtype=np.bool_)
    while len(kept) > most:
        inner = np.array(kept)
        x, t = points[inner], times[:, inner]
        share = (x[1:-1] - x[:-2]) / (x[2:] - x[:-2])
        line = t[:, :-2] + share * (t[:, 2:] - t[:, :-2])
        error = np.where(measured[:, inner[1:-1]], np.abs(line / t[:, 1:-1] - 1), np.nan)
        error[0, np.isnan(error).all(axis=0)] = 0.0  # nothing was measured there that is kept
        kept.pop(int(np.argmin(np.nanquantile(error, 0.9, axis=0))) + 1)
    return kept
