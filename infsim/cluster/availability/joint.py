"""Nodes that fail together, and nodes that say before they leave."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from heapq import merge

from infsim.cluster.availability.interface import Availability, Outage, Process
from infsim.errors import InputError
from infsim.rng import Streams


@dataclass(frozen=True)
class Shared(Availability):
    """Outages that all nodes of a site have at the same time.

    Attributes
    ----------
    kind : str
        What they share: ``zone``, ``region``, …
    name : str
        Its name. Whoever names the same has the same outages.
    process : Process
        When it is down.
    """

    kind: str
    name: str
    process: Process

    def outages(self, streams: Streams, node: str) -> Iterator[Outage]:  # noqa: ARG002
        return self.process.draw(streams.stream("churn", self.kind, self.name))

    @property
    def expected_fraction(self) -> float | None:
        return self.process.expected_fraction


@dataclass(frozen=True)
class Joint(Availability):
    """Up while all of its parts are up: the node itself, its zone, its region.

    With parts that are up independently with probability ``a`` (the node or zone itself) and ``s``
    (what is shared), two nodes that share correlate at ``(1 - s) / s`` times the geometric mean of
    their odds ``a s / (1 - a s)``.

    Attributes
    ----------
    parts : tuple of Availability
    """

    parts: tuple[Availability, ...]

    def outages(self, streams: Streams, node: str) -> Iterator[Outage]:
        return union([part.outages(streams, node) for part in self.parts])

    @property
    def expected_fraction(self) -> float | None:
        product = 1.0
        for part in self.parts:
            fraction = part.expected_fraction
            if fraction is None:
                return None
            product *= fraction
        return product


def union(parts: Sequence[Iterator[Outage]]) -> Iterator[Outage]:
    """Yield the times at which any of several is down, as outages that do not touch.

    The notice of a joined outage is that of the first to begin.
    """
    current: Outage | None = None
    for outage in merge(*parts):
        if current is None:
            current = outage
        elif outage.down_s <= current.up_s:
            current = current._replace(up_s=max(current.up_s, outage.up_s))
        else:
            yield current
            current = outage
    if current is not None:
        yield current


@dataclass(frozen=True)
class Announced(Availability):
    """A node that leaves on purpose, and says so before: planned leave, notice of a spot cloud.

    Attributes
    ----------
    availability : Availability
        When it is down.
    notice_s : float
        How long before it goes down it says so.
    share : float
        Share of the outages that are announced, drawn for each; the others are failures.
    """

    availability: Availability
    notice_s: float
    share: float = 1.0

    def __post_init__(self) -> None:
        if not self.notice_s >= 0:
            raise InputError(f"notice must not be negative, got {self.notice_s!r} s")
        if not 0 <= self.share <= 1:
            raise InputError(f"share of announced outages must be in [0, 1], got {self.share!r}")

    def outages(self, streams: Streams, node: str) -> Iterator[Outage]:
        rng = streams.stream("churn", "notice", node)
        for outage in self.availability.outages(streams, node):
            announced = rng.random() < self.share
            yield outage._replace(notice_s=self.notice_s) if announced else outage

    @property
    def expected_fraction(self) -> float | None:
        return self.availability.expected_fraction
