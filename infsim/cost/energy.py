"""The power of a node over time, and what its electricity emits and costs."""

from __future__ import annotations

from dataclasses import dataclass

from infsim.cluster.node import Node, Site

JOULES_PER_KWH = 3.6e6


@dataclass(frozen=True, slots=True)
class PowerDraw:
    """Power of a node at the meter of its site (PUE included): idle while up, more while busy.

    Attributes
    ----------
    idle_w, busy_w : float
        Watts while the node is up without work, and in the middle of an iteration.
    """

    idle_w: float
    busy_w: float

    @classmethod
    def of(cls, node: Node, site: Site) -> PowerDraw:
        """Return the power draw of a node at a site."""
        scale = node.count * site.pue
        return cls(node.device.idle_w * scale, node.device.active_w * scale)

    def energy_j(self, up_s: float, busy_s: float) -> float:
        """Joules of a node that was up for ``up_s``, of which it was busy for ``busy_s``."""
        return self.idle_w * up_s + (self.busy_w - self.idle_w) * busy_s

    def per_kwh(self, up_integral: float, busy_integral: float) -> float:
        """What is told per kWh, for the energy of the node: grams of CO2e, or money.

        Parameters
        ----------
        up_integral, busy_integral : float
            Integrals of the site's carbon intensity or price over the time that the node was up,
            and busy, in g/kWh (or currency per kWh) times seconds
            (`infsim.cluster.series.StepSeries.integral`).
        """
        return self.energy_j(up_integral, busy_integral) / JOULES_PER_KWH
