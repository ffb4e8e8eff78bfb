"""The pipeline with the least end-to-end latency: which nodes, in which order, how many layers.

NP-hard (a path through chosen nodes is a travelling salesman's tour). The program has one
integer per node and one arc per pair; a binary per layer and node would be 80 times larger, and
finds no useful plan for 24 nodes and 80 layers in minutes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from infsim.policy.placement.milp import (
    Effort,
    Model,
    Outcome,
    outcome,
    unit_of,
    value,
    whole,
)
from infsim.policy.placement.room import Room

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Delays:
    """What a step costs beside its layers.

    Attributes
    ----------
    hops : (N, N)
        Time from node to node; infinite where there is no link.
    entry, leave : (N,)
        Time from the client to each node, and back.
    again : (N, N) or None
        Time from the last node to the first, if a token returns there for the next step; none
        if every step begins and ends at the client.
    """

    hops: Floats
    entry: Floats
    leave: Floats
    again: Floats | None = None

    @classmethod
    def of_client(cls, hops: ArrayLike, client: ArrayLike) -> Delays:
        """Return the delays of steps that begin and end at a client."""
        ends = np.asarray(client, dtype=float)
        return cls(np.asarray(hops, dtype=float), ends, ends)

    def of_route(self, order: Sequence[int]) -> float:
        """Return the sum of delays of a step through these nodes."""
        first, last = order[0], order[-1]
        between = sum(float(self.hops[i, j]) for i, j in pairwise(order))
        again = 0.0 if self.again is None else float(self.again[last, first])
        return between + float(self.entry[first] + self.leave[last]) + again


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
        Compute and delays of a step.
    outcome : Outcome
        How the solver ended; objective and bound in seconds.
    """

    order: tuple[int, ...]
    layers: tuple[int, ...]
    latency_s: float
    outcome: Outcome


def minimum_latency(
    seconds: ArrayLike,
    capacities: ArrayLike | Room,
    layers: int,
    delays: Delays,
    effort: Effort | None = None,
) -> Route:
    """Minimise compute plus network delay of one pipeline.

    Node i holds ``x_i`` layers and is used if ``u_i``; ``y_ij`` is the arc from i to j, ``s_i``
    and ``e_i`` mark the ends. A flow of L units enters at the first node and every node consumes
    one unit a layer, which both counts the layers and forbids cycles (single-commodity flow,
    Gavish & Graves 1978):

    - ``min sum t_i x_i + sum d_ij y_ij + sum in_i s_i + sum out_i e_i``
    - ``sum x = L``, ``u_i <= x_i <= c_i u_i``, ``sum s = sum e = 1``
    - ``s_i + sum_j y_ji = u_i = e_i + sum_j y_ij``
    - ``fs_i + sum_j f_ji - sum_j f_ij = x_i``, ``f_ij <= (L - 1) y_ij``, ``fs_i <= L s_i``

    A way back for the next step adds ``sum b_ij z_ij`` with ``sum_j z_ij = e_i`` and
    ``sum_i z_ij = s_j``. A constant time per node belongs to the hops and the entry.

    Parameters
    ----------
    seconds : (N,)
        Time of one layer on each node, t.
    capacities : (N,) or Room
        Layers that fit into each node, c.
    layers : int
        Layers of the chain, L.
    delays : Delays
        Everything that is not proportional to layers; include serialisation.
    effort : Effort, optional
        Limits of the solver.

    Raises
    ------
    Infeasible
        If the nodes that can reach one another have too little room.
    NoIncumbent
        If the node limit came before a first solution.
    """
    t = np.asarray(seconds, dtype=float)
    room = Room.of(capacities, layers)
    room.require(layers)
    program = _Program(t, room, layers, delays)
    unit = unit_of(t, delays.hops, delays.entry, delays.leave)
    program.minimise(t, delays, unit)
    result = program.model.solve(effort or Effort())
    order = program.order()
    held = tuple(whole(program.x[i]) for i in order)
    compute_s = sum(float(t[i]) * k for i, k in zip(order, held, strict=True))
    latency_s = compute_s + delays.of_route(order)
    bound_s = min(result.bound * unit, latency_s)
    return Route(order, held, latency_s, outcome(result.status, latency_s, bound_s, result.nodes))


