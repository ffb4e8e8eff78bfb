"""Zones and regions that fail together, fitted to a trace with zones.

A zone is up while its own process, that of its region and that of everywhere are up, each on and
off independently of the others. Then two zones are both up more often than if they were
independent, by the factor one over the share of time that what they have in common is up; and
their cross-covariance decays with lag as the autocovariance of what they have in common. Both are
seen in the trace, so that no process has to be guessed.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from math import exp

import numpy as np
from numpy.typing import NDArray

from infsim.cluster.availability import AtSite, NodeClass, Population, SiteModel
from infsim.cluster.churn.compare import ks_distance
from infsim.cluster.churn.made import make_trace
from infsim.cluster.churn.rhythm import Flows, corrected, total
from infsim.cluster.churn.statistics import durations_of, online
from infsim.cluster.churn.trace import ChurnTrace, NodeTrace
from infsim.errors import InputError
from infsim.rng import Streams

Floats = NDArray[np.float64]

SHAPES = (0.4, 0.5, 0.6, 0.7, 0.85, 1.0)
MOST_TICKS = 50_000
DAY_S = 86400.0
DAYS = 4  # a trace shorter than this tells nothing of a rhythm
ROUNDS, MADE = 4, 20
CLOSEST = 0.995  # a zone of its own is up at most so much


@dataclass(frozen=True)
class OnOff:
    """A process that is on and off: share of time on, and how often it goes off.

    Attributes
    ----------
    share : float
    falls_per_s : float
    """

    share: float
    falls_per_s: float

    def as_class(self) -> NodeClass:
        """Return it as a class of a population."""
        up_s, down_s = self.share / self.falls_per_s, (1 - self.share) / self.falls_per_s
        return NodeClass(1.0, float(f"{up_s:.4g}"), float(f"{down_s:.4g}"))


def fit_sites(trace: ChurnTrace, *, steady: bool = False, seed: int = 0) -> SiteModel:
    """Fit outages of zones, regions and everywhere; and of nodes, if zones lose only some.

    Parameters
    ----------
    trace : ChurnTrace
        Its nodes have zones and regions.
    steady : bool
        Fit no rhythm.
    seed : int
        Of made nodes, by which the shapes of the durations are chosen.

    Raises
    ------
    InputError
        If nodes have no zone, or a zone is always up or never.
    """
    zones = _Zones.of(trace)
    shared = _shared(zones)
    every, regions = shared.pop(""), shared
    own = {zone: _own(zones, zone, every, regions) for zone in zones.names}
    nodes = _single_nodes(trace)

    def model(up_shape: float, down_shape: float) -> SiteModel:
        within = {
            name: tuple(own[z].as_class() for z in zones.names if zones.region[z] == name)
            for name in regions
        }
        return SiteModel(
            Population(
                tuple(
                    part.as_class()._replace(weight=len(within[name]))
                    if part
                    else NodeClass(len(within[name]), *_NEVER)
                    for name, part in regions.items()
                )
            ),
            tuple(
                Population(classes, up_shape, down_shape, least_s=zones.step_s)
                for classes in within.values()
            ),
            Population((every.as_class(),)) if every else None,
            nodes,
        )

    best = min(
        (model(up, down) for up in SHAPES for down in SHAPES),
        key=lambda candidate: _misfit(candidate, trace, seed),
    )
    return best if steady else _with_rhythm(best, trace, seed)


def _with_rhythm(model: SiteModel, trace: ChurnTrace, seed: int) -> SiteModel:
    """Return the model with the rhythm of a day, if the trace has some days."""
    if trace.duration_s < DAYS * DAY_S:
        return model
    real = Flows.of(trace, 3600.0).folded(24)
    rhythm = real.rhythm(3600.0, trace.name)
    for round_ in range(ROUNDS):
        candidate = model.in_rhythm(rhythm)
        made = [make_sites(candidate, trace, Streams(seed, round_ * MADE + i)) for i in range(MADE)]
        flows = [Flows.of(one, 3600.0).folded(24) for one in made]
        rhythm = corrected(rhythm, real, total(flows))
    return model.in_rhythm(rhythm)


_NEVER = (1e9, 1.0)  # mean times of what practically never fails


@dataclass(frozen=True)
class _Zones:
    """Whether each zone had any node, tick by tick."""

    names: tuple[str, ...]
    region: dict[str, str]
    up: dict[str, Floats]
    step_s: float

    @classmethod
    def of(cls, trace: ChurnTrace) -> _Zones:
        if any(not node.zone for node in trace.nodes):
            raise InputError(f"nodes of {trace.name!r} have no zones")
        shortest = min(float(np.diff(n.up.ravel()).min()) for n in trace.nodes if len(n.up))
        step_s = max(shortest, trace.duration_s / MOST_TICKS)
        times = np.arange(step_s / 2, trace.duration_s, step_s)
        up = {}
        for zone in trace.zones:
            members = [node for node in trace.nodes if node.zone == zone]
            up[zone] = (online(members, times) > 0).astype(np.float64)
            if up[zone].min() == up[zone].max():
                raise InputError(f"zone {zone!r} is always up, or never; nothing can be fitted")
        region = {node.zone: node.region for node in trace.nodes}
        return cls(trace.zones, region, up, step_s)

    def pairs(self, within: str | None) -> list[tuple[Floats, Floats]]:
        """Return pairs of zones of one region, or (None) of different regions."""
        return [
            (self.up[a], self.up[b])
            for a, b in combinations(self.names, 2)
            if (self.region[a] == self.region[b] == within)
            or (within is None and self.region[a] != self.region[b])
        ]


def _shared(zones: _Zones) -> dict[str, OnOff | None]:
    """Return what zones of each region have in common, and (named "") what all have."""
    every = _common(zones.pairs(None), zones.step_s)
    found: dict[str, OnOff | None] = {"": every}
    for region in dict.fromkeys(zones.region.values()):
        both = _common(zones.pairs(region), zones.step_s)
        found[region] = _without(both, every)
    return found


def _common(pairs: list[tuple[Floats, Floats]], step_s: float) -> OnOff | None:
    """Return the process that pairs of zones have in common; None without positive correlation."""
    if not pairs:
        return None
    together = sum(float((a * b).mean()) - _daily(a, b, step_s) for a, b in pairs)
    apart = sum(float(a.mean() * b.mean()) for a, b in pairs)
    share = apart / together if together else 1.0
    if share >= 0.9999:
        return None
    return OnOff(share, share * (1 - share) / (_decay_ticks(pairs) * step_s))


def _daily(first: Floats, second: Floats, step_s: float) -> float:
    """Return the covariance that comes from the rhythm of the day; the rhythm makes it again."""
    if len(first) * step_s < DAYS * DAY_S:
        return 0.0
    hours = (np.arange(len(first)) * step_s % DAY_S // 3600).astype(int)
    ticks = np.bincount(hours)
    x, y = (np.bincount(hours, values) / ticks for values in (first, second))
    return float(((x - x.mean()) * (y - y.mean())).mean())


def _decay_ticks(pairs: list[tuple[Floats, Floats]]) -> float:
    """Return the lag at which the cross-covariance has fallen to 1/e of that at lag 0."""
    ticks = len(pairs[0][0])
    total = np.zeros(ticks)
    for a, b in pairs:
        x, y = (np.fft.rfft(u - u.mean(), 2 * ticks) for u in (a, b))
        total += np.fft.irfft(x * np.conj(y), 2 * ticks)[:ticks]
        total += np.fft.irfft(y * np.conj(x), 2 * ticks)[:ticks]
    total /= np.arange(ticks, 0, -1)
    below = np.flatnonzero(total[: ticks // 2] < total[0] * exp(-1))
    if not len(below):
        return ticks / 2
    after = int(below[0])
    high, low = total[after - 1], total[after]
    return after - 1 + float((high - total[0] * exp(-1)) / (high - low))


def _without(both: OnOff | None, every: OnOff | None) -> OnOff | None:
    """Return the process that, with that of everywhere, makes what zones of a region share."""
    if both is None or every is None:
        return both
    share = both.share / every.share
    if share >= 0.9999:
        return None
    falls = (both.falls_per_s - every.falls_per_s * share) / every.share
    return OnOff(share, max(falls, 0.1 * both.falls_per_s))


def _own(zones: _Zones, zone: str, every: OnOff | None, regions: dict[str, OnOff | None]) -> OnOff:
    """Return the process that a zone has for itself."""
    up = zones.up[zone]
    falls = float((np.diff(up) < 0).sum()) / (len(up) * zones.step_s)
    shared = [part for part in (every, regions[zones.region[zone]]) if part]
    share = float(np.prod([part.share for part in shared]))
    own = min(float(up.mean()) / share, CLOSEST)
    by_others = sum(part.falls_per_s * own * share / part.share for part in shared)
    return OnOff(own, max(falls - by_others, 0.1 * falls) / share)


def _single_nodes(trace: ChurnTrace) -> Population | None:
    """Return the outages of single nodes while their zone has others; None if there are none.

    Nodes are taken as independent then: a zone that loses some of its nodes at once is made to
    lose them one by one.
    """
    lost_s = total_s = falls = 0.0
    for zone in trace.zones:
        members = [node for node in trace.nodes if node.zone == zone]
        if len(members) == 1:
            continue
        ends = np.concatenate([node.up[:, 1] for node in members])
        ends = ends[ends < trace.duration_s]
        falls += int((online(members, ends) > 0).sum())
        zone_up_s = _any_up_s(members)
        total_s += len(members) * zone_up_s
        lost_s += len(members) * zone_up_s - sum(node.up_s for node in members)
    if not falls or not lost_s:
        return None
    return Population((OnOff(1 - lost_s / total_s, falls / total_s).as_class(),))


def _any_up_s(members: list[NodeTrace]) -> float:
    """Return how long any of some nodes was up."""
    edges = np.concatenate([node.up for node in members])
    edges = edges[np.argsort(edges[:, 0])]
    reach = np.maximum.accumulate(edges[:, 1])
    starts = np.maximum(edges[1:, 0], reach[:-1])
    return float((reach[0] - edges[0, 0]) + (reach[1:] - np.minimum(starts, reach[1:])).sum())


def _misfit(model: SiteModel, trace: ChurnTrace, seed: int) -> float:
    """Return the sum of the distances of uptimes and downtimes of made nodes."""
    made = make_sites(model, trace, Streams(seed))
    total = 0.0
    for up in (True, False):
        real, ours = (durations_of(one, up).complete_s for one in (trace, made))
        total += ks_distance(real, ours) if len(ours) else 1.0
    return total


def make_sites(model: SiteModel, trace: ChurnTrace, streams: Streams) -> ChurnTrace:
    """Return a made trace with the zones and regions of an observed one."""
    nodes = [(n, AtSite(model, trace.name, n.region, n.zone)) for n in trace.nodes]
    return make_trace(nodes, trace.duration_s, streams)
