"""The network: delay and bandwidth between every two endpoints."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from functools import cached_property
from math import inf
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from infsim.errors import InputError, did_you_mean

if TYPE_CHECKING:
    import networkx as nx

Pair = tuple[str, str]


class Variation(Protocol):
    """How delays change over time."""

    def factor(self, x: int, y: int, time_s: float) -> float:
        """Return what the one-way delay of a pair is multiplied by at a time; about 1 on average.

        It is asked for any two different endpoints, in any order of times, and answers the same
        each time.
        """
        ...


class TransferTime(Protocol):
    """What the transport protocol adds to delay and serialization."""

    def extra_s(self, size_bytes: float, rtt_s: float, rate_bytes_per_s: float) -> float:
        """Return the time that a message takes beyond ``delay + bytes / rate``."""
        ...

    def most_bytes_per_s(self, rtt_s: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the highest rate of a connection at these round-trip times."""
        ...


class Network:
    """One-way delays and bandwidths between endpoints (nodes, then clients).

    Parameters
    ----------
    delay_s, bandwidth : array_like (E, E)
        See the attributes.
    variation : Variation, optional
        How delays change over time; by default they do not.
    tcp : TransferTime, optional
        What the transport protocol costs; by default nothing. Its cap on the rate is applied to
        ``bandwidth``.
    access : float64 (2, E), optional
        Bytes per second of the uplinks and downlinks of the endpoints, so that ``tcp`` knows the
        narrowest rate of a path; unlimited by default.

    Attributes
    ----------
    delay_s : float64 (E, E)
        One-way propagation delay in seconds, from row to column; zero diagonal.
    bandwidth : float64 (E, E)
        Bytes per second of the path, ``inf`` for no limit; infinite diagonal.
    variation : Variation or None
    tcp : TransferTime or None

    Raises
    ------
    InputError
        If the matrices are not square, of different sizes, or hold impossible values.
    """

    def __init__(
        self,
        delay_s: ArrayLike,
        bandwidth: ArrayLike,
        *,
        variation: Variation | None = None,
        tcp: TransferTime | None = None,
        access: ArrayLike | None = None,
    ) -> None:
        self.delay_s: NDArray[np.float64] = np.array(delay_s, dtype=np.float64)
        self.bandwidth: NDArray[np.float64] = np.array(bandwidth, dtype=np.float64)
        shape = self.delay_s.shape
        if len(shape) != 2 or shape[0] != shape[1] or self.bandwidth.shape != shape:
            raise InputError(
                "network matrices must be square and of one size, got"
                f" {shape} for delay and {self.bandwidth.shape} for bandwidth"
            )
        np.fill_diagonal(self.delay_s, 0.0)
        np.fill_diagonal(self.bandwidth, inf)
        _require(self.delay_s, (self.delay_s >= 0) & np.isfinite(self.delay_s), "delay", "s")
        _require(self.bandwidth, self.bandwidth > 0, "bandwidth", "bytes/s")
        self.variation = variation
        self.tcp = tcp
        if tcp is not None:
            rtt_s = self.delay_s + self.delay_s.T
            self.bandwidth = np.minimum(self.bandwidth, tcp.most_bytes_per_s(rtt_s))
            np.fill_diagonal(self.bandwidth, inf)
        self._access = np.full((2, len(self)), inf) if access is None else np.array(access, float)
        if self._access.shape != (2, len(self)):
            raise InputError(f"network access must be of shape (2, {len(self)})")
        self._place = list(range(len(self)))
        self.delay_s.setflags(write=False)
        self.bandwidth.setflags(write=False)

    def __len__(self) -> int:
        return len(self.delay_s)

    def propagation_s(self, x: int, y: int, time_s: float) -> float:
        """Return the one-way delay from endpoint ``x`` to ``y`` of what is sent at a time."""
        delay_s = self._delay_rows[x][y]
        if self.variation is None or delay_s == 0.0:
            return delay_s
        return delay_s * self.variation.factor(self._place[x], self._place[y], time_s)

    def message_extra_s(self, x: int, y: int, size_bytes: float, time_s: float) -> float:
        """Return the time that a message takes beyond delay and serialization; 0 without ``tcp``.

        Between endpoints that are zero seconds apart it is 0: they do not need the network.
        """
        if self.tcp is None or self._delay_rows[x][y] == 0.0:
            return 0.0
        rtt_s = self.propagation_s(x, y, time_s) + self.propagation_s(y, x, time_s)
        return self.tcp.extra_s(size_bytes, rtt_s, self._rate_rows[x][y])

    @cached_property
    def _delay_rows(self) -> list[list[float]]:
        # numbers of Python: indexing an array would take longer than all the rest
        rows: list[list[float]] = self.delay_s.tolist()
        return rows

    @cached_property
    def _rate_rows(self) -> list[list[float]]:
        up, down = self._access
        rate = np.minimum(self.bandwidth, np.minimum(up[:, None], down[None, :]))
        rows: list[list[float]] = rate.tolist()
        return rows

    def with_effects(
        self,
        *,
        variation: Variation | None = None,
        tcp: TransferTime | None = None,
        access: ArrayLike | None = None,
    ) -> Network:
        """Return the network with a variation of delays and a transport protocol."""
        network = Network(self.delay_s, self.bandwidth, variation=variation, tcp=tcp, access=access)
        network._place = self._place.copy()
        return network

    def attach(self, endpoint: int, host: int) -> Network:
        """Return a network in which ``endpoint`` sits at ``host``.

        They are zero seconds apart, and to everyone else they are equally far, at all times.
        """
        delay, bandwidth = self.delay_s.copy(), self.bandwidth.copy()
        for matrix, between in ((delay, 0.0), (bandwidth, inf)):
            matrix[endpoint, :] = matrix[host, :]
            matrix[:, endpoint] = matrix[:, host]
            matrix[endpoint, host] = matrix[host, endpoint] = between
        attached = Network(
            delay, bandwidth, variation=self.variation, tcp=self.tcp, access=self._access
        )
        attached._place = self._place.copy()
        attached._place[endpoint] = self._place[host]
        return attached

    @classmethod
    def full_mesh(cls, endpoints: int, delay_s: float = 0.0, bandwidth: float = inf) -> Network:
        """Return the network in which every two endpoints are equally far."""
        shape = (endpoints, endpoints)
        return cls(np.full(shape, delay_s), np.full(shape, bandwidth))

    @classmethod
    def from_regions(
        cls,
        regions: Sequence[str],
        rtt_s: Mapping[Pair, float],
        bandwidth: Mapping[Pair, float] | float = inf,
        *,
        local_rtt_s: float = 0.0,
        local_bandwidth: float = inf,
        factor: ArrayLike = 1.0,
    ) -> Network:
        """Build the network from a matrix between regions.

        Parameters
        ----------
        regions : sequence of str
            Region of each endpoint.
        rtt_s : mapping of (str, str) to float
            Round-trip time between two regions (half of it is the one-way delay). A pair given
            in one order holds in both. A pair of a region with itself overrides
            ``local_rtt_s``.
        bandwidth : mapping of (str, str) to float, or float
            Bytes per second between regions.
        local_rtt_s, local_bandwidth : float
            Within a region, between different endpoints.
        factor : array_like (E, E)
            Multiplies the delays between endpoints.

        Raises
        ------
        InputError
            If a pair of regions is missing, or one is misspelt.
        """
        names = sorted(set(regions))
        rtt = _region_matrix(names, rtt_s, local_rtt_s, "RTT")
        if isinstance(bandwidth, Mapping):
            between = _region_matrix(names, bandwidth, local_bandwidth, "bandwidth")
        else:
            between = np.full(rtt.shape, float(bandwidth))
            np.fill_diagonal(between, local_bandwidth)
        index = np.array([names.index(region) for region in regions])
        grid = np.ix_(index, index)
        return cls(rtt[grid] / 2 * np.asarray(factor), between[grid])

    @classmethod
    def from_topology(cls, links: nx.Graph[Any], endpoints: Sequence[Hashable]) -> Network:
        """Build the network from explicit links.

        Messages take the path of least delay; its bandwidth is that of its narrowest link.

        Parameters
        ----------
        links : networkx.Graph or DiGraph
            Edges have ``delay_s`` (one way, default 0) and ``bandwidth`` (bytes/s, default
            ``inf``). Vertices that are not endpoints are routers.
        endpoints : sequence
            Vertices of the nodes and clients, in order. Two endpoints may share a vertex.

        Raises
        ------
        InputError
            If an endpoint is not in the graph or cannot be reached; names the parts.
        """
        from scipy.sparse import csr_array
        from scipy.sparse.csgraph import dijkstra

        _require_connected(links, endpoints)
        vertices = list(links)
        index = {vertex: i for i, vertex in enumerate(vertices)}
        directed = links.to_directed()
        rows = [index[u] for u, _ in directed.edges]
        columns = [index[v] for _, v in directed.edges]
        delays = [float(data.get("delay_s", 0.0)) for *_, data in directed.edges(data=True)]
        for (u, v), delay in zip(directed.edges, delays, strict=True):
            if not 0 <= delay < inf:
                raise InputError(f"link {u} - {v}: delay must not be negative, got {delay!r} s")
        shape = (len(vertices), len(vertices))
        sources = np.array([index[endpoint] for endpoint in endpoints])
        distance, before = dijkstra(
            csr_array((delays, (rows, columns)), shape=shape),
            indices=sources,
            return_predecessors=True,
        )
        link = np.full(shape, inf)
        for (u, v), data in directed.edges.items():
            link[index[u], index[v]] = data.get("bandwidth", inf)
        return cls(distance[:, sources], _narrowest(before, link, sources))


