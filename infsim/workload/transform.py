"""Workloads made of workloads: cut, rescaled, and with clients, samples or sessions assigned.

Each takes a workload and is one, so that they can be put together in any order.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from infsim.errors import InputError
from infsim.rng import Streams
from infsim.workload.blocks import ragged, take, with_prefixes
from infsim.workload.hashing import mix, uniform
from infsim.workload.requests import Requests, Workload


@dataclass(frozen=True)
class Limit:
    """The first requests of a workload.

    Attributes
    ----------
    workload : Workload
    requests : int or None
        How many at most.
    duration_s : float or None
        Only those that arrive before this time.
    """

    workload: Workload
    requests: int | None = None
    duration_s: float | None = None

    def __post_init__(self) -> None:
        if self.requests is not None and self.requests < 1:
            raise InputError(f"a limit of {self.requests} requests leaves none", key="requests")
        if self.duration_s is not None and not self.duration_s > 0:
            raise InputError(f"a duration of {self.duration_s} s leaves nothing", key="duration_s")

    def blocks(self, streams: Streams) -> Iterator[Requests]:
        left = math.inf if self.requests is None else self.requests
        end_s = math.inf if self.duration_s is None else self.duration_s
        for part in self.workload.blocks(streams):
            count = int(min(left, np.searchsorted(part.arrival_s, end_s)))
            if count == len(part):
                yield part
            elif count:
                yield take(part, slice(0, count))
            left -= count
            if count < len(part) or not left:
                return


@dataclass(frozen=True)
class Cut:
    """The requests that arrive in ``[start_s, end_s)``; their time starts at ``start_s``.

    Attributes
    ----------
    workload : Workload
    start_s, end_s : float
        The window, in seconds from the start of `workload`.
    """

    workload: Workload
    start_s: float
    end_s: float = math.inf

    def __post_init__(self) -> None:
        if not 0 <= self.start_s < self.end_s:
            raise InputError(f"no window: from {self.start_s} s to {self.end_s} s", key="start_s")

    def blocks(self, streams: Streams) -> Iterator[Requests]:
        for part in self.workload.blocks(streams):
            first, last = np.searchsorted(part.arrival_s, (self.start_s, self.end_s))
            if last > first:
                kept = take(part, slice(int(first), int(last)))
                yield replace(kept, arrival_s=kept.arrival_s - self.start_s)
            if last < len(part):
                return


@dataclass(frozen=True)
class NotEmpty:
    """A workload that must have requests, such as what is left after a cut.

    Attributes
    ----------
    workload : Workload
    error : InputError
        Raised at the end if there was none.
    """

    workload: Workload
    error: InputError

    def blocks(self, streams: Streams) -> Iterator[Requests]:
        found = False
        for part in self.workload.blocks(streams):
            found = found or len(part) > 0
            yield part
        if not found:
            raise self.error


@dataclass(frozen=True)
class Rescale:
    """The same requests with all arrival times multiplied: faster or slower, equally bursty.

    Counts in windows of the scaled length, and so their index of dispersion, stay what they are.

    Attributes
    ----------
    workload : Workload
        A finite one if a rate is given, as it is read once before to know its rate.
    rate_per_s : float or None
        The mean rate that is wanted, see `mean_rate`.
    time_factor : float or None
        Or what to multiply times with: 0.5 doubles the rate.
    """

    workload: Workload
    rate_per_s: float | None = None
    time_factor: float | None = None

    def __post_init__(self) -> None:
        if (self.rate_per_s is None) == (self.time_factor is None):
            raise InputError("give either a rate or a time factor", key="rate_per_s")
        for name, value in (("rate_per_s", self.rate_per_s), ("time_factor", self.time_factor)):
            if value is not None and not 0 < value < math.inf:
                raise InputError(f"{name} is {value}, must be above 0", key=name)

    def blocks(self, streams: Streams) -> Iterator[Requests]:
        if self.rate_per_s is not None:
            factor = mean_rate(self.workload, streams) / self.rate_per_s
        else:
            factor = self.time_factor or 1.0
        for part in self.workload.blocks(streams):
            yield replace(part, arrival_s=part.arrival_s * factor)


@dataclass(frozen=True)
class AssignClients:
    """Requests spread at random over clients; a session stays with one.

    Attributes
    ----------
    workload : Workload
    weights : sequence of float
        Share of each client, by index; they need not add up to 1.
    """

    workload: Workload
    weights: Sequence[float]

    def __post_init__(self) -> None:
        if not all(0 <= w < math.inf for w in self.weights) or not sum(self.weights) > 0:
            raise InputError(
                f"weights of clients are {list(self.weights)}, must be 0 or more and not all 0",
                key="weights",
            )

    def blocks(self, streams: Streams) -> Iterator[Requests]:
        generator = streams.stream("workload", "clients")
        key = int(generator.integers(1 << 62))
        last = max(i for i, weight in enumerate(self.weights) if weight)
        shares = np.cumsum(self.weights) / sum(self.weights)
        for part in self.workload.blocks(streams):
            drawn = generator.random(len(part))
            drawn = np.where(part.session_id < 0, drawn, uniform(part.session_id, key))
            client = np.minimum(np.searchsorted(shares, drawn, side="right"), last)
            yield replace(part, client=client.astype(np.int64))


@dataclass(frozen=True)
class AssignSamples:
    """Each request asks one of the samples of an accuracy table, uniformly at random.

    Attributes
    ----------
    workload : Workload
    rows : int
        Rows of the table.
    """

    workload: Workload
    rows: int

    def __post_init__(self) -> None:
        if self.rows < 1:
            raise InputError("the accuracy table has no rows", key="rows")

    def blocks(self, streams: Streams) -> Iterator[Requests]:
        generator = streams.stream("workload", "samples")
        for part in self.workload.blocks(streams):
            # a uniform number per request: bounded integers may take more than one word each
            row = (generator.random(len(part)) * self.rows).astype(np.int64)
            yield replace(part, sample_id=np.minimum(row, self.rows - 1))


@dataclass(frozen=True)
class AssignSessions:
    """Requests spread uniformly over sessions whose prompts begin alike.

    Lengths and times stay what they are; for dialogues that grow see
    `infsim.workload.sessions.Sessions`.

    Attributes
    ----------
    workload : Workload
    sessions : int
        How many there are.
    prefix_tokens : int
        Leading tokens that all prompts of a session share, as far as they are as long.
    prefix_block_tokens : int
        Tokens of one hashed block of the prefix.
    """

    workload: Workload
    sessions: int
    prefix_tokens: int = 0
    prefix_block_tokens: int = 16

    def __post_init__(self) -> None:
        for name, least in (("sessions", 1), ("prefix_tokens", 0), ("prefix_block_tokens", 1)):
            if getattr(self, name) < least:
                raise InputError(
                    f"{name} is {getattr(self, name)}, must be at least {least}", key=name
                )

    def blocks(self, streams: Streams) -> Iterator[Requests]:
        generator = streams.stream("workload", "sessions")
        for part in self.workload.blocks(streams):
            session = (generator.random(len(part)) * self.sessions).astype(np.int64)
            assigned = replace(part, session_id=np.minimum(session, self.sessions - 1))
            yield self._with_prefix(assigned) if self.prefix_tokens else assigned

    def _with_prefix(self, part: Requests) -> Requests:
        lengths = np.minimum(part.input_tokens, self.prefix_tokens) // self.prefix_block_tokens
        position: NDArray[np.int64] = ragged(np.zeros(len(part), dtype=np.int64), lengths)
        hashes = mix(np.repeat(part.session_id, lengths), position)
        return with_prefixes(part, lengths, hashes, self.prefix_block_tokens)


def mean_rate(workload: Workload, streams: Streams) -> float:
    """Return the mean rate of a finite workload: gaps over the time between first and last, 1/s.

    Raises
    ------
    InputError
        If there are fewer than two arrival times.
    """
    count, first_s, last_s = 0, math.inf, -math.inf
    for part in workload.blocks(streams):
        if len(part):
            count += len(part)
            first_s = min(first_s, float(part.arrival_s[0]))
            last_s = float(part.arrival_s[-1])
    if not last_s > first_s:
        raise InputError(f"{count} requests at one time have no rate that could be scaled")
    return (count - 1) / (last_s - first_s)
