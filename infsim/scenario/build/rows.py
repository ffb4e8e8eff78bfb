"""Networks from files: which endpoint sits on which row or vertex."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import inf
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from infsim.cluster.network import Network
from infsim.cluster.networks.cities import read_cities
from infsim.cluster.networks.geography import plain_name
from infsim.cluster.networks.matrix import RttMatrix, read_matrix
from infsim.cluster.networks.topology import LinkRules, read_topology
from infsim.cluster.node import Client, Node
from infsim.errors import InputError
from infsim.rng import Streams
from infsim.scenario.schema.network import Cities, Local, Matrix, Placed, Topology

Square = NDArray[np.float64]
Choice = Callable[[Sequence[Sequence[int]]], list[int]]
"""Chooses a row for each of several orders of preference."""


def from_matrix(
    part: Matrix | Cities,
    ends: Sequence[Node | Client],
    cities: Mapping[str, str],
    streams: Streams,
) -> Network:
    """Build the network of a matrix of measured round-trip times.

    Parameters
    ----------
    part : Matrix or Cities
    ends : sequence of Node or Client
        The endpoints, in order.
    cities : mapping of str to str
        City of a region, where the scenario names one.
    streams : Streams
        For rows that are sampled.
    """
    if isinstance(part, Matrix):
        matrix = read_matrix(Path(part.matrix), unit_s=part.unit)
    else:
        matrix = read_cities(Path(part.cities)).rtt
    if part.symmetric:
        matrix = matrix.symmetric()
    find = _city_row(matrix) if isinstance(part, Cities) else matrix.index
    keys = _keys(part, ends)
    rows = _rows(part, keys, cities, find, matrix.sampled, _orders(len(matrix), streams))
    used = sorted(set(rows.values()))
    delay_s = matrix.chosen(used, fill_missing=part.missing == "detour") / 2
    bandwidth = np.full(delay_s.shape, _rate(part.between_bandwidth))
    return spread(part, delay_s, bandwidth, [used.index(rows[key]) for key in keys])


def from_topology(
    part: Topology,
    ends: Sequence[Node | Client],
    cities: Mapping[str, str],
    streams: Streams,
) -> Network:
    """Build the network of a graph; parameters as for `from_matrix`."""
    rules = LinkRules(
        part.route_factor, part.unplaced_delay, part.capacity_unit, _rate(part.link_bandwidth)
    )
    graph = read_topology(Path(part.topology), rules)
    names = tuple(graph)
    vertices = RttMatrix(names, np.empty((0, 0)), Path(part.topology).name)
    keys = _keys(part, ends)
    orders = _orders(len(names), streams)
    rows = _rows(part, keys, cities, vertices.index, _free(vertices), orders)
    used = sorted(set(rows.values()))
    network = Network.from_topology(graph, [names[row] for row in used])
    bandwidth = np.minimum(network.bandwidth, _rate(part.between_bandwidth))
    return spread(part, network.delay_s, bandwidth, [used.index(rows[key]) for key in keys])


def spread(part: Local, delay_s: Square, bandwidth: Square, rows: Sequence[int]) -> Network:
    """Return the network of endpoints on the rows of a smaller one.

    Endpoints of the same row are as far apart as the scenario says.
    """
    at = np.array(rows)
    delay, rate = delay_s[np.ix_(at, at)], bandwidth[np.ix_(at, at)]
    together = np.equal.outer(at, at)
    delay[together] = part.within_rtt / 2
    rate[together] = _rate(part.within_bandwidth)
    return Network(delay, rate)


def _keys(part: Placed, ends: Sequence[Node | Client]) -> list[str]:
    """What is put on rows: the region or the name of each endpoint.

    A client that is attached to a node is put where the node is.
    """
    if part.by == "region":
        return [end.site for end in ends]
    return [end.node if isinstance(end, Client) and end.node else end.name for end in ends]


def _rows(
    part: Placed,
    keys: Sequence[str],
    cities: Mapping[str, str],
    find: Callable[[str], int],
    sampled: Choice,
    orders: Callable[[str], Sequence[int]],
) -> dict[str, int]:
    """Row of each key."""
    unique = list(dict.fromkeys(keys))
    if part.rows == "sample":
        return dict(zip(unique, sampled([orders(key) for key in unique]), strict=True))
    if part.rows == "same-name":
        return {key: _same_name(key, cities, find) for key in unique}
    for key in unique:
        if key not in part.rows:
            what = "region" if part.by == "region" else "node or client"
            raise InputError(f"rows: the {what} {key!r} has none", hint=f"{key}: NAME OF ITS ROW")
    return {key: find(str(part.rows[key])) for key in unique}


def _same_name(key: str, cities: Mapping[str, str], find: Callable[[str], int]) -> int:
    try:
        return find(key)
    except InputError:
        if key in cities:
            return find(cities[key])
        raise


def _city_row(matrix: RttMatrix) -> Callable[[str], int]:
    return lambda name: matrix.index(plain_name(name))


def _free(vertices: RttMatrix) -> Choice:
    """All vertices of a graph are as good: each takes the first that is free."""

    def choose(orders: Sequence[Sequence[int]]) -> list[int]:
        if len(orders) > len(vertices):
            raise InputError(
                f"{len(orders)} vertices are wanted of {vertices.source}, which has {len(vertices)}"
            )
        chosen: dict[int, None] = {}
        for order in orders:
            chosen[next(row for row in order if row not in chosen)] = None
        return list(chosen)

    return choose


def _orders(rows: int, streams: Streams) -> Callable[[str], Sequence[int]]:
    """Order in which each key would take rows; that of the others does not change it."""

    def order(key: str) -> Sequence[int]:
        drawn: list[int] = streams.stream("network", "rows", key).permutation(rows).tolist()
        return drawn

    return order


def _rate(bandwidth: float | None) -> float:
    return inf if bandwidth is None else bandwidth
