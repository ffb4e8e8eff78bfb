"""The network that a scenario describes."""

from __future__ import annotations

from collections.abc import Mapping
from math import inf
from typing import Any

from infsim.cluster.network import Network
from infsim.cluster.node import Client, Node
from infsim.errors import InputError, did_you_mean
from infsim.rng import Streams
from infsim.scenario.build.roster import Roster
from infsim.scenario.schema.network import Links, Mesh

Pair = tuple[str, str]


def build_network(
    part: Mesh | Links,
    nodes: tuple[Node, ...],
    clients: tuple[Client, ...],
    members: Roster,
    streams: Streams,
) -> Network:
    """Build the network between nodes and clients.

    Clients attached to a node sit where the node is.

    Raises
    ------
    InputError
        If regions lack a delay, a link ends nowhere, or the network falls apart.
    """
    if isinstance(part, Links):
        network = _from_links(part, nodes, clients, members)
    else:
        network = _from_regions(part, nodes, clients, streams)
    names = [node.name for node in nodes]
    for i, client in enumerate(clients):
        if client.node is not None:
            network = network.attach(len(nodes) + i, names.index(client.node))
    return network


def _from_regions(
    mesh: Mesh, nodes: tuple[Node, ...], clients: tuple[Client, ...], streams: Streams
) -> Network:
    regions = [node.site for node in nodes] + [client.site for client in clients]
    rtt = _pairs(mesh.rtt, regions, mesh.between_rtt)
    for a in sorted(set(regions)):
        for b in sorted(set(regions)):
            if a < b and (a, b) not in rtt and (b, a) not in rtt:
                raise InputError(
                    f"no round-trip time between the regions {a!r} and {b!r}",
                    hint=f"rtt: {{{a}: {{{b}: 50 ms}}}}, or between_rtt: 50 ms",
                )
    unlimited = inf if mesh.between_bandwidth is None else mesh.between_bandwidth
    return Network.from_regions(
        regions,
        rtt,
        _pairs(mesh.bandwidth, regions, unlimited),
        local_rtt_s=mesh.within_rtt,
        local_bandwidth=inf if mesh.within_bandwidth is None else mesh.within_bandwidth,
        jitter=mesh.jitter,
        rng=streams.stream("network") if mesh.jitter else None,
    )


def _pairs(
    matrix: Mapping[str, Mapping[str, float]], regions: list[str], otherwise: float | None
) -> dict[Pair, float]:
    """Return the values of all pairs of regions, as far as they are known."""
    given = {(a, b): value for a, row in matrix.items() for b, value in row.items()}
    if otherwise is None:
        return given
    for a in set(regions):
        for b in set(regions):
            if a != b and (a, b) not in given and (b, a) not in given:
                given[a, b] = otherwise
    return given


def _from_links(
    part: Links, nodes: tuple[Node, ...], clients: tuple[Client, ...], members: Roster
) -> Network:
    import networkx as nx

    attached = {client.name: client.node for client in clients if client.node is not None}
    names = [node.name for node in nodes] + [client.name for client in clients]
    graph: nx.Graph[Any] = nx.Graph()
    graph.add_nodes_from(name for name in names if name not in attached)
    graph.add_nodes_from(part.switches)
    for link in part.links:
        first, second = (_ends(end, list(graph), members) for end in link.between)
        for a in first:
            for b in second:
                bandwidth = inf if link.bandwidth is None else link.bandwidth
                graph.add_edge(a, b, delay_s=link.delay, bandwidth=bandwidth)
    return Network.from_topology(graph, [attached.get(name, name) for name in names])


def _ends(end: str, vertices: list[str], members: Roster) -> list[str]:
    """Return the vertices that one end of a link means: one, or all nodes of a group."""
    if end in vertices:
        return [end]
    try:
        return [members.names[i] for i in members.find(end)]
    except InputError:
        raise InputError(
            f"a link ends at {end!r}, which is no node, client or switch"
            f"{did_you_mean(end, vertices)}"
        ) from None
