"""When the nodes of a scenario are up."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from infsim.cluster.availability import (
    AlwaysUp,
    Announced,
    Availability,
    Duration,
    Exponential,
    Joint,
    Lognormal,
    Renewal,
    SampledTrace,
    Shared,
    TraceAvailability,
    Weibull,
)
from infsim.cluster.outages import read_outages
from infsim.errors import InputError, did_you_mean
from infsim.paths import data_file
from infsim.scenario.build.roster import Member
from infsim.scenario.schema import availability as schema


def build_availability(entry: Any, members: Sequence[Member]) -> list[Availability]:
    """Return the availability of each node of a group.

    Parameters
    ----------
    entry : part of the schema
        What the scenario says.
    members : sequence of Member
        The nodes of the group.

    Raises
    ------
    InputError
        For files that are damaged, traces of too few nodes, and impossible figures.
    """
    if entry == "always":
        return [AlwaysUp() for _ in members]
    if isinstance(entry, str):
        return _profile(schema.ProfileOutages.model_construct(profile=entry), members)
    if isinstance(entry, schema.Renewal):
        found = _renewal(entry, members)
    elif isinstance(entry, schema.OutageList):
        outages = tuple((start, end) for start, end in entry.outages)
        found = [TraceAvailability(outages)] * len(members)
    elif isinstance(entry, schema.OutageFile):
        found = _trace(entry, members)
    else:
        found = _profile(entry, members)
    if entry.notice is None:
        return found
    return [Announced(one, entry.notice, entry.announced) for one in found]


# --- drawn ----------------------------------------------------------------------------------


def _renewal(entry: schema.Renewal, members: Sequence[Member]) -> list[Availability]:
    own = Renewal(_duration(entry.up), _duration(entry.down), entry.stationary)
    if entry.zone is None and entry.region is None:
        return [own] * len(members)
    found: list[Availability] = []
    for member in members:
        parts: list[Availability] = [own]
        if entry.zone is not None:
            zone = entry.zone.name or member.group_name
            parts.append(Shared("zone", zone, _shared(entry.zone, entry.stationary)))
        if entry.region is not None:
            shared = _shared(entry.region, entry.stationary)
            parts.append(Shared("region", member.region, shared))
        found.append(Joint(tuple(parts)))
    return found


def _shared(entry: schema.SharedOutages, stationary: bool) -> Renewal:
    return Renewal(_duration(entry.up), _duration(entry.down), stationary)


def _duration(entry: Any) -> Duration:
    if isinstance(entry, schema.WeibullTime):
        if entry.mean is not None:
            return Weibull.from_mean(entry.mean, entry.shape)
        assert entry.scale is not None  # the schema wants one of the two
        return Weibull(entry.shape, entry.scale)
    if isinstance(entry, schema.LognormalTime):
        if entry.mean is not None:
            return Lognormal.from_mean(entry.mean, entry.sigma)
        assert entry.median is not None
        return Lognormal(math.log(entry.median), entry.sigma)
    return Exponential(entry.mean if isinstance(entry, schema.ExponentialTime) else entry)


def _profile(entry: schema.ProfileOutages, members: Sequence[Member]) -> list[Availability]:
    from infsim.cluster.churn.profile import FOLDER, SUFFIXES, load_profile

    path = Path(entry.profile)
    if not path.is_absolute():
        path = data_file(FOLDER, entry.profile, SUFFIXES)
    profile = load_profile(path)
    places = [(member.region, entry.zone or member.group_name) for member in members]
    by_place = {place: profile.availability(*place, entry.start) for place in set(places)}
    return [by_place[place] for place in places]


# --- observed -------------------------------------------------------------------------------


def _trace(entry: schema.OutageFile, members: Sequence[Member]) -> list[Availability]:
    paths = [Path(name) for name in entry.trace]
    if entry.format == "csv" or (entry.format == "auto" and paths[0].suffix.lower() == ".csv"):
        return _named(entry, paths, [member.name for member in members])
    from infsim.cluster.churn.readers import read_churn

    kind = None if entry.format == "auto" else entry.format
    trace = read_churn(paths, kind).part(entry.start).scaled(entry.time_scale)
    if len(trace.nodes) < len(members):
        raise InputError(
            f"{trace.name!r} has {len(trace.nodes)} nodes, the group has {len(members)}",
            hint="a node of a trace stands for one node",
        )
    observed = trace.repeated()
    if entry.assign == "order":
        return list(observed[: len(members)])
    pool = members[0].group_name
    return [SampledTrace(observed, pool, i) for i in range(len(members))]


def _named(
    entry: schema.OutageFile, paths: Sequence[Path], names: Sequence[str]
) -> list[Availability]:
    """Return the outages that a file has for nodes by name."""
    for key in ("assign", "start", "time_scale"):
        if getattr(entry, key) != schema.OutageFile.model_fields[key].default:
            raise InputError(f"outages by name have no {key!r}", key=key)
    if len(paths) > 1:
        raise InputError(f"outages by name are in one file, not in {len(paths)}")
    by_node = read_outages(paths[0])
    if not any(name in by_node for name in names):
        raise InputError(
            f"{str(paths[0])!r} has no outage of {', '.join(names)}"
            f"{did_you_mean(names[0], by_node)}"
        )
    return [by_node.get(name, TraceAvailability(())) for name in names]