def _narrowest(
    before: NDArray[np.int32], link: NDArray[np.float64], sources: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Narrowest link on each shortest path, walking all paths backwards at once."""
    count = len(sources)
    row = np.repeat(np.arange(count), count)
    vertex = np.tile(sources, count)
    narrowest = np.full(count * count, inf)
    while True:
        previous = before[row, vertex]
        walking = previous >= 0
        if not walking.any():
            return narrowest.reshape(count, count)
        step = link[previous[walking], vertex[walking]]
        narrowest[walking] = np.minimum(narrowest[walking], step)
        vertex = np.where(walking, previous, vertex)


def _require_connected(links: nx.Graph[Any], endpoints: Sequence[Hashable]) -> None:
    import networkx as nx

    for endpoint in endpoints:
        if endpoint not in links:
            hint = did_you_mean(str(endpoint), map(str, links))
            raise InputError(f"the network topology has no vertex {str(endpoint)!r}{hint}")
    wanted = set(endpoints)
    components = nx.strongly_connected_components(links.to_directed())
    parts = [sorted(map(str, part & wanted)) for part in components if part & wanted]
    if len(parts) > 1:
        shown = " | ".join(", ".join(part) for part in sorted(parts))
        raise InputError(f"the network is disconnected: it falls into {len(parts)} parts: {shown}")


def _region_matrix(
    names: Sequence[str], values: Mapping[Pair, float], local: float, what: str
) -> NDArray[np.float64]:
    matrix = np.full((len(names), len(names)), local, dtype=np.float64)
    for i, first in enumerate(names):
        for j, second in enumerate(names):
            value = values.get((first, second), values.get((second, first)))
            if value is not None:
                matrix[i, j] = value
            elif i != j:
                known = {name for pair in values for name in pair}
                hint = "".join(did_you_mean(n, known) for n in (first, second) if n not in known)
                raise InputError(f"no {what} between the regions {first!r} and {second!r}{hint}")
    return matrix


def _require(matrix: NDArray[np.float64], valid: NDArray[np.bool_], what: str, unit: str) -> None:
    if not valid.all():
        row, column = np.argwhere(~valid)[0]
        raise InputError(
            f"network {what} from endpoint {row} to {column} is {matrix[row, column]!r} {unit}"
        )
