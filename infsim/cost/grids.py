"""Times on a grid of two or three axes: exact at its points, linear along each axis between them.

Each cell between neighbouring points is kept as the coefficients of its polynomial in the distances
from its lowest corner, so that a look-up is one bisection an axis and a few multiplications. Before
an axis its first point holds; beyond its last one, times go on as in the last cell.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from math import inf

Axis = Sequence[float]
Cell = tuple[float, float, float, float, float, float]
"""``x, y, c, c_x, c_y, c_xy``: the corner, then the time at (x + p, y + q) is
``c + c_x p + (c_y + c_xy p) q``."""
Block = tuple[float, float, float, float, float, float, float, float, float, float, float]
"""``x, y, z``, the four coefficients at z, and what to add of each for a distance from z."""


class Plane:
    """Times over two axes.

    Parameters
    ----------
    x, y : sequence of float
        Increasing, two points at least.
    times : sequence of float
        Seconds by x and y, row-major.

    Attributes
    ----------
    x, y : sequence of float
    cells : list of list of Cell
        By ``bisect_right`` of both axes.
    """

    __slots__ = ("cells", "x", "y")

    def __init__(self, x: Axis, y: Axis, times: Sequence[float]) -> None:
        self.x, self.y = x, y
        rows = _rows(times, len(y))
        columns = [_span(y, k) for k in range(len(y) + 1)]
        self.cells: list[list[Cell]] = []
        for i, start, width in (_span(x, i) for i in range(len(x) + 1)):
            low, high = rows[i], rows[i + 1]
            self.cells.append(
                [
                    (start, first, *_corner(low[k], high[k], low[k + 1], high[k + 1], width, deep))
                    for k, first, deep in columns
                ]
            )

    def at(self, x: float, y: float) -> float:
        """Seconds at a place.

        Examples
        --------
        >>> plane = Plane((1, 3), (0, 10), (1.0, 2.0, 5.0, 6.0))
        >>> plane.at(3, 10), plane.at(2, 5), plane.at(0, 20)
        (6.0, 3.5, 3.0)
        """
        x0, y0, c, c_x, c_y, c_xy = self.cells[bisect_right(self.x, x)][bisect_right(self.y, y)]
        x -= x0
        return c + c_x * x + (c_y + c_xy * x) * (y - y0)


class Layers:
    """Times over four axes, one of which is held while the others move.

    Parameters
    ----------
    x, y, held, z : sequence of float
        Increasing, two points at least.
    times : sequence of float
        Seconds by x, y, held and z, row-major.
    """

    def __init__(self, x: Axis, y: Axis, held: Axis, z: Axis, times: Sequence[float]) -> None:
        self.x, self.y, self.z = x, y, z
        self._held = held
        self._rows = _rows(times, len(z))

    def at(self, value: float) -> Layer:
        """Return the times at one value of the axis that is held."""
        i, start, width = _span(self._held, bisect_right(self._held, value))
        return Layer(self, i, (value - start) / width)

    def row(self, i: int, k: int, held: int, share: float) -> list[float]:
        """Seconds along the last axis at points of the others, a share beyond the one held."""
        at = (i * len(self.y) + k) * len(self._held) + held
        low, high = self._rows[at], self._rows[at + 1]
        return [a + share * (b - a) for a, b in zip(low, high, strict=True)]


class Layer:
    """Times over three axes, whose cells are made when they are first asked for."""

    __slots__ = ("_held", "_layers", "_share", "cells", "x", "y", "z")

    def __init__(self, layers: Layers, held: int, share: float) -> None:
        self.x, self.y, self.z = layers.x, layers.y, layers.z
        self._layers, self._held, self._share = layers, held, share
        self.cells: list[list[list[Block | None]]] = [
            [[None] * (len(self.z) + 1) for _ in range(len(self.y) + 1)]
            for _ in range(len(self.x) + 1)
        ]

    def make(self, *key: int) -> Block:
        """Make the cell of the ``bisect_right`` of the axes, and keep it."""
        (i, x, wide), (k, y, deep), (m, z, high) = (
            _span(axis, at) for axis, at in zip((self.x, self.y, self.z), key, strict=True)
        )
        a, b, c, d = (
            self._layers.row(i + one, k + other, self._held, self._share)[m : m + 2]
            for one, other in ((0, 0), (1, 0), (0, 1), (1, 1))
        )
        near = _corner(a[0], b[0], c[0], d[0], wide, deep)
        far = _corner(a[1], b[1], c[1], d[1], wide, deep)
        u, v, w, q = ((t - s) / high for s, t in zip(near, far, strict=True))
        at_x, at_y, at_z = key
        cell = self.cells[at_x][at_y][at_z] = (x, y, z, *near, u, v, w, q)
        return cell

    def at(self, x: float, y: float, z: float) -> float:
        """Seconds at a place."""
        i, k, m = bisect_right(self.x, x), bisect_right(self.y, y), bisect_right(self.z, z)
        x0, y0, z0, c, c_x, c_y, c_xy, u, v, w, q = self.cells[i][k][m] or self.make(i, k, m)
        x -= x0
        y -= y0
        return c + c_x * x + (c_y + c_xy * x) * y + (u + v * x + (w + q * x) * y) * (z - z0)


def _span(axis: Axis, i: int) -> tuple[int, float, float]:
    """Lower point of the cell of a ``bisect_right``, its value, and its width."""
    if not i:
        return 0, axis[0], inf
    low = min(i - 1, len(axis) - 2)
    return low, axis[low], axis[low + 1] - axis[low]


def _corner(
    a: float, b: float, c: float, d: float, wide: float, deep: float
) -> tuple[float, float, float, float]:
    """Coefficients from the times at (0, 0), (1, 0), (0, 1) and (1, 1) of a cell."""
    return a, (b - a) / wide, (c - a) / deep, (d - c - b + a) / wide / deep


def _rows(times: Sequence[float], width: int) -> list[Sequence[float]]:
    return [times[i : i + width] for i in range(0, len(times), width)]
