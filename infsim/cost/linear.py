"""Time of matrix products, from measured shapes and tokens.

A measured shape has its own times. Any other takes a reference of its own, the roofline of the
device, times what measured shapes take over theirs at the same number of tokens. That is
interpolated by ordinary kriging in the logarithms of their sizes (Cressie, Statistics for Spatial
Data, 1993): near shapes count most, and several in one direction as one. So the size is explained
by physics, and only the efficiency of the kernels is interpolated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, hypot, log

import numpy as np
from numpy.typing import NDArray

from infsim.cost.curves import Curve
from infsim.cost.tables import LinearTable

NEIGHBOURS = 16
RANGE = 2.0
"""Distance of sizes, in logarithms, over which efficiencies are alike."""
SCATTER = 0.05
"""Variance of the efficiency of a single shape beside that of its surroundings: libraries choose
kernels by shape. Both by cross-validation on an A100 and an L40S, in six formats."""
LAUNCH_S = 3e-6
BEYOND = 2.0

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Peak:
    """What the device can do at most for one format.

    Attributes
    ----------
    mac_s : float
        Seconds per multiply-accumulate at the peak.
    weight_s, value_s : float
        Seconds per weight, and per value of an activation, at the memory's peak.
    """

    mac_s: float
    weight_s: float
    value_s: float

    def bound_s(self, tokens: float, n: int, k: int) -> float:
        """The least time that a product can take."""
        return max(tokens * n * k * self.mac_s, n * k * self.weight_s)

    def reference_s(self, tokens: float, n: int, k: int) -> float:
        """About the time of a good kernel: both bounds hide each other only in part."""
        moved = n * k * self.weight_s + tokens * (n + k) * self.value_s
        return LAUNCH_S + hypot(tokens * n * k * self.mac_s, moved)


class LinearTimes:
    """Curves of the shapes of one table.

    Parameters
    ----------
    table : LinearTable
    peak : Peak
        Of the device of the table, for its format.
    """

    def __init__(self, table: LinearTable, peak: Peak) -> None:
        self.table = table
        self.peak = peak
        self._known: dict[tuple[int, int], list[float]] = {}
        ns, ks = zip(*table.shapes, strict=True)
        self._box: tuple[int, int, int, int] = (min(ns), max(ns), min(ks), max(ks))

    def covers(self, n: int, k: int) -> bool:
        """Whether a shape is within the measured ones, give or take a factor of two."""
        n_low, n_high, k_low, k_high = self._box
        return n_low / BEYOND <= n <= n_high * BEYOND and k_low / BEYOND <= k <= k_high * BEYOND

    def curve(self, n: int, k: int) -> Curve:
        """Seconds of the product of a shape against tokens, never below the physical bound."""
        return self._bounded(self.table.curve(self._times(n, k)), n, k)

    def separate(self, shards: Sequence[tuple[int, int]], experts: float, active: float) -> Curve:
        """Experts one by one: those that some token uses, each with its share of the tokens."""
        # lines: an expert's tokens are a mean, over which the steps of tiles are smooth
        curves = [
            self._bounded(Curve(self.table.tokens, self._times(n, k)), n, k) for n, k in shards
        ]
        times = []
        for tokens in self.table.tokens:
            used = used_experts(tokens, experts, active)
            share = max(tokens * active / used, 1.0)
            once_s = sum(curve.at(share) - LAUNCH_S for curve in curves)
            least_s = sum(used * self.peak.bound_s(share, n, k) for n, k in shards)
            times.append(max(used * once_s, least_s) + LAUNCH_S * len(curves))
        return Curve(self.table.tokens, tuple(times))

    def grouped(
        self, shards: Sequence[tuple[int, int]], experts: float, active: float
    ) -> Curve | None:
        """Experts measured together, at the expected number that gets tokens; None if not measured.

        The table has them by the parameters of one expert: all its matrices share the inner or
        the outer features, so that they count as one matrix.
        """
        weights = sum(n * k for n, k in shards)
        for (n, k, known), curves in self.table.experts.items():
            if (n * k, known) == (weights, experts):
                tokens, along = zip(*curves, strict=True)
                used = [used_experts(m, experts, active) for m in tokens]
                return Curve(tokens, tuple(c.at(u) for c, u in zip(along, used, strict=True)))
        return None

    def _bounded(self, curve: Curve, n: int, k: int) -> Curve:
        points = zip(curve.x, curve.time_s, strict=True)
        return Curve(curve.x, tuple(max(t, self.peak.bound_s(m, n, k)) for m, t in points))

    def _times(self, n: int, k: int) -> tuple[float, ...]:
        known = self.table.shapes.get((n, k))
        return self._estimate(n, k) if known is None else known

    def _estimate(self, n: int, k: int) -> tuple[float, ...]:
        place, shapes = np.log([[n, k]]), list(self.table.shapes)
        apart = np.hypot(*(np.log(shapes) - place).T)
        near = [shapes[i] for i in np.argsort(apart, kind="stable")[:NEIGHBOURS]]
        sizes, excess = np.log(near), self._excess(near)
        weights = np.linalg.solve(
            covariance(sizes, sizes, SCATTER),
            np.column_stack([np.ones(len(near)), covariance(sizes, place)]),
        )
        level, own = weights.T
        mean = level @ excess / level.sum()
        found = [
            exp(e) * self.peak.reference_s(m, n, k)
            for m, e in zip(self.table.tokens, (mean + own @ (excess - mean)).tolist(), strict=True)
        ]
        known = np.array([self.table.shapes[shape] for shape in near])
        least_rise = np.diff(known).min(axis=0)
        # no less for more tokens where none takes less
        for j in (np.flatnonzero(least_rise >= 0) + 1).tolist():
            found[j] = max(found[j], found[j - 1])
        return tuple(found)

    def _excess(self, shapes: Sequence[tuple[int, int]]) -> Array:
        """Logarithm of measured times over the reference, by shape and tokens."""
        for shape in shapes:
            if shape not in self._known:
                self._known[shape] = excess_of(self.table, self.peak, shape)
        return np.array([self._known[shape] for shape in shapes])


def excess_of(table: LinearTable, peak: Peak, shape: tuple[int, int]) -> list[float]:
    """Logarithm of the times of a shape over the reference, by tokens."""
    return [
        log(t / peak.reference_s(m, *shape))
        for m, t in zip(table.tokens, table.shapes[shape], strict=True)
    ]


def covariance(some: Array, others: Array, scatter: float = 0.0) -> Array:
    """Covariance of efficiencies of sizes (in logarithms), by a Matern kernel of order 3/2."""
    apart = np.hypot(*(some[:, None] - others[None]).transpose(2, 0, 1)) * (3**0.5 / RANGE)
    alike: Array = (1 + apart) * np.exp(-apart)
    if scatter:
        alike = alike + scatter * np.eye(len(some))
    return alike


def used_experts(tokens: float, experts: float, active: float) -> float:
    """Expected number of experts that some token uses, routed evenly and independently."""
    return float(experts * (1 - (1 - active / experts) ** tokens))
