"""The rhythm of a trace: who comes and who goes, window by window."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil

import numpy as np
from numpy.typing import NDArray

from infsim.cluster.availability import Rhythm
from infsim.cluster.churn.trace import ChurnTrace

Floats = NDArray[np.float64]

PRIOR_EVENTS = 2.0  # factors of a window are drawn to 1 as if it had seen so many more at rate 1


@dataclass(frozen=True)
class Flows:
    """Who came, who went, and for how long nodes were up and down, in each window.

    Attributes
    ----------
    joins, leaves : (windows,) array
        Numbers of nodes.
    up_s, down_s : (windows,) array
        Node-seconds.
    """

    joins: Floats
    leaves: Floats
    up_s: Floats
    down_s: Floats

    @classmethod
    def of(cls, trace: ChurnTrace, window_s: float) -> Flows:
        """Return the flows of a trace."""
        windows = ceil(trace.duration_s / window_s - 1e-9)
        edges: Floats = np.arange(windows + 1, dtype=np.float64) * window_s
        starts = np.concatenate([node.up[:, 0] for node in trace.nodes])
        ends = np.concatenate([node.up[:, 1] for node in trace.nodes])
        up_s = np.diff(_time_since(starts, edges) - _time_since(ends, edges))
        spans = np.diff(np.minimum(edges, trace.duration_s))
        return cls(
            np.histogram(starts[starts > 0], edges)[0].astype(np.float64),
            np.histogram(ends[ends < trace.duration_s], edges)[0].astype(np.float64),
            up_s,
            len(trace.nodes) * spans - up_s,
        )

    def folded(self, windows: int) -> Flows:
        """Return the sums over periods of so many windows."""
        return Flows(
            *(_folded(x, windows) for x in (self.joins, self.leaves, self.up_s, self.down_s))
        )

    def rhythm(self, window_s: float, name: str) -> Rhythm:
        """Return the rhythm that nodes would have who all were alike."""
        join, leave = self.factors()
        return Rhythm(window_s, tuple(join.tolist()), tuple(leave.tolist()), 0.0, name)

    def factors(self) -> tuple[Floats, Floats]:
        """Return the rates of joining and leaving in each window, relative to their means."""
        return _relative(self.joins, self.down_s), _relative(self.leaves, self.up_s)


def _folded(values: Floats, windows: int) -> Floats:
    padded = np.concatenate([values, np.zeros(-len(values) % windows)])
    found: Floats = padded.reshape(-1, windows).sum(axis=0)
    return found


def _time_since(moments: Floats, edges: Floats) -> Floats:
    """Return, at each edge, the sum of the times that passed since moments before it."""
    ordered = np.sort(moments)
    sums = np.concatenate([[0.0], np.cumsum(ordered)])
    before = np.searchsorted(ordered, edges)
    found: Floats = before * edges - sums[before]
    return found


def _relative(events: Floats, exposure_s: Floats) -> Floats:
    rate = events.sum() / exposure_s.sum()
    found: Floats = (events + PRIOR_EVENTS) / (exposure_s * rate + PRIOR_EVENTS)
    return found


def corrected(rhythm: Rhythm, real: Flows, made: Flows) -> Rhythm:
    """Return the rhythm with each factor multiplied by how much too weak it was."""
    new_factors = []
    for factors, wanted, found in zip(
        (rhythm.join, rhythm.leave), real.factors(), made.factors(), strict=True
    ):
        new = np.array(factors) * (wanted / found)
        new = np.clip(new / new.mean(), 0.01, 100.0)
        new_factors.append(tuple(float(f"{factor:.3g}") for factor in new))
    return replace(rhythm, join=new_factors[0], leave=new_factors[1])


def total(flows: Sequence[Flows]) -> Flows:
    """Return the sums of flows of several traces."""
    columns = zip(*((f.joins, f.leaves, f.up_s, f.down_s) for f in flows), strict=True)
    return Flows(*(np.sum(column, axis=0) for column in columns))
