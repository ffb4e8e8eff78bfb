"""Round-trip times from distances, with the scatter that real ones have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from infsim.cluster.networks.geography import FIBRE_S_PER_KM, Place, cities, distances_km

Matrix = NDArray[np.float64]


class Line(NamedTuple):
    """A straight line of round-trip time over distance.

    Attributes
    ----------
    base_s, per_km_s : float
    explained : float
        Share of the variance that it explains.
    """

    base_s: float
    per_km_s: float
    explained: float


MEAN_LINE = Line(0.0313, 17.40e-6, 0.557)
"""Least squares over the 57,807 pairs of the WonderNetwork ping tables of November 2018."""


def fit_line(km: ArrayLike, rtt_s: ArrayLike) -> Line:
    """Fit a line of round-trip time over distance by least squares.

    Parameters
    ----------
    km, rtt_s : array_like (n,)
        Pairs that have both; NaN are left out.
    """
    x, y = np.asarray(km, dtype=np.float64).ravel(), np.asarray(rtt_s, dtype=np.float64).ravel()
    known = ~(np.isnan(x) | np.isnan(y))
    x, y = x[known], y[known]
    slope, base = np.polyfit(x, y, 1)
    left = y - base - slope * x
    return Line(float(base), float(slope), float(1 - left.var() / y.var()))


@dataclass(frozen=True, slots=True)
class DistanceModel:
    """Round-trip times that depend on distance as measured ones do.

    A time is that of the access at both ends, of light in fibre along the great circle, and of
    what the route is longer than that: in proportion to a power of the distance, times lognormal
    factors of the two ends, of the two neighbourhoods (a Gaussian field over pairs of points:
    near ends share their routes) and of the pair. No route is much slower than the fastest detour
    over a third point, the cities that infsim knows among them, as traffic can go there: its
    excess over that is exponential. That keeps the share of violated triangles near that of the
    Internet's, whatever the number of places.

    Attributes
    ----------
    access_s, access_sigma : float
        Median of the time at one end, and standard deviation of its logarithm.
    route_s, route_exponent : float
        Median time of what the route is longer than the great circle at 1000 km, and its power
        of the distance.
    end_sigma, area_sigma, pair_sigma : float
        Standard deviations of the logarithms of the three factors.
    area_km : float
        Distance over which the correlation of neighbourhoods falls to 1/e.
    detour_excess : float
        Mean of the logarithm of the slowest time over that of the fastest detour.

    Notes
    -----
    Fitted to the WonderNetwork ping tables between 241 cities (November 2018): quantiles of eight
    bands of distance, violated triangles and their severity, and the variance that a straight
    line explains.
    """

    access_s: float = 0.0015
    access_sigma: float = 1.7
    route_s: float = 0.024
    route_exponent: float = 1.0
    end_sigma: float = 0.45
    area_sigma: float = 0.75
    pair_sigma: float = 0.25
    area_km: float = 3300.0
    detour_excess: float = 0.1

    def sample(self, places: Sequence[Place], rng: np.random.Generator) -> Matrix:
        """Draw the round-trip times between places.

        Parameters
        ----------
        places : sequence of Place
        rng : numpy.random.Generator
            Places that are added at the end do not change the draws of those before.

        Returns
        -------
        float64 (P, P)
            Seconds, symmetric, positive but for the zero diagonal.
        """
        points = [*cities().values(), *places]
        km = distances_km(points)
        draws = _Draws.of(len(points), rng)
        ours = slice(len(points) - len(places), None)
        rtt = self._direct(km, draws)
        np.fill_diagonal(rtt, np.inf)
        detour = np.array([(row[:, None] + rtt[:, ours]).min(axis=0) for row in rtt[ours]])
        slowest = detour * np.exp(self.detour_excess * draws.excess[ours, ours])
        chosen: Matrix = np.minimum(rtt[ours, ours], slowest)
        np.fill_diagonal(chosen, 0.0)
        return np.minimum(chosen, chosen.T)  # equal but for rounding

    def _direct(self, km: Matrix, draws: _Draws) -> Matrix:
        """Round-trip times without regard to detours."""
        near = np.exp(-km / self.area_km)
        # the same place twice would make the matrix singular
        root = np.linalg.cholesky(near + 1e-6 * np.eye(len(km)))
        area = root @ draws.area @ root.T / np.sqrt(1 + near * near)
        end, access = draws.end, self.access_s * np.exp(self.access_sigma * draws.access)
        logarithm = (
            self.end_sigma * np.add.outer(end, end)
            + self.area_sigma * area
            + self.pair_sigma * draws.pair
        )
        longer = self.route_s * (km / 1000) ** self.route_exponent * np.exp(logarithm)
        return np.asarray(np.add.outer(access, access) + 2 * FIBRE_S_PER_KM * km + longer)


@dataclass(frozen=True, slots=True)
class _Draws:
    """Random numbers of each point, and of each pair (symmetric matrices)."""

    access: Matrix
    end: Matrix
    area: Matrix
    pair: Matrix
    excess: Matrix

    @classmethod
    def of(cls, points: int, rng: np.random.Generator) -> _Draws:
        """Draw point after point, each with its pairs with those before."""
        access, end = np.empty((2, points))
        area, pair, excess = np.zeros((3, points, points))
        for k in range(points):
            access[k], end[k] = rng.standard_normal(2)
            area[k, : k + 1], pair[k, : k + 1] = rng.standard_normal((2, k + 1))
            excess[k, : k + 1] = rng.exponential(size=k + 1)
        for matrix in (area, pair, excess):
            matrix += np.tril(matrix, -1).T
        return cls(access, end, area, pair, excess)
