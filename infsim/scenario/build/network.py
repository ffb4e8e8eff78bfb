"""The network that a scenario describes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import inf
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infsim.cluster.network import Network
from infsim.cluster.networks.distance import MEAN_LINE, DistanceModel
from infsim.cluster.networks.geography import Place, city, distances_km
from infsim.cluster.networks.tcp import Tcp
from infsim.cluster.networks.variation import SlowVariation, VariationModel
from infsim.cluster.node import Client, Node
from infsim.errors import InputError, did_you_mean
from infsim.rng import Streams
from infsim.scenario.build.roster import Roster
from infsim.scenario.build.rows import from_matrix, from_topology, spread
from infsim.scenario.schema.network import (
    Cities,
    Conditions,
    Coordinates,
    Distance,
    Links,
    Matrix,
    Mesh,
    Topology,
)
from infsim.workload.hashing import uniform

Pair = tuple[str, str]


def build_network(
    part: Mesh | Links | Matrix | Cities | Distance | Topology,
    nodes: tuple[Node, ...],
    clients: tuple[Client, ...],
    members: Roster,
    streams: Streams,
    places: Mapping[str, str | Coordinates | None],
) -> Network:
    """Build the network between nodes and clients.

    Clients attached to a node sit where the node is.

    Parameters
    ----------
    part : Mesh, Links, Matrix, Cities, Distance or Topology
    nodes : tuple of Node
    clients : tuple of Client
    members : Roster
    streams : Streams
        For what is drawn: jitter, rows, scatter, variation.
    places : mapping
        Regions in the order of the scenario, each with the place that it is given, if any.

    Raises
    ------
    InputError
        If regions lack a delay or a place, a link ends nowhere, a file is wrong, or the network
        falls apart.
    """
    ends: list[Node | Client] = [*nodes, *clients]
    cities = {region: place for region, place in places.items() if isinstance(place, str)}
    if isinstance(part, Links):
        network = _from_links(part, nodes, clients, members)
    elif isinstance(part, Mesh):
        network = _from_regions(part, nodes, clients, streams)
    elif isinstance(part, Distance):
        network = _from_distances(part, ends, places, streams)
    elif isinstance(part, Topology):
        network = from_topology(part, ends, cities, streams)
    else:
        network = from_matrix(part, ends, cities, streams)
    network = _with_effects(part, network, ends, streams)
    names = [node.name for node in nodes]
    for i, client in enumerate(clients):
        if client.node is not None:
            network = network.attach(len(nodes) + i, names.index(client.node))
    return network


def _with_effects(
    part: Conditions, network: Network, ends: Sequence[Node | Client], streams: Streams
) -> Network:
    """Add what changes over time, and what the transport protocol costs."""
    variation = tcp = None
    if part.variation is not None:
        given, fitted = part.variation, VariationModel()
        model = VariationModel(
            end_spread=fitted.end_spread * given.scale,
            pair_spread=fitted.pair_spread * given.scale,
            most_spread=fitted.most_spread * given.scale,
            step_s=given.step,
            correlation_s=given.correlation,
            daily_swing=given.daily_swing,
            peak_s=given.peak,
        )
        variation = SlowVariation(model, [end.name for end in ends], streams)
    if part.tcp is not None:
        tcp = Tcp(part.tcp.connection, part.tcp.window, part.tcp.initial_window, part.tcp.overhead)
    access = [
        [end.uplink_bytes_per_s for end in ends],
        [end.downlink_bytes_per_s for end in ends],
    ]
    return network.with_effects(variation=variation, tcp=tcp, access=access)


def _from_distances(
    part: Distance,
    ends: Sequence[Node | Client],
    places: Mapping[str, str | Coordinates | None],
    streams: Streams,
) -> Network:
    # in the order of the scenario, so that nodes change nothing between regions that are there
    used = dict.fromkeys(end.site for end in ends)
    regions = [region for region in dict.fromkeys([*places, *used]) if region in used]
    points = [_point(region, places.get(region)) for region in regions]
    if part.distance.scatter:
        rtt_s = DistanceModel().sample(points, streams.stream("network", "distance"))
    else:
        rtt_s = MEAN_LINE.base_s + MEAN_LINE.per_km_s * distances_km(points)
    unlimited = inf if part.between_bandwidth is None else part.between_bandwidth
    rows = [regions.index(end.site) for end in ends]
    return spread(part, rtt_s / 2, np.full(rtt_s.shape, unlimited), rows)


def _point(region: str, place: str | Coordinates | None) -> Place:
    """Where a region is; without a place, the city of its name."""
    if isinstance(place, Coordinates):
        return Place(place.latitude, place.longitude)
    try:
        return city(region if place is None else place)
    except InputError as error:
        if place is not None:
            raise
        hint = f"regions: {{{region}: {{place: paris}}}}, or a latitude and a longitude"
        raise InputError(f"the region {region!r} has no place", hint=hint) from error


def _from_regions(
    mesh: Mesh, nodes: tuple[Node, ...], clients: tuple[Client, ...], streams: Streams
) -> Network:
    ends: list[Node | Client] = [*nodes, *clients]
    regions = [end.site for end in ends]
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
        factor=_jitter(mesh.jitter, ends, streams) if mesh.jitter else 1.0,
    )


def _jitter(spread: float, ends: Sequence[Node | Client], streams: Streams) -> NDArray[np.float64]:
    """Draw the factor of each pair, symmetric; it depends on the names of its two ends only."""
    keys = [streams.stream("network", "jitter", end.name).integers(2**62) for end in ends]
    first, second = np.meshgrid(keys, keys)
    drawn = uniform(np.minimum(first, second).ravel(), np.maximum(first, second).ravel())
    return (1 - spread + 2 * spread * drawn).reshape(first.shape)


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
