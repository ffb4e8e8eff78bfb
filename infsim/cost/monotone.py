"""Monotone cubic interpolation: smooth between points, never beyond its neighbours.

Times of prompts grow with the square of their length; a line between lengths that were measured a
factor of two apart is too slow. The cubic of Fritsch and Butland (SIAM J. Sci. Stat. Comput. 5,
1984) bends as its neighbours do, rises where they rise, and goes through every point.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

PARTS = 4
"""Pieces of a line that stand for the curve between two points."""


def refined(x: Sequence[float], times: Array, axis: int) -> tuple[tuple[float, ...], Array]:
    """Return an axis with points added between its own, and a grid that has times at them.

    Parameters
    ----------
    x : sequence of float
        Increasing, two points at least.
    times : array
        Seconds; ``times.shape[axis] == len(x)``.
    axis : int

    Examples
    --------
    >>> x, times = refined((1, 2, 4), np.array([1.0, 4.0, 16.0]), 0)
    >>> x[4], x[8], float(times[4]), float(times[8])
    (2.0, 4.0, 4.0, 16.0)
    >>> bool(times[6] < (4 + 16) / 2)
    True
    """
    own = np.asarray(x, dtype=float)
    low, width = own[:-1, None], np.diff(own)[:, None]
    points = np.append((low + width * (np.arange(PARTS) / PARTS)).ravel(), own[-1])
    along = np.moveaxis(times, axis, -1)
    found = interpolated(own, along, points)
    found[..., ::PARTS] = along  # to the last digit
    return tuple(points.tolist()), np.moveaxis(found, -1, axis)


def interpolated(x: Array, times: Array, at: Array) -> Array:
    """Return times at some places within an axis, the last one of a grid."""
    i = np.clip(np.searchsorted(x, at, side="right") - 1, 0, len(x) - 2)
    width = np.diff(x)
    slope = _slopes(width, np.diff(times) / width)
    share = (at - x[i]) / width[i]
    left, right = 1 - share, share
    found: Array = (
        times[..., i] * (1 + 2 * share) * left**2
        + times[..., i + 1] * (1 + 2 * left) * right**2
        + width[i] * share * left * (slope[..., i] * left - slope[..., i + 1] * right)
    )
    return found


def _slopes(width: Array, rise: Array) -> Array:
    """Slopes at the points, from those of the lines between them."""
    slopes = np.zeros((*rise.shape[:-1], rise.shape[-1] + 1))
    slopes[..., 0], slopes[..., -1] = rise[..., 0], rise[..., -1]
    if rise.shape[-1] == 1:
        return slopes
    before, after = rise[..., :-1], rise[..., 1:]
    one, other = 2 * width[1:] + width[:-1], width[1:] + 2 * width[:-1]
    turns = before * after <= 0
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        mean = (one + other) / (one / before + other / after)
    slopes[..., 1:-1] = np.where(turns, 0.0, mean)
    slopes[..., 0] = _end(width[0], width[1], rise[..., 0], rise[..., 1])
    slopes[..., -1] = _end(width[-1], width[-2], rise[..., -1], rise[..., -2])
    return slopes


def _end(width: float, beyond: float, rise: Array, next_rise: Array) -> Array:
    """Slope at an end: of the parabola through three points, held so that nothing overshoots."""
    slope = ((2 * width + beyond) * rise - width * next_rise) / (width + beyond)
    slope = np.where(slope * rise <= 0, 0.0, slope)
    bends = (rise * next_rise <= 0) & (np.abs(slope) > 3 * np.abs(rise))
    found: Array = np.where(bends, 3 * rise, slope)
    return found
