"""The table of requests that a workload hands to the engine, as columns."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from infsim.rng import Streams


@dataclass(frozen=True, slots=True)
class Requests:
    """One block of requests, sorted by arrival.

    Attributes
    ----------
    arrival_s : float64 (n,)
        Arrival times in seconds from the start of the run, not decreasing.
    input_tokens, output_tokens : int64 (n,)
        Prompt length (at least 1) and hidden output length (at least 1).
    client : int64 (n,)
        Index into ``Cluster.clients``: where the request comes from.
    session_id : int64 (n,)
        Session of the request, -1 for none.
    sample_id : int64 (n,)
        Row of the accuracy table, -1 for none.
    prefix_offsets : int64 (n + 1,) or None
        Request ``i`` has the prefix hashes ``prefix_hashes[offsets[i]:offsets[i+1]]``.
    prefix_hashes : int64 (m,) or None
        Chained hashes of the prompt's leading whole blocks; equal hashes mean equal prefixes.
    prefix_block_tokens : int
        Tokens of one hashed block.
    """

    arrival_s: NDArray[np.float64]
    input_tokens: NDArray[np.int64]
    output_tokens: NDArray[np.int64]
    client: NDArray[np.int64]
    session_id: NDArray[np.int64]
    sample_id: NDArray[np.int64]
    prefix_offsets: NDArray[np.int64] | None = None
    prefix_hashes: NDArray[np.int64] | None = None
    prefix_block_tokens: int = 512

    def __len__(self) -> int:
        return len(self.arrival_s)


class Workload(Protocol):
    """Anything that can produce requests, in blocks, in order of arrival."""

    def blocks(self, streams: Streams) -> Iterator[Requests]:
        """Yield the requests in blocks; a block's first arrival is not before the last one's end.

        ``streams`` gives the named random streams of this replication, so that the same seed
        gives the same requests whatever the policies under comparison draw.
        """
        ...
