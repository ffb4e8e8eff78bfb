"""The power of a node over time, and what its electricity emits and costs."""

from __future__ import annotations

from infsim.cluster.node import Node, Site
from infsim.cost.power import PowerTable

JOULES_PER_KWH = 3.6e6


class PowerDraw:
    """Power of a node at the meter of its site (PUE included): idle while up, more while busy.

    Parameters
    ----------
    node : Node
    site : Site
    table : PowerTable, optional
        Power of its device in the middle of an iteration. Without one, an iteration draws the
        active power of the device, whatever it computes.

    Attributes
    ----------
    idle_w : float
        Watts while the node is up without work.
    """

    def __init__(self, node: Node, site: Site, table: PowerTable | None = None) -> None:
        self._scale = node.count * site.pue
        self._table = table
        self.idle_w = node.device.idle_w * self._scale
        self._active_w = node.device.active_w * self._scale
        self._extra_w: dict[int, float] = {}

    def extra_w(self, tokens: int) -> float:
        """Watts above idle in an iteration of so many prompt tokens and decodes."""
        if self._table is None:
            return self._active_w - self.idle_w
        watts = self._extra_w.get(tokens)
        if watts is None:
            busy_w = self._table.at(tokens) * self._scale
            watts = self._extra_w[tokens] = max(busy_w - self.idle_w, 0.0)
        return watts

    def energy_j(self, up_s: float, extra_j: float) -> float:
        """Joules of a node that was up for ``up_s``, with so many above idle in iterations."""
        return self.idle_w * up_s + extra_j

    def per_kwh(self, up_integral: float, extra_integral: float) -> float:
        """What is told per kWh, for the energy of the node: grams of CO2e, or money.

        Parameters
        ----------
        up_integral : float
            Integral of the site's carbon intensity or price over the time that the node was up,
            in g/kWh (or currency per kWh) times seconds
            (`infsim.cluster.series.StepSeries.integral`).
        extra_integral : float
            The same over iterations, each times its watts above idle.
        """
        return self.energy_j(up_integral, extra_integral) / JOULES_PER_KWH
