"""The throughput of a layout: the largest flow of tokens from the clients through all layers.

Helix (Mei et al., ASPLOS'25) models a cluster as a flow network. A node that holds the layers
``[s, e)`` passes at most its throughput at that many layers; a link passes its bandwidth divided
by the bytes of one activation. A token may go from i to j if ``e_i = s_j``, or, with *partial
inference*, if ``s_j <= e_i < e_j``: it then uses only the rest of j's layers, which is still
charged as a whole pass through j. The flows are the routing weights.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

_INT32_MAX = 2**31 - 1


@dataclass(frozen=True)
class Flow:
    """A maximum flow through a layout.

    Attributes
    ----------
    value : float
        Tokens per second, the capacity of `bottleneck`.
    entry, leave : (N,)
        Flow from the clients into each node, and from each node back.
    links : (N, N)
        Flow from node to node.
    bottleneck : tuple of int
        Nodes whose own throughput limits the flow: the nodes cut by the minimum cut.
    """

    value: float
    entry: Floats
    leave: Floats
    links: Floats
    bottleneck: tuple[int, ...]


def layout_flow(
    starts: ArrayLike,
    ends: ArrayLike,
    layers: int,
    throughputs: ArrayLike,
    links: ArrayLike = np.inf,
    entry: ArrayLike = np.inf,
    leave: ArrayLike = np.inf,
    partial: bool = True,
) -> Flow:
    """Return the maximum flow through a layout.

    The flow is found in integers, scaled such that the largest possible flow fills 30 bits
    (``scipy.sparse.csgraph``: some tenths of a millisecond for 200 nodes, where a network of
    Python objects takes ten). Its value is then summed up over the minimum cut in floating
    point, and so is exact unless two cuts differ by less than some 1e-9 of it; the flows on the
    links are accurate to about that.

    Parameters
    ----------
    starts, ends : (N,) integers
        Layers ``[start, end)`` of each node; equal where it holds none.
    layers : int
        Layers of the chain, L.
    throughputs : (N,)
        Tokens per second of each node with the layers that it holds.
    links : (N, N) or scalar
        Tokens per second from node to node (bytes per second over bytes per activation).
    entry, leave : (N,) or scalar
        The same for the links from and to the clients.
    partial : bool
        Whether a node may be entered in the middle of its layers.
    """
    first, end = np.asarray(starts), np.asarray(ends)
    n, holds = len(first), end > first
    power = np.where(holds, np.asarray(throughputs, dtype=float), 0.0)
    # A path of the network visits: source, nodes' inputs, nodes' outputs, sink.
    inputs, outputs, source, sink = np.arange(n), n + np.arange(n), 2 * n, 2 * n + 1
    capacity = np.zeros((2 * n + 2, 2 * n + 2))
    capacity[inputs, outputs] = power
    capacity[source, inputs] = np.where(holds & (first == 0), entry, 0.0)
    capacity[outputs, sink] = np.where(holds & (end == layers), leave, 0.0)
    follows = end[:, None] == first[None, :]
    if partial:
        follows = (first[None, :] <= end[:, None]) & (end[:, None] < end[None, :])
    follows &= holds[:, None] & holds[None, :]
    capacity[n : 2 * n, :n] = np.where(follows, links, 0.0)

    bound = min(power[capacity[source, inputs] > 0].sum(), power[capacity[outputs, sink] > 0].sum())
    flow, reached = _maximum_flow(capacity, source, sink, float(bound))
    cut = np.where(reached[:, None] & ~reached[None, :], capacity, 0.0)
    return Flow(
        value=float(cut.sum()),
        entry=flow[source, :n],
        leave=flow[n : 2 * n, sink],
        links=flow[n : 2 * n, :n],
        bottleneck=tuple(np.flatnonzero(cut[inputs, outputs]).tolist()),
    )


def _maximum_flow(
    capacity: Floats, source: int, sink: int, bound: float
) -> tuple[Floats, NDArray[np.bool_]]:
    """Return a maximum flow, and the vertices on the source's side of a minimum cut.

    ``bound`` is an upper bound of the flow. Capacities are clipped at twice that, so that an arc
    that does not limit the flow is never full, and never in the cut.
    """
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import breadth_first_order, maximum_flow

    if bound <= 0:  # no layer is held that a flow could begin or end with: nothing to cut
        return np.zeros_like(capacity), np.ones(len(capacity), dtype=bool)
    scale = _INT32_MAX / (2 * bound)
    whole = csr_array(np.floor(np.minimum(capacity, 2 * bound) * scale).astype(np.int32))
    flow = maximum_flow(whole, source, sink).flow
    flows = flow.toarray()
    residual = whole.toarray() - flows > 0  # flows are antisymmetric: this has the back arcs
    reached = np.zeros(len(capacity), dtype=bool)
    order, _ = breadth_first_order(csr_array(residual.astype(np.int8)), source)
    reached[order] = True
    return np.maximum(flows, 0) / scale, reached


def layout_bound(throughput_by_layers: list[list[float]], layers: int) -> float:
    """Return Helix's upper bound on the flow of any layout, ``sum_i max_k k T_i(k) / L``.

    Parameters
    ----------
    throughput_by_layers : list of list
        ``[i][k - 1]`` is the throughput of node i with k layers.
    layers : int
        Layers of the chain, L.
    """
    layer_rates = (max(k * t for k, t in enumerate(rates, 1)) for rates in throughput_by_layers)
    return sum(layer_rates) / layers
