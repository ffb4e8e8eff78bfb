"""What a node did with its time, and the energy that took."""

from __future__ import annotations

from typing import TYPE_CHECKING

from infsim.cost.energy import PowerDraw
from infsim.engine.reference.parts import Node

if TYPE_CHECKING:
    from infsim.engine.reference.world import World


class Meter:
    """Adds up times, energy, carbon and cost of a node from one change to the next."""

    def __init__(self, world: World, node: Node) -> None:
        self.world = world
        self.node = node
        self.site = world.experiment.cluster.sites[node.machine.site]
        power = world.experiment.costs.power(node.index)
        self.draw = PowerDraw(node.machine, self.site, power)
        self.since_s = 0.0
        self.up_s = self.down_s = self.busy_s = self.loading_s = 0.0
        self.energy_j = self.carbon_g = self.energy_cost = 0.0

    def read(self, time_s: float) -> None:
        """Account for the time up to now, before the node changes."""
        span_s = time_s - self.since_s
        intensity = self.site.carbon.integral(self.since_s, time_s)
        price = self.site.price.integral(self.since_s, time_s)
        self.since_s = time_s
        if self.node.status == "down":
            self.down_s += span_s
            return
        extra_w = 0.0
        if self.node.running is not None:
            extra_w = self.draw.extra_w(sum(item.tokens for item in self.node.running.items))
            self.busy_s += span_s
        self.up_s += span_s
        self.loading_s += span_s if self.node.status == "loading" else 0.0
        self.energy_j += self.draw.energy_j(span_s, span_s * extra_w)
        self.carbon_g += self.draw.per_kwh(intensity, intensity * extra_w)
        self.energy_cost += self.draw.per_kwh(price, price * extra_w)
