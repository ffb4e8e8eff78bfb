"""Access lines of nodes and clients: what goes up and down."""

from __future__ import annotations

from infsim.cluster.networks.access import access_class
from infsim.rng import Streams
from infsim.scenario.schema.cluster import ClientGroup, NodeGroup


def access_limits(group: NodeGroup | ClientGroup, name: str, streams: Streams) -> dict[str, float]:
    """Return the rates of somebody's line, as keywords of `Node` and `Client`.

    Parameters
    ----------
    group : NodeGroup or ClientGroup
        Rates that it gives go before those of its access class.
    name : str
        Of the node or client; its line is drawn for this name.
    streams : Streams

    Raises
    ------
    InputError
        If there is no such access class.
    """
    limits: dict[str, float] = {}
    if group.access is not None:
        up, down = access_class(group.access).draw(streams, name)
        limits = {"uplink_bytes_per_s": up, "downlink_bytes_per_s": down}
    if group.uplink is not None:
        limits["uplink_bytes_per_s"] = group.uplink
    if group.downlink is not None:
        limits["downlink_bytes_per_s"] = group.downlink
    return limits
