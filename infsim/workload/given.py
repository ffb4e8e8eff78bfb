"""Requests that are all known beforehand, as a workload."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from infsim.rng import Streams
from infsim.workload.requests import Requests


@dataclass(frozen=True)
class Given:
    """A workload of requests that are all known beforehand."""

    requests: Requests

    def blocks(self, streams: Streams) -> Iterator[Requests]:  # noqa: ARG002 - nothing is drawn
        yield self.requests
