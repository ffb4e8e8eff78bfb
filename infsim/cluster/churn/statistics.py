"""What an availability trace looks like: counts over time, durations, and what goes together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import inf, nan

import numpy as np
from numpy.typing import NDArray

from infsim.cluster.churn.trace import ChurnTrace, NodeTrace

Floats = NDArray[np.float64]

DAY_S = 86400.0
QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9, 0.99)


@dataclass(frozen=True)
class Durations:
    """Lengths of uptimes or of downtimes, some of them cut off by the observation.

    Attributes
    ----------
    seen_s : (n,) array
        What was seen of each.
    began, ended : (n,) array of bool
        Whether its beginning, and its end, were seen.
    """

    seen_s: Floats
    began: NDArray[np.bool_]
    ended: NDArray[np.bool_]

    @property
    def mean_s(self) -> float:
        """Total time over the number of ends: MTBF of uptimes, MTTR of downtimes."""
        ends = int(self.ended.sum())
        return float(self.seen_s.sum()) / ends if ends else inf

    @property
    def complete_s(self) -> Floats:
        """Those that were seen from beginning to end."""
        found: Floats = self.seen_s[self.began & self.ended]
        return found

    def fresh(self) -> tuple[Floats, NDArray[np.bool_]]:
        """Return those that began in sight, and whether they ended in sight.

        The others were under way when the observation began; such are longer than most (the
        inspection paradox), and how old they were is unknown.
        """
        return self.seen_s[self.began], self.ended[self.began]

    def quantile_s(self, share: float) -> float:
        """Return the Kaplan-Meier estimate of a quantile; inf if less than this share ended."""
        times, survival = self.survival()
        below = np.flatnonzero(1 - survival >= share)
        return float(times[below[0]]) if len(below) else inf

    def survival(self) -> tuple[Floats, Floats]:
        """Return the times of ends, and the Kaplan-Meier share that lasts longer than each."""
        seen_s, ended = self.fresh()
        times, ends = np.unique(seen_s[ended], return_counts=True)
        at_risk = len(seen_s) - np.searchsorted(np.sort(seen_s), times)
        return times, np.cumprod(1 - ends / at_risk).astype(np.float64)


def durations_of(trace: ChurnTrace, up: bool = True) -> Durations:
    """Return the uptimes, or the downtimes, of all nodes."""
    found = np.concatenate([_intervals(node, trace.duration_s, up) for node in trace.nodes])
    lengths_s = found[:, 1] - found[:, 0]
    return Durations(lengths_s, found[:, 0] > 0, found[:, 1] < trace.duration_s)


def _intervals(node: NodeTrace, duration_s: float, up: bool) -> Floats:
    if up:
        return node.up
    edges = np.concatenate([[0.0], node.up.ravel(), [duration_s]]).reshape(-1, 2)
    found: Floats = edges[edges[:, 1] > edges[:, 0]]
    return found


def availability_of(trace: ChurnTrace) -> Floats:
    """Return the share of time that each node was up."""
    return np.array([node.up_s / trace.duration_s for node in trace.nodes])


def online(nodes: Iterable[NodeTrace], times_s: Floats) -> NDArray[np.int64]:
    """Return how many nodes were up at each of some times."""
    edges = [node.up for node in nodes]
    starts = np.sort(np.concatenate([up[:, 0] for up in edges]))
    ends = np.sort(np.concatenate([up[:, 1] for up in edges]))
    return np.searchsorted(starts, times_s, "right") - np.searchsorted(ends, times_s, "right")


def grid(duration_s: float, step_s: float = 1800.0) -> Floats:
    """Return times in the middle of steps; at least 200, at most 5000 of them."""
    step_s = min(max(step_s, duration_s / 5000), duration_s / 200)
    times: Floats = (np.arange(int(duration_s / step_s), dtype=np.float64) + 0.5) * step_s
    return times


def daily_swing(times_s: Floats, counts: NDArray[np.int64]) -> float:
    """Return the largest less the smallest mean of an hour of the day; nan below two days."""
    if times_s[-1] < 2 * DAY_S:
        return nan
    hour = (times_s % DAY_S // 3600).astype(int)
    means = np.bincount(hour, counts) / np.bincount(hour)
    return float(np.ptp(means))


def autocorrelation(values: NDArray[np.int64], lag: int) -> float:
    """Return the autocorrelation at a lag; nan where there is none."""
    x = values - values.mean()
    if not 0 < lag < len(x) or not x.any():
        return nan
    return float((x[lag:] * x[:-lag]).mean() / x.var())


def zone_correlation(trace: ChurnTrace) -> dict[str, float]:
    """Return the mean correlation of the counts of zones: ``within`` and ``across`` regions.

    nan where no two zones are, or where a count never changes.
    """
    zones, states = zone_counts(trace)
    region = {node.zone: node.region for node in trace.nodes}
    pairs: dict[str, list[float]] = {"within": [], "across": []}
    for i, first in enumerate(zones):
        for j in range(i):
            if states[i].std() and states[j].std():
                kind = "within" if region[first] == region[zones[j]] else "across"
                pairs[kind].append(float(np.corrcoef(states[i], states[j])[0, 1]))
    return {kind: float(np.mean(found)) if found else nan for kind, found in pairs.items()}


def zone_counts(trace: ChurnTrace) -> tuple[tuple[str, ...], Floats]:
    """Return the zones, and the nodes online in each over time: (zones, times)."""
    times = grid(trace.duration_s, 0.0)
    zones = trace.zones
    counts = [online([n for n in trace.nodes if n.zone == zone], times) for zone in zones]
    return zones, np.array(counts, dtype=np.float64)


def whole_drops(trace: ChurnTrace) -> float:
    """Return the share of falls of a zone's count that took all of its nodes.

    Zones of a single node do not count; nan where there are no others.
    """
    whole = falls = 0
    for zone in trace.zones:
        members = [node for node in trace.nodes if node.zone == zone]
        if len(members) == 1:
            continue
        ends = np.unique(np.concatenate([node.up[:, 1] for node in members]))
        ends = ends[ends < trace.duration_s]
        falls += len(ends)
        whole += int((online(members, ends) == 0).sum())
    return whole / falls if falls else nan


def describe(trace: ChurnTrace) -> dict[str, float | Mapping[str, float]]:
    """Return the figures by which traces are described and compared.

    Counts are nodes online; ``up`` and ``down`` are seconds, quantiles by Kaplan and Meier.
    """
    times = grid(trace.duration_s)
    step_s = float(times[1] - times[0])
    counts = online(trace.nodes, times)
    figures: dict[str, float | Mapping[str, float]] = {
        "nodes": float(len(trace.nodes)),
        "duration_s": trace.duration_s,
        "online_mean": float(counts.mean()),
        "online_sd": float(counts.std()),
        "online_daily_swing": daily_swing(times, counts),
    }
    for hours in (1, 6, 12, 24):
        lag = round(hours * 3600 / step_s)
        figures[f"online_autocorrelation_{hours}h"] = autocorrelation(counts, lag)
    shares = availability_of(trace)
    figures["availability"] = _quantiles(shares, float(shares.mean()))
    for name, up in (("up", True), ("down", False)):
        found = durations_of(trace, up)
        figures[f"{name}_s"] = {"mean": found.mean_s} | {
            f"p{100 * q:g}": found.quantile_s(q) for q in QUANTILES
        }
    if len(trace.zones) > 1:
        figures["zone_correlation"] = zone_correlation(trace)
        figures["whole_drops"] = whole_drops(trace)
    return figures


def _quantiles(values: Floats, mean: float) -> dict[str, float]:
    return {"mean": mean} | {f"p{100 * q:g}": float(np.quantile(values, q)) for q in QUANTILES}