class _Program:
    """Variables and constraints."""

    def __init__(self, t: Floats, room: Room, layers: int, delays: Delays) -> None:
        self.model = model = Model("latency")
        self.nodes = [i for i in range(len(t)) if room.most[i] > 0]
        self.x = {i: model.integer(f"x_{i}", 0, int(room.most[i])) for i in self.nodes}
        self.first = {i: model.binary(f"s_{i}") for i in self.nodes}
        self.last = {i: model.binary(f"e_{i}") for i in self.nodes}
        self.arc = {
            (i, j): model.binary(f"y_{i}_{j}")
            for i in self.nodes
            for j in self.nodes
            if i != j and np.isfinite(delays.hops[i, j])
        }
        model.add(model.sum(self.x.values()) == layers)
        self._add_path(room)
        self._add_flow(layers)

    def _add_path(self, room: Room) -> None:
        """Let used nodes form paths, one of which has the ends; unused ones hold nothing."""
        model = self.model
        model.add(model.sum(self.first.values()) == 1)
        model.add(model.sum(self.last.values()) == 1)
        arcs_in, arcs_out = self._around(self.arc)
        for i in self.nodes:
            used = self.first[i] + model.sum(arcs_in[i])
            model.add(used <= 1)
            model.add(used - self.last[i] - model.sum(arcs_out[i]) == 0)
            room.limit(model, i, self.x[i], used, self.first[i], self.last[i])

    def _add_flow(self, layers: int) -> None:
        """Deliver one unit for every layer by a flow from the first node on: no cycles."""
        model = self.model
        entry = {i: model.continuous(f"fs_{i}") for i in self.nodes}
        flow = {(i, j): model.continuous(f"f_{i}_{j}") for i, j in self.arc}
        flow_in, flow_out = self._around(flow)
        for i in self.nodes:
            model.add(entry[i] - layers * self.first[i] <= 0)
            through = entry[i] + model.sum(flow_in[i]) - model.sum(flow_out[i])
            model.add(through - self.x[i] == 0)
        for pair, f in flow.items():
            model.add(f - (layers - 1) * self.arc[pair] <= 0)

    def minimise(self, t: Floats, delays: Delays, unit: float) -> None:
        """Set the latency of a step as the objective, in ``unit`` seconds."""
        terms = [float(t[i] / unit) * x for i, x in self.x.items()]
        terms += [float(delays.hops[p] / unit) * y for p, y in self.arc.items()]
        terms += [float(delays.entry[i] / unit) * s for i, s in self.first.items()]
        terms += [float(delays.leave[i] / unit) * e for i, e in self.last.items()]
        if delays.again is not None:
            terms += self._way_back(delays.again / unit)
        self.model.minimise(self.model.sum(terms))

    def _way_back(self, again: Floats) -> list[Any]:
        """Return the delay from the last node to the first, as terms of the objective."""
        model = self.model
        z = {(i, j): model.continuous(f"z_{i}_{j}") for i in self.nodes for j in self.nodes}
        z_in, z_out = self._around(z)
        for i in self.nodes:
            model.add(model.sum(z_out[i]) - self.last[i] == 0)
            model.add(model.sum(z_in[i]) - self.first[i] == 0)
        return [float(again[pair]) * variable for pair, variable in z.items()]

    def _around(
        self, arcs: Mapping[tuple[int, int], Any]
    ) -> tuple[dict[int, list[Any]], dict[int, list[Any]]]:
        """Return the variables of the arcs into and out of each node."""
        into: dict[int, list[Any]] = {i: [] for i in self.nodes}
        out: dict[int, list[Any]] = {i: [] for i in self.nodes}
        for (i, j), variable in arcs.items():
            out[i].append(variable)
            into[j].append(variable)
        return into, out

    def order(self) -> tuple[int, ...]:
        """Return the nodes along the chosen arcs, after a solve."""
        successor = {i: j for (i, j), y in self.arc.items() if value(y) > 0.5}
        order = [next(i for i, s in self.first.items() if value(s) > 0.5)]
        while order[-1] in successor:
            order.append(successor[order[-1]])
        return tuple(order)


def short_order(first: int, middle: Sequence[int], last: int, delays: Delays) -> tuple[int, ...]:
    """Order the nodes between two ends so that the hops are short.

    The nearest neighbour, improved by reversing stretches as long as that helps (2-opt): the
    split is given, so the order matters only for the latency.
    """
    if first == last:
        return (first,)
    order, left = [first], list(middle)
    while left:
        nearest = min(left, key=lambda j: float(delays.hops[order[-1], j]))
        left.remove(nearest)
        order.append(nearest)
    order.append(last)
    best = delays.of_route(order)
    improved = True
    while improved:
        improved = False
        for i in range(1, len(order) - 2):
            for j in range(i + 2, len(order)):
                candidate = order[:i] + order[i:j][::-1] + order[j:]
                if (length := delays.of_route(candidate)) < best * (1 - 1e-12):
                    order, best, improved = candidate, length, True
    return tuple(order)
