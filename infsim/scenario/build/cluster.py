"""The cluster that a scenario describes."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

from infsim.cluster.carbon import CarbonIntensity
from infsim.cluster.cluster import Cluster
from infsim.cluster.node import Client, Node, Site
from infsim.cluster.price import ElectricityPrice
from infsim.rng import Streams
from infsim.scenario.alternatives import Alternative
from infsim.scenario.build.availability import build_availability
from infsim.scenario.build.blame import blame
from infsim.scenario.build.device import build_device
from infsim.scenario.build.network import build_network
from infsim.scenario.build.roster import ONLY_REGION, Roster, known_region
from infsim.scenario.schema.cluster import CarbonFile, ClientGroup, Electricity, NodeGroup


def build_cluster(alternative: Alternative, members: Roster, streams: Streams) -> Cluster:
    """Build nodes, clients, sites and network.

    Parameters
    ----------
    alternative : Alternative
    members : Roster
        Names and regions of the nodes.
    streams : Streams
        For the jitter of delays.

    Raises
    ------
    InputError
        With the place in the scenario, for unknown names and impossible figures.
    """
    part = alternative.spec.cluster
    sites = _sites(alternative)
    nodes: list[Node] = []
    for i, group in enumerate(part.nodes):
        with blame(alternative, "cluster", "nodes", i):
            nodes += _nodes(alternative, i, group, members)
    clients = _clients(alternative, nodes, members)
    with blame(alternative, "cluster", "network"):
        network = build_network(part.network, tuple(nodes), clients, members, streams)
    with blame(alternative, "cluster"):
        return Cluster(tuple(nodes), clients, sites, network)


def client_weights(alternative: Alternative, members: Roster) -> tuple[float, ...]:
    """Return the share of the requests of each client, not normalised."""
    weights: list[float] = []
    for group in alternative.spec.cluster.clients:
        count = 1 if group.node is None else len(members.find(group.node))
        weights += [group.weight / count] * count
    return tuple(weights) or (1.0,)


def _sites(alternative: Alternative) -> dict[str, Site]:
    regions = alternative.spec.cluster.regions or {ONLY_REGION: Electricity()}
    common = alternative.spec.energy
    sites = {}
    for name, own in regions.items():
        carbon = own.carbon if own.carbon is not None else common.carbon
        price = own.price if own.price is not None else common.price
        with blame(alternative, "cluster", "regions", name):
            sites[name] = Site(name, _carbon(carbon), _price(price), own.pue or common.pue or 1.0)
    return sites


def _carbon(entry: CarbonFile | float | None) -> CarbonIntensity:
    if isinstance(entry, CarbonFile):
        from infsim.cluster.carbon_file import read_carbon

        start = None if entry.start is None else datetime.fromisoformat(entry.start)
        return read_carbon(Path(entry.file), start)
    return CarbonIntensity.unknown() if entry is None else CarbonIntensity.constant(entry)


def _price(entry: float | None) -> ElectricityPrice:
    return ElectricityPrice.unknown() if entry is None else ElectricityPrice.constant(entry)


def _nodes(alternative: Alternative, index: int, group: NodeGroup, members: Roster) -> list[Node]:
    with blame(alternative, "cluster", "nodes", index, "device"):
        device = build_device(group.device)
    figures: dict[str, Any] = {
        "uplink_bytes_per_s": group.uplink,
        "downlink_bytes_per_s": group.downlink,
        "load_bytes_per_s": group.load_rate,
        "memory_fraction": group.memory_fraction,
        "interconnect_bytes_per_s": group.interconnect,
        "interconnect_latency_s": group.interconnect_latency,
    }
    given = {name: value for name, value in figures.items() if value is not None}
    own = [member for member in members.members if member.group == index]
    with blame(alternative, "cluster", "nodes", index, "availability"):
        available = build_availability(group.availability, own)
    return [
        Node(member.name, device, group.devices, member.region, availability=up, **given)
        for member, up in zip(own, available, strict=True)
    ]


def _clients(alternative: Alternative, nodes: list[Node], members: Roster) -> tuple[Client, ...]:
    groups = alternative.spec.cluster.clients
    if not groups:
        return (Client("clients", nodes[0].site),)
    clients: list[Client] = []
    for i, group in enumerate(groups):
        if group.node is None:
            region = known_region(alternative, group.region, "cluster", "clients", i, "region")
            clients.append(Client(str(group.name), region, **_limits(group)))
            continue
        with blame(alternative, "cluster", "clients", i, "node"):
            hosts = [nodes[k] for k in members.find(group.node)]
        for host in hosts:
            base = group.name or "client"
            name = group.name if group.name and len(hosts) == 1 else f"{base}@{host.name}"
            clients.append(Client(name, host.site, host.name, **_limits(group)))
    return tuple(clients)


def _limits(group: ClientGroup) -> dict[str, Any]:
    limits = {"uplink_bytes_per_s": group.uplink, "downlink_bytes_per_s": group.downlink}
    return {name: value for name, value in limits.items() if value is not None}
