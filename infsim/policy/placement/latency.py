"""The pipeline with the least end-to-end latency: which nodes, in which order, how many layers.

NP-hard (a path through chosen nodes is a travelling salesman's tour). The program has one
integer per node and one arc per pair; a binary per layer and node would be 80 times larger, and
finds no useful plan for 24 nodes and 80 layers in minutes.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from infsim.policy.placement.milp import (
    Effort,
    Infeasible,
    Model,
    Outcome,
    outcome,
    unit_of,
    value,
    whole,
)


@dataclass(frozen=True, slots=True)
class Route:
    """One pipeline.

    Attributes
    ----------
    order : tuple of int
        Nodes from first to last.
    layers : tuple of int
        Layers of each of them.
    latency_s : float
        Client, all stages, all hops, and back.
    outcome : Outcome
        How the solver ended; objective and bound in seconds.
    """

    order: tuple[int, ...]
    layers: tuple[int, ...]
    latency_s: float
    outcome: Outcome


def route_latency_s(
    order: tuple[int, ...],
    layers: tuple[int, ...],
    seconds: ArrayLike,
    delays_s: ArrayLike,
    client_s: ArrayLike,
) -> float:
    """Return the latency of a pipeline: its compute, its hops, and the client at both ends."""
    t, d, client = (np.asarray(a, dtype=float) for a in (seconds, delays_s, client_s))
    compute = sum(t[i] * k for i, k in zip(order, layers, strict=True))
    hops = sum(d[i, j] for i, j in pairwise(order))
    return float(compute + hops + client[order[0]] + client[order[-1]])


def minimum_latency(
    seconds: ArrayLike,
    capacities: ArrayLike,
    layers: int,
    delays_s: ArrayLike,
    client_s: ArrayLike,
    effort: Effort | None = None,
) -> Route:
    """Minimise compute plus network delay of one pipeline.

    Node i holds ``x_i`` layers and is used if ``u_i``; ``y_ij`` is the arc from i to j, ``s_i``
    and ``e_i`` mark the ends. A flow of L units enters at the first node and every node consumes
    one unit a layer, which both counts the layers and forbids cycles (single-commodity flow:
    Gavish & Graves, MIT OR 078-78, 1978):

    - ``min sum t_i x_i + sum d_ij y_ij + sum dc_i (s_i + e_i)``
    - ``sum x = L``, ``u_i <= x_i <= c_i u_i``, ``sum s = sum e = 1``
    - ``s_i + sum_j y_ji = u_i = e_i + sum_j y_ij``
    - ``fs_i + sum_j f_ji - sum_j f_ij = x_i``, ``f_ij <= (L - 1) y_ij``, ``fs_i <= L s_i``

    Parameters
    ----------
    seconds : (N,)
        Time of one layer on each node, t.
    capacities : (N,)
        Layers that fit into each node, c.
    layers : int
        Layers of the chain, L.
    delays_s : (N, N)
        Time from node to node for one step, d; infinite where there is no link. Include the
        serialisation of the activations.
    client_s : (N,)
        Time between the client and each node, paid at both ends, dc.
    effort : Effort, optional
        Limits of the solver.

    Raises
    ------
    Infeasible
        If the nodes that can reach one another have too little room.
    NoIncumbent
        If the node limit came before a first solution.
    """
    t, d, client = (np.asarray(a, dtype=float) for a in (seconds, delays_s, client_s))
    room = [min(int(c), layers) for c in np.asarray(capacities)]
    if sum(room) < layers:
        raise Infeasible(f"{layers} layers, but room for {sum(room)}")
    usable = [i for i, c in enumerate(room) if c > 0]
    arcs = [(i, j) for i in usable for j in usable if i != j and np.isfinite(d[i, j])]
    unit = unit_of(t, d, client)
    model = Model("latency")
    x = {i: model.integer(f"x_{i}", 0, room[i]) for i in usable}
    first = {i: model.binary(f"s_{i}") for i in usable}
    last = {i: model.binary(f"e_{i}") for i in usable}
    arc = {(i, j): model.binary(f"y_{i}_{j}") for i, j in arcs}
    _add_path(model, usable, arc, first, last, x, room)
    _add_flow(model, usable, arc, first, x, layers)
    model.minimise(
        model.sum(float(t[i] / unit) * x[i] for i in usable)
        + model.sum(float(d[i, j] / unit) * y for (i, j), y in arc.items())
        + model.sum(float(client[i] / unit) * (first[i] + last[i]) for i in usable)
    )
    result = model.solve(effort or Effort())
    order = _follow(arc, first)
    held = tuple(whole(x[i]) for i in order)
    latency_s = route_latency_s(order, held, t, d, client)
    bound_s = min(result.bound * unit, latency_s)
    return Route(order, held, latency_s, outcome(result.status, latency_s, bound_s, result.nodes))


def _add_path(
    model: Model,
    nodes: list[int],
    arc: dict[tuple[int, int], Any],
    first: dict[int, Any],
    last: dict[int, Any],
    x: dict[int, Any],
    room: list[int],
) -> None:
    """Let used nodes form paths, one of them with the two ends, and unused ones hold nothing."""
    model.add(model.sum(first.values()) == 1)
    model.add(model.sum(last.values()) == 1)
    for i in nodes:
        used = first[i] + model.sum(arc[j, i] for j in nodes if (j, i) in arc)
        left = last[i] + model.sum(arc[i, j] for j in nodes if (i, j) in arc)
        model.add(used <= 1)
        model.add(used - left == 0)
        model.add(x[i] - used >= 0)
        model.add(x[i] - room[i] * used <= 0)


def _add_flow(
    model: Model,
    nodes: list[int],
    arc: dict[tuple[int, int], Any],
    first: dict[int, Any],
    x: dict[int, Any],
    layers: int,
) -> None:
    """Deliver one unit for every layer by a flow from the first node on: no cycles."""
    entry = {i: model.continuous(f"fs_{i}") for i in nodes}
    flow = {(i, j): model.continuous(f"f_{i}_{j}") for i, j in arc}
    model.add(model.sum(x.values()) == layers)
    for i in nodes:
        model.add(entry[i] - layers * first[i] <= 0)
        inward = model.sum(flow[j, i] for j in nodes if (j, i) in flow)
        outward = model.sum(flow[i, j] for j in nodes if (i, j) in flow)
        model.add(entry[i] + inward - outward - x[i] == 0)
    for pair, f in flow.items():
        model.add(f - (layers - 1) * arc[pair] <= 0)


def _follow(arc: dict[tuple[int, int], Any], first: dict[int, Any]) -> tuple[int, ...]:
    """Return the nodes along the chosen arcs."""
    successor = {i: j for (i, j), y in arc.items() if value(y) > 0.5}
    order = [next(i for i, s in first.items() if value(s) > 0.5)]
    while order[-1] in successor:
        order.append(successor[order[-1]])
    return tuple(order)
