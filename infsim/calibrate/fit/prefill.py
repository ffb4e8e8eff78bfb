"""Grids of prompts by chunk and prefix: cells that were not measured.

Tables measure chunks after prefixes as they like: multiples of the chunk, or, where a search went
along the chunk, other chunks after each prefix. A missing cell between measured ones takes the
monotone cubic along the chunk or the line along the prefix, whichever has the nearer neighbours, in
work. One outside of them takes the nearest cell of its chunk, in proportion to its work.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from infsim.cost.monotone import interpolated

Grid = NDArray[np.float64]


def filled_prefill(cells: Grid, axes: Sequence[Sequence[float]]) -> Grid:
    """Return the times by chunk and prefix with all missing cells (NaN) filled.

    Each chunk must have been measured after some prefix.
    """
    chunks, prefixes = (np.array(axis) for axis in axes)
    work = _work(cells, chunks, prefixes)
    by_chunk = np.stack(
        [_inner(chunks, t, w, interpolated) for t, w in zip(cells.T, work.T, strict=True)], -1
    )
    by_prefix = np.stack(
        [_inner(prefixes, t, w, _line) for t, w in zip(cells, work, strict=True)], axis=-2
    )
    found = cells.copy()
    missing = np.isnan(cells)
    nearer = by_chunk[1] <= by_prefix[1]
    found[missing] = np.where(nearer, by_chunk[0], by_prefix[0])[missing]
    for row, effort in zip(found, work, strict=True):
        known = np.flatnonzero(~np.isnan(row))
        for j in np.flatnonzero(np.isnan(row)).tolist():
            near = known[np.argmin(np.abs(known - j))]
            row[j] = row[near] * effort[j] / effort[near]
    return found


def _work(cells: Grid, chunks: Grid, prefixes: Grid) -> Grid:
    """Times as a launch, query-key pairs and KV entries make them: least relative squares."""
    chunk, prefix = np.meshgrid(chunks, prefixes, indexing="ij")
    parts = np.stack([np.ones_like(chunk), chunk * (prefix + chunk / 2), chunk + prefix], axis=-1)
    known = ~np.isnan(cells)
    scale = parts[known].max(axis=0)
    shares, _ = nnls(parts[known] / scale / cells[known][:, None], np.ones(known.sum()))
    found: Grid = parts @ (shares / scale)
    return found


def _inner(x: Grid, times: Grid, work: Grid, between: Callable[[Grid, Grid, Grid], Grid]) -> Grid:
    """Times between measured ones, and how far apart these are in logarithms of work.

    NaN, and infinitely far, for those that are not between any.
    """
    found = np.full((2, len(x)), [[np.nan], [np.inf]])
    known = np.flatnonzero(~np.isnan(times))
    for low, high in pairwise(known.tolist()):
        inner = np.arange(low + 1, high)
        if len(inner):
            found[0, inner] = between(x[known], times[known], x[inner])
            found[1, inner] = abs(np.log(work[high] / work[low]))
    return found


def _line(x: Grid, times: Grid, at: Grid) -> Grid:
    found: Grid = np.interp(at, x, times)
    return found
