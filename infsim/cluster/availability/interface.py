"""What availability is: a node, asked when it is down."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from infsim.rng import Streams


class Outage(NamedTuple):
    """A time in which a node is down.

    Attributes
    ----------
    down_s, up_s : float
        From when to when; ``up_s`` is ``inf`` if the node never comes back.
    notice_s : float
        How long before ``down_s`` the node says that it will leave; 0 for a failure.
    """

    down_s: float
    up_s: float
    notice_s: float = 0.0


class Availability(ABC):
    """Says when a node is down."""

    @abstractmethod
    def outages(self, streams: Streams, node: str) -> Iterator[Outage]:
        """Yield the outages of a node: increasing, disjoint, and drawn as needed.

        Between outages the node is up, from time 0 on; the iterator ends with an outage
        without end.

        Parameters
        ----------
        streams : Streams
            What a node draws for itself comes from ``stream("churn", node)``. What it shares
            with others (an outage of its zone) comes from a stream named after what they share,
            so that all of them draw the same without knowing of each other.
        node : str
            Name of the node.
        """

    @property
    @abstractmethod
    def expected_fraction(self) -> float | None:
        """Long-run share of time that the node is up; None if that is not known."""


@dataclass(frozen=True)
class AlwaysUp(Availability):
    """Never down."""

    def outages(self, streams: Streams, node: str) -> Iterator[Outage]:  # noqa: ARG002
        return iter(())

    @property
    def expected_fraction(self) -> float:
        return 1.0


class Process(Availability):
    """Availability that is drawn: several nodes can have their own, or share one."""

    @abstractmethod
    def draw(self, rng: np.random.Generator) -> Iterator[Outage]:
        """Yield increasing, disjoint outages drawn from a generator."""

    def outages(self, streams: Streams, node: str) -> Iterator[Outage]:
        return self.draw(streams.stream("churn", node))
