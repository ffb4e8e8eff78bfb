"""Which nodes a scenario has, before they are built: their names, groups, regions and tiers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from infsim.errors import InputError, did_you_mean
from infsim.scenario.alternatives import Alternative
from infsim.scenario.schema.models import NodeSelector

ONLY_REGION = "local"
"""Name of the region of a scenario that names none."""


@dataclass(frozen=True, slots=True)
class Member:
    """A node by its name, the group that it is part of, its region and its tier."""

    name: str
    group: int
    group_name: str
    region: str
    tier: str | None


@dataclass(frozen=True)
class Roster:
    """All nodes, in the order of the cluster."""

    members: tuple[Member, ...]

    @property
    def names(self) -> list[str]:
        """Names of the nodes."""
        return [member.name for member in self.members]

    def find(self, pattern: str) -> list[int]:
        """Return the indices of the nodes whose name, or whose group's name, is matched.

        Raises
        ------
        InputError
            If there are none; suggests the nearest name.
        """
        found = [
            i
            for i, member in enumerate(self.members)
            if fnmatchcase(member.name, pattern) or fnmatchcase(member.group_name, pattern)
        ]
        if not found:
            known = [*self.names, *{member.group_name: None for member in self.members}]
            raise InputError(f"no node is named {pattern!r}{did_you_mean(pattern, known)}")
        return found

    def select(self, selector: Sequence[str] | NodeSelector | None) -> tuple[int, ...]:
        """Return the indices of the nodes that a deployment may use.

        Raises
        ------
        InputError
            If a condition matches no node, or all conditions together leave none.
        """
        everything = range(len(self.members))
        if selector is None:
            return tuple(everything)
        if not isinstance(selector, NodeSelector):
            selector = NodeSelector(names=tuple(selector))
        chosen = set(everything)
        if selector.names is not None:
            chosen &= {i for pattern in selector.names for i in self.find(pattern)}
        for what, patterns in (("region", selector.regions), ("tier", selector.tiers)):
            if patterns is not None:
                chosen &= {i for pattern in patterns for i in self._labelled(what, pattern)}
        if not chosen:
            raise InputError("no node meets all of these conditions")
        return tuple(sorted(chosen))

    def _labelled(self, what: str, pattern: str) -> list[int]:
        labels = [str(getattr(member, what) or "") for member in self.members]
        found = [i for i, label in enumerate(labels) if label and fnmatchcase(label, pattern)]
        if not found:
            raise InputError(f"no node has the {what} {pattern!r}{did_you_mean(pattern, labels)}")
        return found


def roster(alternative: Alternative) -> Roster:
    """Return the nodes of a scenario.

    Raises
    ------
    InputError
        For a region that does not exist, or is missing where there are several.
    """
    members: list[Member] = []
    for i, group in enumerate(alternative.spec.cluster.nodes):
        region = known_region(alternative, group.region, "cluster", "nodes", i, "region")
        count = group.count
        names = [group.name] if count == 1 else [f"{group.name}-{k}" for k in range(count)]
        members += [Member(name, i, group.name, region, group.tier) for name in names]
    return Roster(tuple(members))


def known_region(alternative: Alternative, name: str | None, *path: str | int) -> str:
    """Return a region that exists; without a name, the only one there is."""
    known = list(alternative.spec.cluster.regions) or [ONLY_REGION]
    if name is None and len(known) == 1:
        return known[0]
    if name is None:
        raise InputError(
            "the region is missing",
            where=alternative.where(*path[:-1]),
            hint=f"one of {', '.join(known)}",
        )
    if name not in known:
        raise InputError(
            f"unknown region {name!r}{did_you_mean(name, known)}",
            where=alternative.where(*path),
            hint=f"regions: {', '.join(known)}",
        )
    return name
