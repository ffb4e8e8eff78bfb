"""Splitting a chain of layers over nodes: exact for a given order, or in proportion.

All functions work on plain arrays. A split of L layers over N nodes is returned as ``cuts``,
N + 1 integers from 0 to L: node ``d`` holds the layers ``cuts[d]`` to ``cuts[d + 1] - 1``; or as
``counts``, the number of layers of each node.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from infsim.policy.placement.milp import Infeasible

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Split:
    """A chain cut into consecutive parts.

    Attributes
    ----------
    value : float
        Value of the objective, in the units of the times given.
    cuts : tuple of int, N + 1
        Boundaries of the parts, from 0 to L.
    """

    value: float
    cuts: tuple[int, ...]


def part_times(weights: ArrayLike, speeds: ArrayLike) -> Floats:
    """Return the time of every part on every node, for `bottleneck` and `minimum_sum`.

    Parameters
    ----------
    weights : (L,)
        Work of each layer.
    speeds : (N,)
        Work per second of each node.

    Returns
    -------
    (N, L + 1, L + 1)
        Entry ``[d, i, j]`` is the time of the layers i to j - 1 on node d; infinite unless
        ``i < j``, so that no node is left empty. Set further entries to infinity where the
        memory of a node does not suffice.
    """
    prefix = np.concatenate(([0.0], np.cumsum(np.asarray(weights, dtype=float))))
    work = prefix[None, :] - prefix[:, None]
    work[np.tri(len(prefix), dtype=bool)] = np.inf
    return np.asarray(work[None] / np.asarray(speeds, dtype=float)[:, None, None])


def bottleneck(times: Floats, transfers: ArrayLike = 0.0) -> Split:
    """Minimise the largest part or transfer of a chain over nodes in a given order.

    The chains-on-chains partitioning problem (Bokhari 1988; Pinar & Aykanat, J. Parallel
    Distrib. Comput. 64, 2004), which is also how PipeDream (Narayanan et al., SOSP'19) plans
    its stages: ``D[d][j] = min_i max(D[d - 1][i], transfer_i, time_d(i..j))``. Exact for the
    order given, O(N L^2).

    Parameters
    ----------
    times : (N, L + 1, L + 1)
        Time of every part on every node, see `part_times`.
    transfers : broadcastable to (N - 1, L - 1)
        ``[d, i - 1]`` is the time to move the output of layer i - 1 from node d to node d + 1.

    Raises
    ------
    Infeasible
        If no cut has a finite value.
    """
    return _best_cuts(times, transfers, np.maximum)


def minimum_sum(times: Floats, transfers: ArrayLike = 0.0) -> Split:
    """Minimise the sum of all parts and transfers of a chain over nodes in a given order.

    The latency of one item through all N nodes; parameters and method as for `bottleneck`.
    """
    return _best_cuts(times, transfers, np.add)


def _best_cuts(times: Floats, transfers: ArrayLike, combine: np.ufunc) -> Split:
    """Dynamic programme over (nodes used, layers placed) with ``combine`` as the objective."""
    nodes, layers = times.shape[0], times.shape[1] - 1
    hops = np.full((max(nodes - 1, 0), layers + 1), np.inf)
    hops[:, 1:layers] = transfers
    best = times[0, 0]
    cut_before = []
    for d in range(1, nodes):
        options = combine(combine(best, hops[d - 1])[:, None], times[d])
        cut_before.append(options.argmin(axis=0))
        best = options.min(axis=0)
    if not np.isfinite(best[layers]):
        raise Infeasible(f"{layers} layers cannot be cut over {nodes} nodes in this order")
    cuts = [layers]
    for before in reversed(cut_before):
        cuts.append(int(before[cuts[-1]]))
    return Split(float(best[layers]), (0, *reversed(cuts)))


def uniform(layers: int, nodes: int) -> tuple[int, ...]:
    """Return equal counts of layers, the earlier nodes holding the odd ones."""
    if not 1 <= nodes <= layers:
        raise Infeasible(f"{layers} layers cannot be spread over {nodes} nodes, one at least each")
    share, rest = divmod(layers, nodes)
    return tuple(share + (d < rest) for d in range(nodes))


def water_filling(layers: int, speeds: ArrayLike, capacities: ArrayLike) -> tuple[int, ...]:
    """Return counts in proportion to speed, no node above its capacity.

    Finds the level l with ``sum_i min(c_i, l F_i) = L`` and rounds by largest remainder, as
    Parallax does within a pipeline (Tong et al., arXiv 2509.26182).

    Parameters
    ----------
    layers : int
        Layers to place, L.
    speeds : (N,)
        Speed F of each node, in any unit.
    capacities : (N,)
        Layers that fit into each node, c.

    Raises
    ------
    Infeasible
        If the capacities sum to less than ``layers``.
    """
    speed = np.asarray(speeds, dtype=float)
    room = np.asarray(capacities, dtype=np.int64)
    if room.sum() < layers:
        raise Infeasible(f"{layers} layers, but room for {room.sum()}")
    order = np.argsort(room / speed, kind="stable")  # nodes fill up in this order
    left, speed_left = float(layers), float(speed.sum())
    level = 0.0
    for i in order:
        level = left / speed_left
        if room[i] >= level * speed[i]:
            break
        left -= float(room[i])
        speed_left -= float(speed[i])
    return _largest_remainder(layers, np.minimum(room, level * speed), room)


def proportional(layers: int, memory: ArrayLike) -> tuple[int, ...]:
    """Return counts in proportion to memory, rounded by largest remainder.

    The ring partition of exo (exo-explore/exo, ``RingMemoryWeightedPartitioningStrategy``).
    """
    share = np.asarray(memory, dtype=float)
    return _largest_remainder(layers, layers * share / share.sum(), np.full(len(share), layers))


def _largest_remainder(layers: int, shares: Floats, room: Ints) -> tuple[int, ...]:
    """Round ``shares`` (summing to ``layers``) to integers, no node above ``room``.

    Each node gets the integer part; what is left goes to the largest remainders. A share that
    floating point left a hair below its integer counts as that integer.
    """
    counts = np.floor(shares + 1e-9).astype(np.int64)
    order = np.argsort(-(shares - counts), kind="stable")
    while (missing := layers - int(counts.sum())) > 0:
        open_nodes = [i for i in order if counts[i] < room[i]]
        counts[open_nodes[:missing]] += 1
    return tuple(int(count) for count in counts)
