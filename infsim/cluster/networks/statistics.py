"""What tells a real matrix of round-trip times from an invented one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

QUANTILES = (0.5, 0.75, 0.9, 0.95, 0.99)


@dataclass(frozen=True, slots=True)
class MatrixStatistics:
    """Triangle violations and asymmetry of a matrix of round-trip times.

    Attributes
    ----------
    violated_triangles : float
        Share of the ordered triples (a, b, c) with ``rtt(a, c) > rtt(a, b) + rtt(b, c)``.
    pairs_with_detour : float
        Share of the pairs for which some detour over a third place is faster.
    severity : tuple of float
        Quantiles .5, .75, .9, .95, .99 over pairs of the direct round-trip time over that of the
        fastest detour; above 1 the triangle inequality is violated.
    asymmetry : tuple of float
        The same quantiles of ``|log(rtt(a, b) / rtt(b, a))|``.
    missing : float
        Share of the pairs that were not measured.
    """

    violated_triangles: float
    pairs_with_detour: float
    severity: tuple[float, ...]
    asymmetry: tuple[float, ...]
    missing: float


def matrix_statistics(rtt_s: ArrayLike) -> MatrixStatistics:
    """Measure how far a matrix is from a metric.

    Parameters
    ----------
    rtt_s : array_like (P, P)
        Round-trip times, NaN where they are missing; the diagonal does not count. With P
        places it takes time in proportion to the cube of P: 0.1 s for 250.
    """
    rtt = np.array(rtt_s, dtype=np.float64)
    np.fill_diagonal(rtt, np.nan)
    detour, violated, triangles = _detours(rtt)
    pairs = ~np.isnan(rtt) & np.isfinite(detour)
    severity = rtt[pairs] / detour[pairs]
    both = np.triu(~np.isnan(rtt) & ~np.isnan(rtt.T), 1)
    ratio = np.abs(np.log(rtt[both] / rtt.T[both]))
    return MatrixStatistics(
        violated / triangles if triangles else 0.0,
        float((severity > 1).mean()) if len(severity) else 0.0,
        _quantiles(severity),
        _quantiles(ratio),
        float(np.isnan(rtt[~np.eye(len(rtt), dtype=bool)]).mean()) if len(rtt) > 1 else 0.0,
    )


def _detours(rtt: NDArray[np.float64]) -> tuple[NDArray[np.float64], int, int]:
    """Fastest detour of each pair (``inf`` without one), violated and all triangles."""
    whole = np.where(np.isnan(rtt), np.inf, rtt)
    detour = np.full_like(whole, np.inf)
    violated = triangles = 0
    for source, direct in enumerate(whole):
        over = direct[:, None] + whole  # over[b, c]: from the source over b to c
        known = np.isfinite(over) & np.isfinite(direct)[None, :]
        violated += int((known & (direct[None, :] > over)).sum())
        triangles += int(known.sum())
        detour[source] = over.min(axis=0)
    return detour, violated, triangles


def _quantiles(values: NDArray[np.float64]) -> tuple[float, ...]:
    return tuple(np.quantile(values, QUANTILES).tolist()) if len(values) else ()
