"""Superposition: several workloads at once, in order of arrival."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from infsim.errors import InputError
from infsim.rng import Streams
from infsim.workload.blocks import concatenate, empty, take
from infsim.workload.hashing import mix
from infsim.workload.requests import Requests, Workload


class Scoped(Streams):
    """The streams of one part of a workload: the same names, other numbers.

    Parameters
    ----------
    parent : Streams
        Where they come from.
    *scope : str or int
        Names that come before each name.
    """

    __slots__ = ("_parent", "_scope")

    def __init__(self, parent: Streams, *scope: str | int) -> None:
        super().__init__(parent.seed, parent.replication)
        self._parent = parent
        self._scope = scope

    def stream(self, *names: str | int) -> np.random.Generator:
        return self._parent.stream(*self._scope, *names)


@dataclass(frozen=True)
class Merge:
    """Several workloads at once.

    Equal times keep the order of `parts`. Each part is a population of its own: it draws from
    streams of its own, and neither sessions nor prefixes of different parts are the same.

    Attributes
    ----------
    parts : sequence of Workload
    """

    parts: Sequence[Workload]

    def __post_init__(self) -> None:
        if not self.parts:
            raise InputError("nothing to merge", key="parts")

    def blocks(self, streams: Streams) -> Iterator[Requests]:
        sources = [
            _Source(index, part.blocks(Scoped(streams, "merge", index)))
            for index, part in enumerate(self.parts)
        ]
        while (until_s := min(source.known_until_s for source in sources)) < math.inf:
            next(source for source in sources if source.known_until_s == until_s).read()
            # nothing that is still unread can arrive before this time
            until_s = min(source.known_until_s for source in sources)
            ready = concatenate([source.take_before(until_s) for source in sources])
            if len(ready):
                yield take(ready, np.argsort(ready.arrival_s, kind="stable"))


class _Source:
    """One workload of a superposition, with what of it waits for the others."""

    def __init__(self, index: int, blocks: Iterator[Requests]) -> None:
        self._index = index
        self._blocks = blocks
        self._buffer = empty()
        self.known_until_s = -math.inf

    def read(self) -> None:
        """Read one more block."""
        part = next(self._blocks, None)
        if part is None:
            self.known_until_s = math.inf
        elif len(part):
            self._buffer = concatenate([self._buffer, self._own(part)])
            self.known_until_s = float(part.arrival_s[-1])

    def take_before(self, until_s: float) -> Requests:
        """Take out what arrives before this time."""
        count = int(np.searchsorted(self._buffer.arrival_s, until_s))
        taken = take(self._buffer, slice(0, count))
        self._buffer = take(self._buffer, slice(count, None))
        return taken

    def _own(self, part: Requests) -> Requests:
        """Give sessions and prefixes ids that no other source has."""
        session = part.session_id
        part = replace(part, session_id=np.where(session < 0, -1, mix(session, self._index)))
        if part.prefix_hashes is None:
            return part
        return replace(part, prefix_hashes=mix(part.prefix_hashes, self._index))
