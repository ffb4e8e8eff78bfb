"""Outages that were observed, or written out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from math import inf

from infsim.cluster.availability.interface import Availability, Outage
from infsim.errors import InputError
from infsim.rng import Streams


@dataclass(frozen=True)
class TraceAvailability(Availability):
    """Outages that were observed (or made up), the same in every replication.

    Attributes
    ----------
    intervals : tuple of (float, float)
        ``(down_at, up_at)`` in seconds, sorted and disjoint; the last may end at ``inf``.
    notices_s : tuple of float
        How long before it each outage is announced; empty if none is.

    Raises
    ------
    InputError
        If an interval is negative, empty, or starts before the one before it ended.
    """

    intervals: tuple[tuple[float, float], ...]
    notices_s: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        intervals = tuple((float(a), float(b)) for a, b in self.intervals)
        object.__setattr__(self, "intervals", intervals)
        if self.notices_s and len(self.notices_s) != len(intervals):
            raise InputError(f"{len(self.notices_s)} notices for {len(intervals)} outages")
        before = 0.0
        for i, (start, end) in enumerate(intervals):
            if not 0 <= start < end:
                raise InputError(
                    f"availability interval {i}: ({start:g} s, {end:g} s) must start at 0 or"
                    " later and end after its start"
                )
            if start < before:
                raise InputError(
                    f"availability interval {i}: it starts at {start:g} s, before the one before"
                    f" it ended ({before:g} s); intervals must be sorted and must not overlap"
                )
            before = end

    @classmethod
    def from_uptimes(cls, uptimes: Sequence[tuple[float, float]]) -> TraceAvailability:
        """Return the trace of a node that is up in these intervals, and down otherwise.

        Intervals that touch are joined.
        """
        up = cls(tuple(uptimes)).intervals  # the same rules hold for uptimes
        edges = [0.0, *(edge for interval in up for edge in interval), inf]
        gaps = zip(edges[::2], edges[1::2], strict=True)
        return cls(tuple((start, end) for start, end in gaps if start < end))

    def outages(self, streams: Streams, node: str) -> Iterator[Outage]:  # noqa: ARG002
        notices = self.notices_s or (0.0,) * len(self.intervals)
        pairs = zip(self.intervals, notices, strict=True)
        return (Outage(*interval, notice_s) for interval, notice_s in pairs)

    @property
    def expected_fraction(self) -> None:
        return None


Uptimes = tuple[tuple[float, float], ...]
"""When a node is up: pairs of seconds, sorted and disjoint."""


@dataclass(frozen=True)
class RepeatedTrace(Availability):
    """A node as it was observed for some time, again and again.

    Attributes
    ----------
    uptimes : Uptimes
        Within 0 and ``period_s``.
    period_s : float
        Length of the observation.
    """

    uptimes: Uptimes
    period_s: float

    def outages(self, streams: Streams, node: str) -> Iterator[Outage]:  # noqa: ARG002
        return repeat(self.uptimes, self.period_s)

    @property
    def expected_fraction(self) -> float:
        return sum(end - start for start, end in self.uptimes) / self.period_s


@dataclass(frozen=True)
class SampledTrace(Availability):
    """A node that behaves like one of an observed trace, drawn without replacement.

    Attributes
    ----------
    observed : tuple of RepeatedTrace
        The observed nodes.
    pool : str
        The nodes that draw together have the same pool.
    index : int
        Which of them this is.
    """

    observed: tuple[RepeatedTrace, ...]
    pool: str
    index: int

    def outages(self, streams: Streams, node: str) -> Iterator[Outage]:
        order = streams.stream("churn", "trace", self.pool).permutation(len(self.observed))
        return self.observed[int(order[self.index])].outages(streams, node)

    @property
    def expected_fraction(self) -> float:
        return sum(one.expected_fraction for one in self.observed) / len(self.observed)


def repeat(uptimes: Uptimes, period_s: float) -> Iterator[Outage]:
    """Yield the outages between uptimes that repeat after a period; they may reach around its end.

    Ends without a further outage where the node is up for the whole period.
    """
    if not uptimes:
        yield Outage(0.0, inf)
        return
    down_s = 0.0
    for round_ in count():
        for start, end in uptimes:
            up_s = start + round_ * period_s
            if up_s > down_s:
                yield Outage(down_s, up_s)
            down_s = end + round_ * period_s
        if uptimes == ((0.0, period_s),):
            return
