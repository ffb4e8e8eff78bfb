"""Energy and carbon: power over time, and what the electricity of a site emits."""

from __future__ import annotations

from infsim.cluster.node import Node, Site

JOULES_PER_KWH = 3.6e6


def idle_power_w(node: Node) -> float:
    """Power of a node that is up and has nothing to do, in watts."""
    return node.device.idle_w * node.count


def busy_power_w(node: Node) -> float:
    """Power of a node in the middle of an iteration, in watts."""
    return node.device.active_w * node.count


def energy_j(node: Node, site: Site, up_s: float, busy_s: float) -> float:
    """Energy of a node that was up for ``up_s``, of which it was busy for ``busy_s``.

    The overhead of the site (its PUE) is included. Joules.
    """
    devices = idle_power_w(node) * (up_s - busy_s) + busy_power_w(node) * busy_s
    return devices * site.pue


def carbon_g(power_w: float, site: Site, start_s: float, end_s: float) -> float:
    """Grams of CO2e of a constant device power between two times, PUE included."""
    return power_w * site.pue * site.carbon.integral(start_s, end_s) / JOULES_PER_KWH
