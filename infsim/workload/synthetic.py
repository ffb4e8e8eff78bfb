"""Requests made from a process of arrivals and a distribution of lengths."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from infsim.rng import Streams
from infsim.workload.arrivals import Arrivals
from infsim.workload.blocks import BLOCK, block
from infsim.workload.lengths import Lengths
from infsim.workload.requests import Requests


@dataclass(frozen=True)
class Synthetic:
    """Requests without end, if the arrivals have none (see `infsim.workload.transform.Limit`).

    Attributes
    ----------
    arrivals : Arrivals
    lengths : Lengths
    block : int
        Requests of a block; what is drawn does not depend on it.
    """

    arrivals: Arrivals
    lengths: Lengths
    block: int = BLOCK

    def blocks(self, streams: Streams) -> Iterator[Requests]:
        sample = self.lengths.sampler(streams)
        for times in self.arrivals.times(streams, self.block):
            yield block(times, *sample(times))
