"""Graphs of real networks: GraphML and GML (Topology Zoo), SNDlib in XML or native form."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any

from infsim.cluster.networks.geography import FIBRE_S_PER_KM, Place, distances_km
from infsim.cluster.networks.matrix import text_of
from infsim.errors import InputError, Where, did_you_mean

if TYPE_CHECKING:
    import networkx as nx


@dataclass(frozen=True, slots=True)
class LinkRules:
    """How links get their delays and bandwidths.

    Attributes
    ----------
    route_factor : float
        Length of the fibre over that of the great circle between its ends.
    unplaced_delay_s : float or None
        One-way delay of a link with an end of unknown place; None refuses such links.
    capacity_bytes_per_s : float
        What a capacity of 1 in a file of SNDlib means; Topology Zoo has bits per second.
    default_bytes_per_s : float
        Bandwidth of links without a capacity, ``inf`` for no limit.
    """

    route_factor: float = 1.0
    unplaced_delay_s: float | None = None
    capacity_bytes_per_s: float = 125_000.0
    default_bytes_per_s: float = inf


def read_topology(path: Path, rules: LinkRules | None = None) -> nx.Graph[str]:
    """Read the graph of a network.

    Parameters
    ----------
    path : Path
        ``.graphml`` or ``.gml`` with the attributes of the Internet Topology Zoo (``label``,
        ``Latitude``, ``Longitude``; ``LinkSpeedRaw`` in bits/s), read by networkx; ``.xml`` or
        ``.txt`` of SNDlib with geographical coordinates (x is the longitude).
    rules : LinkRules, optional

    Returns
    -------
    networkx.Graph
        Vertices by name, edges with ``delay_s`` (one way) and ``bandwidth`` (bytes/s), as
        `infsim.cluster.network.Network.from_topology` takes them. Parallel links are one of the
        sum of their bandwidths.

    Raises
    ------
    InputError
        If the file is missing, damaged or of another kind, two vertices have the same name, or a
        link has no length and ``rules`` do not say what then.
    """
    import networkx as nx

    readers: dict[str, Callable[[Path], _Raw]] = {
        ".graphml": _read_graphml,
        ".gml": _read_gml,
        ".xml": _read_sndlib_xml,
        ".txt": _read_sndlib_native,
    }
    if path.suffix not in readers:
        raise InputError(f"{path.name} is no {', '.join(readers)} file", where=Where(str(path)))
    rules = rules or LinkRules()
    raw = readers[path.suffix](path)
    graph: nx.Graph[str] = nx.Graph()
    graph.add_nodes_from(raw.places)
    for first, second, capacity in raw.links:
        for end in (first, second):
            if end not in raw.places:
                hint = did_you_mean(end, raw.places)
                raise InputError(f"a link ends at {end!r}{hint}", where=Where(str(path)))
        if first == second:
            continue
        bandwidth = rules.default_bytes_per_s
        if capacity:
            bandwidth = capacity * (raw.unit_bytes_per_s or rules.capacity_bytes_per_s)
        if graph.has_edge(first, second):
            graph.edges[first, second]["bandwidth"] += bandwidth
        else:
            delay_s = _delay_s(path, raw.places, first, second, rules)
            graph.add_edge(first, second, delay_s=delay_s, bandwidth=bandwidth)
    return graph


def _delay_s(
    path: Path, places: Mapping[str, Place | None], first: str, second: str, rules: LinkRules
) -> float:
    a, b = places[first], places[second]
    if a is not None and b is not None:
        km = float(distances_km([a, b])[0, 1])
        return km * FIBRE_S_PER_KM * rules.route_factor
    if rules.unplaced_delay_s is None:
        lost = first if a is None else second
        raise InputError(
            f"the link {first} - {second} has no length, as {lost!r} has no coordinates",
            where=Where(str(path)),
            hint="unplaced_delay: 1 ms gives such links a delay",
        )
    return rules.unplaced_delay_s


@dataclass(frozen=True, slots=True)
class _Raw:
    """What a file says: places (None without coordinates), links with capacities (0 without)."""

    places: dict[str, Place | None]
    links: list[tuple[str, str, float]]
    unit_bytes_per_s: float | None = None


# --- Topology Zoo ---------------------------------------------------------------------------


def _read_graphml(path: Path) -> _Raw:
    import networkx as nx

    return _from_zoo(path, lambda: nx.parse_graphml(text_of(path), force_multigraph=True))


def _read_gml(path: Path) -> _Raw:
    import networkx as nx

    return _from_zoo(path, lambda: nx.parse_gml(text_of(path), label="id"))


def _from_zoo(path: Path, parse: Callable[[], nx.Graph[Any]]) -> _Raw:
    import networkx as nx

    try:
        graph = parse()
    except (nx.NetworkXError, ValueError, SyntaxError, KeyError) as error:
        raise InputError(f"cannot read the graph: {error}", where=Where(str(path))) from None
    names: dict[Any, str] = {}
    places: dict[str, Place | None] = {}
    for vertex, data in graph.nodes(data=True):
        name = names[vertex] = str(data.get("label", vertex))
        if name in places:
            raise InputError(f"two vertices are named {name!r}", where=Where(str(path)))
        places[name] = _place(path, data.get("Longitude"), data.get("Latitude"))
    links = [
        (names[u], names[v], _amount(path, data.get("LinkSpeedRaw", 0)))
        for u, v, data in graph.edges(data=True)
    ]
    return _Raw(places, links, 1 / 8)


# --- SNDlib ---------------------------------------------------------------------------------


def _read_sndlib_xml(path: Path) -> _Raw:
    from xml.etree import ElementTree

    try:
        root = ElementTree.fromstring(text_of(path))
    except ElementTree.ParseError as error:
        raise InputError(f"damaged XML: {error}", where=Where(str(path))) from None
    places: dict[str, Place | None] = {}
    for node in root.iterfind(".//{*}node"):
        x, y = node.findtext("{*}coordinates/{*}x"), node.findtext("{*}coordinates/{*}y")
        places[str(node.get("id"))] = _place(path, x, y)
    links = []
    for link in root.iterfind(".//{*}link"):
        capacities = [_amount(path, c.text) for c in link.iterfind(".//{*}capacity")]
        ends = link.findtext("{*}source"), link.findtext("{*}target")
        links.append((str(ends[0]), str(ends[1]), max(capacities, default=0.0)))
    if not places:
        raise InputError("the file has no nodes of SNDlib", where=Where(str(path)))
    return _Raw(places, links)


_NATIVE_NODE = re.compile(r"^\s*(\S+)\s*\(\s*(\S+)\s+(\S+)\s*\)\s*$")
_NATIVE_LINK = re.compile(r"^\s*\S+\s*\(\s*(\S+)\s+(\S+)\s*\)\s*(\S+)[^(]*(?:\((.*)\))?\s*$")


def _read_sndlib_native(path: Path) -> _Raw:
    places: dict[str, Place | None] = {}
    links = []
    for number, line in _section(path, "NODES"):
        node = _NATIVE_NODE.match(line)
        if node is None:
            raise InputError(f"{line.strip()!r} is no node", where=Where(str(path), number))
        places[node[1]] = _place(path, node[2], node[3])
    for number, line in _section(path, "LINKS"):
        link = _NATIVE_LINK.match(line)
        if link is None:
            raise InputError(f"{line.strip()!r} is no link", where=Where(str(path), number))
        modules = (link[4] or "").split()[::2]  # capacity, cost, capacity, cost, ...
        capacities = [_amount(path, text) for text in (link[3], *modules)]
        links.append((link[1], link[2], max(capacities)))
    if not places:
        raise InputError("the file has no section NODES", where=Where(str(path)))
    return _Raw(places, links)


def _section(path: Path, name: str) -> Iterator[tuple[int, str]]:
    """Lines of a section ``NAME ( ... )``, without comments and blank ones."""
    inside = False
    for number, line in enumerate(text_of(path).splitlines(), start=1):
        line = line.split("#")[0]
        if inside and line.strip() == ")":
            return
        if inside and line.strip():
            yield number, line
        inside = inside or re.match(rf"^\s*{name}\s*\(\s*$", line) is not None


# --- values ---------------------------------------------------------------------------------


def _place(path: Path, longitude: Any, latitude: Any) -> Place | None:
    if longitude is None or latitude is None:
        return None
    place = Place(_amount(path, latitude), _amount(path, longitude))
    if not (-90 <= place.latitude <= 90 and -180 <= place.longitude <= 180):
        raise InputError(
            f"coordinates {place.longitude!r}, {place.latitude!r} are not geographical",
            where=Where(str(path)),
        )
    return place


def _amount(path: Path, value: Any) -> float:
    try:
        amount = float(value)
    except (TypeError, ValueError):
        amount = inf
    if not -inf < amount < inf:
        raise InputError(f"{value!r} is not a number", where=Where(str(path)))
    return amount
