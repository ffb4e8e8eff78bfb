"""Requests that are all known beforehand, as a workload."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from infsim.rng import Streams
from infsim.workload.requests import Requests


@dataclass(frozen=True)
class Given:
    """A workload of requests that are all known beforehand."""

    requests: Requests

    @classmethod
    def of(
        cls,
        arrival_s: NDArray[np.float64],
        input_tokens: NDArray[np.int64],
        output_tokens: NDArray[np.int64],
    ) -> Given:
        """Return requests of one client, each by itself, as columns by increasing arrival."""
        count = len(arrival_s)
        nothing = np.full(count, -1)
        client = np.zeros(count, dtype=np.int64)
        return cls(Requests(arrival_s, input_tokens, output_tokens, client, nothing, nothing))

    def blocks(self, streams: Streams) -> Iterator[Requests]:  # noqa: ARG002 - nothing is drawn
        yield self.requests
