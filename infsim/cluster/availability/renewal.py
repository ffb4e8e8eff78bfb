"""Nodes whose up and down times have no memory of each other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import inf

import numpy as np

from infsim.cluster.availability.durations import Duration
from infsim.cluster.availability.interface import Outage, Process


@dataclass(frozen=True)
class Renewal(Process):
    """Up and down times drawn in turn, each independent of the past.

    Attributes
    ----------
    up, down : Duration
    stationary : bool
        True: time 0 is a random moment of the node's life (it may be down, and the first
        duration is a residual one). False: the node comes up at time 0.
    """

    up: Duration
    down: Duration
    stationary: bool = True

    def draw(self, rng: np.random.Generator) -> Iterator[Outage]:
        if not self.stationary:
            now = self.up.draw(rng)
        elif rng.random() < self.expected_fraction:
            now = self.up.draw_residual(rng)
        else:
            back = self.down.draw_residual(rng)
            yield Outage(0.0, back)
            now = back + self.up.draw(rng)
        while now < inf:
            back = now + self.down.draw(rng)
            yield Outage(now, back)
            now = back + self.up.draw(rng)

    @property
    def expected_fraction(self) -> float:
        return self.up.mean_s / (self.up.mean_s + self.down.mean_s)
