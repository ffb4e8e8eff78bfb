"""What an experiment needs that is not a policy, made up: linear costs, and a table of requests."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from math import inf, sin

import numpy as np
from numpy.typing import NDArray

from infsim.cluster.availability import Availability, Outage
from infsim.cluster.cluster import Cluster
from infsim.cost.costs import Costs
from infsim.cost.interface import StepCost
from infsim.cost.power import PowerTable
from infsim.model.deployment import Deployment
from infsim.model.formats import Format
from infsim.rng import Streams
from infsim.workload.requests import Requests

FAKE_FORMAT = Format("fake", weight_bits=16, activation_bits=16, kv_bits=16)


@dataclass
class LinearStepCost(StepCost):
    """An iteration lasts a fixed time plus so much for each thing in it, in seconds."""

    base: float = 0.0
    prefill_token: float = 0.0
    prefill_pair: float = 0.0
    prefill_entry: float = 0.0
    decode: float = 0.0
    decode_entry: float = 0.0
    sequence: float = 0.0
    calibrated: bool = field(default=False, init=False)
    source: str = field(default="made up", init=False)
    calls: int = field(default=0, init=False)
    extrapolated: int = field(default=0, init=False)

    def step_s(
        self,
        prefill_tokens: int,
        prefill_pairs: float,
        prefill_context: float,
        decode_sequences: int,
        decode_context: float,
        sequences: int,
    ) -> float:
        return (
            self.base
            + self.prefill_token * prefill_tokens
            + self.prefill_pair * prefill_pairs
            + self.prefill_entry * prefill_context
            + self.decode * decode_sequences
            + self.decode_entry * decode_context
            + self.sequence * sequences
        )

    def decode_line(self, sequences: int, context: float) -> tuple[float, float, float]:
        return self.base + (self.decode + self.sequence) * sequences, self.decode_entry, inf

    def times(self, operators: int, scale: float) -> LinearStepCost:
        """Cost of so many operators, in a world where everything takes `scale` times as long."""
        work = operators * scale
        return LinearStepCost(
            self.base * scale,
            self.prefill_token * work,
            self.prefill_pair * work,
            self.prefill_entry * work,
            self.decode * work,
            self.decode_entry * work,
            self.sequence * work,
        )


class LinearCosts(Costs):
    """Memory as it is, time linear: one `LinearStepCost` per operator for each node."""

    def __init__(
        self, cluster: Cluster, per_node: Sequence[LinearStepCost], scale: float = 1.0
    ) -> None:
        super().__init__(cluster)
        self.per_node = per_node
        self.scale = scale

    def step(self, node: int, deployment: Deployment, operators: Sequence[int]) -> StepCost:
        return self.per_node[node].times(len(operators), self.scale)

    def power(self, node: int) -> PowerTable | None:
        """Half of the devices draw more the more tokens they compute."""
        watts = self.cluster.nodes[node].device.active_w
        if int(watts) % 2 == 0:
            return None
        return PowerTable("made up", (2.0, 5.0, 40.0), (0.5 * watts, 0.75 * watts, watts))


@dataclass(frozen=True)
class Table:
    """A workload that is there already, in blocks."""

    requests: tuple[Requests, ...]

    def blocks(self, streams: Streams) -> Iterator[Requests]:
        return iter(self.requests)


@dataclass(frozen=True)
class Announced(Availability):
    """Gives notice of every so many-th outage of another process."""

    base: Availability
    notice_s: float
    every: int = 1

    def outages(self, streams: Streams, node: str) -> Iterator[Outage]:
        for i, outage in enumerate(self.base.outages(streams, node), start=1):
            yield outage._replace(notice_s=0.0 if i % self.every else self.notice_s)

    @property
    def expected_fraction(self) -> float | None:
        return self.base.expected_fraction


@dataclass(frozen=True)
class Swell:
    """Delays that rise and fall together."""

    scale: float

    def factor(self, x: int, y: int, time_s: float) -> float:
        return 1.0 + 0.5 * sin(3.0 * time_s / self.scale)


@dataclass(frozen=True)
class SlowTransfer:
    """A protocol that needs some round trips, and a while for each byte."""

    scale: float

    def extra_s(self, size_bytes: float, rtt_s: float, rate_bytes_per_s: float) -> float:
        return 0.7 * rtt_s + size_bytes * 1.3e-6 * self.scale

    def most_bytes_per_s(self, rtt_s: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.full(rtt_s.shape, inf)
