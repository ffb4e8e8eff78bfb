"""The cluster that a scenario describes."""

from __future__ import annotations

from typing import Any

from infsim.cluster.cluster import Cluster
from infsim.cluster.node import Client, Node
from infsim.rng import Streams
from infsim.scenario.alternatives import Alternative
from infsim.scenario.build.access import access_limits
from infsim.scenario.build.availability import build_availability
from infsim.scenario.build.blame import blame
from infsim.scenario.build.device import build_device
from infsim.scenario.build.electricity import build_sites
from infsim.scenario.build.network import build_network
from infsim.scenario.build.roster import Roster, known_region
from infsim.scenario.schema.cluster import NodeGroup


def build_cluster(alternative: Alternative, members: Roster, streams: Streams) -> Cluster:
    """Build nodes, clients, sites and network.

    Parameters
    ----------
    alternative : Alternative
    members : Roster
        Names and regions of the nodes.
    streams : Streams
        For what is drawn of the network, of access lines and of electricity.

    Raises
    ------
    InputError
        With the place in the scenario, for unknown names and impossible figures.
    """
    part = alternative.spec.cluster
    sites = build_sites(alternative, streams)
    nodes: list[Node] = []
    for i, group in enumerate(part.nodes):
        with blame(alternative, "cluster", "nodes", i):
            nodes += _nodes(alternative, i, group, members, streams)
    clients = _clients(alternative, nodes, members, streams)
    places = {name: region.place for name, region in part.regions.items()}
    with blame(alternative, "cluster", "network"):
        network = build_network(part.network, tuple(nodes), clients, members, streams, places)
    with blame(alternative, "cluster"):
        return Cluster(tuple(nodes), clients, sites, network)


def client_weights(alternative: Alternative, members: Roster) -> tuple[float, ...]:
    """Return the share of the requests of each client, not normalised."""
    weights: list[float] = []
    for group in alternative.spec.cluster.clients:
        count = 1 if group.node is None else len(members.find(group.node))
        weights += [group.weight / count] * count
    return tuple(weights) or (1.0,)


def _nodes(
    alternative: Alternative, index: int, group: NodeGroup, members: Roster, streams: Streams
) -> list[Node]:
    with blame(alternative, "cluster", "nodes", index, "device"):
        device = build_device(group.device)
    figures: dict[str, Any] = {
        "load_bytes_per_s": group.load_rate,
        "memory_fraction": group.memory_fraction,
        "interconnect_bytes_per_s": group.interconnect,
        "interconnect_latency_s": group.interconnect_latency,
    }
    given = {name: value for name, value in figures.items() if value is not None}
    own = [member for member in members.members if member.group == index]
    with blame(alternative, "cluster", "nodes", index, "availability"):
        available = build_availability(group.availability, own)
    lines: list[dict[str, Any]] = [
        dict(access_limits(group, member.name, streams)) for member in own
    ]
    return [
        Node(member.name, device, group.devices, member.region, availability=up, **given, **line)
        for member, up, line in zip(own, available, lines, strict=True)
    ]


def _clients(
    alternative: Alternative, nodes: list[Node], members: Roster, streams: Streams
) -> tuple[Client, ...]:
    groups = alternative.spec.cluster.clients
    if not groups:
        return (Client("clients", nodes[0].site),)
    clients: list[Client] = []
    for i, group in enumerate(groups):
        if group.node is None:
            region = known_region(alternative, group.region, "cluster", "clients", i, "region")
            line = access_limits(group, str(group.name), streams)
            clients.append(Client(str(group.name), region, None, **line))
            continue
        with blame(alternative, "cluster", "clients", i, "node"):
            hosts = [nodes[k] for k in members.find(group.node)]
        for host in hosts:
            base = group.name or "client"
            name = group.name if group.name and len(hosts) == 1 else f"{base}@{host.name}"
            line = access_limits(group, name, streams)
            clients.append(Client(name, host.site, host.name, **line))
    return tuple(clients)
