"""Optimal placement of a data-stream application: any operator DAG, one node per operator.

ODP, after Cardellini, Grassi, Lo Presti & Nardelli, "Optimal operator placement for distributed
stream processing applications", DEBS'16. ``x_iu`` places operator i on node u; the products
``y_ij,uv = x_iu x_jv`` of a stream from i to j are linear through ``sum_v y_ij,uv = x_iu`` and
``sum_u y_ij,uv = x_jv``. The response time, there a maximum over all paths, is written here with
one completion time per operator, which needs no enumeration of paths.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infsim.policy.placement.milp import (
    Effort,
    Infeasible,
    Model,
    Outcome,
    outcome,
    unit_of,
    value,
)

Floats = NDArray[np.float64]

#: The objectives: the first two are minimised, availability is maximised.
OBJECTIVES = ("response_time", "network_usage", "availability")


@dataclass(frozen=True)
class Application:
    """Operators, in topological order, and the streams between them.

    Attributes
    ----------
    seconds : (V, N)
        Time of each operator on each node (infinite: it cannot run there).
    edges : sequence of (int, int)
        Streams; the source of each comes before its target.
    rates : (E,)
        Traffic of each stream in bytes per second.
    demands : (R, V)
        Resources that each operator needs: memory in bytes, cores, ... (R may be 0).
    pinned : mapping of int to int
        Operators whose node is given, such as sources and sinks.
    together : sequence of int
        Operators that have to be on one node, whichever it is.
    """

    seconds: Floats
    edges: Sequence[tuple[int, int]]
    rates: Floats
    demands: Floats
    pinned: Mapping[int, int] = field(default_factory=dict)
    together: Sequence[int] = ()


@dataclass(frozen=True)
class Resources:
    """Nodes and the network between them.

    Attributes
    ----------
    delays_s : (E, N, N) or (N, N)
        Delay of a unit of a stream from node to node, 0 within a node, infinite without a
        link. Per stream if it depends on its size.
    capacities : (R, N)
        Resources of each node.
    availability : (N,)
        Probability that a node is up, above 0.
    link_availability : (N, N) or None
        Probability that a link is up, above 0; 1 if not given.
    """

    delays_s: Floats
    capacities: Floats
    availability: Floats
    link_availability: Floats | None = None


@dataclass(frozen=True, slots=True)
class Assignment:
    """A placement of all operators.

    Attributes
    ----------
    nodes : tuple of int, V
        Node of each operator.
    metrics : mapping of str to float
        ``response_time`` (s), ``network_usage`` (bytes in flight), ``availability`` (the
        probability that all operators and streams are up, as in the paper: a node counts once
        for each operator on it).
    outcome : Outcome
        How the solver ended, in the units of the objective that was optimised.
    """

    nodes: tuple[int, ...]
    metrics: Mapping[str, float]
    outcome: Outcome


def evaluate(nodes: Sequence[int], app: Application, resources: Resources) -> dict[str, float]:
    """Return the three metrics of a placement."""
    done = np.zeros(len(nodes))
    delays, links = _per_stream(app, resources)
    inward: dict[int, list[int]] = {}
    for e, (_, j) in enumerate(app.edges):
        inward.setdefault(j, []).append(e)
    for j, v in enumerate(nodes):
        arrivals = (
            done[app.edges[e][0]] + delays[e][nodes[app.edges[e][0]], v] for e in inward.get(j, ())
        )
        done[j] = max(arrivals, default=0.0) + app.seconds[j, v]
    hops = [(e, nodes[i], nodes[j]) for e, (i, j) in enumerate(app.edges)]
    up = np.prod(resources.availability[list(nodes)]) * np.prod([links[u, v] for _, u, v in hops])
    usage = sum(float(app.rates[e] * delays[e][u, v]) for e, u, v in hops)
    return {
        "response_time": float(done.max(initial=0.0)),
        "network_usage": usage,
        "availability": float(up),
    }


def place(
    app: Application,
    resources: Resources,
    weights: Mapping[str, float] | None = None,
    effort: Effort | None = None,
) -> Assignment:
    """Place an application optimally.

    Parameters
    ----------
    app, resources : Application, Resources
        What is placed, and where.
    weights : mapping of str to float, optional
        Weight of each of `OBJECTIVES`; default is the response time alone. With several, each
        is normalised to [0, 1] between its best value and the worst one found at the optima of
        the others, and the weighted sum is optimised (simple additive weighting, as in the
        paper); availability enters as the sum of logarithms.
    effort : Effort, optional
        Limits of the solver.

    Raises
    ------
    Infeasible
        If the operators do not fit.
    NoIncumbent
        If the node limit came before a first solution.
    """
    chosen = {name: w for name, w in (weights or {"response_time": 1.0}).items() if w}
    if unknown := chosen.keys() - set(OBJECTIVES):
        raise ValueError(f"unknown objective {sorted(unknown)}, known are {list(OBJECTIVES)}")
    if not chosen or min(chosen.values()) < 0:
        raise ValueError("the weights of the objectives must be positive")
    effort = effort or Effort()
    alone = [_optimise(app, resources, {name: 1.0}, effort) for name in chosen]
    scaled = {}
    for name, weight in chosen.items():
        costs = [_cost(name, other.metrics) for other in alone]
        if (spread := max(costs) - min(costs)) > 0:
            scaled[name] = weight / spread
    if not scaled:  # one objective, or one placement that is the best for all
        return alone[0]
    return _optimise(app, resources, scaled, effort)


def _cost(name: str, metrics: Mapping[str, float]) -> float:
    """Return a metric as the programs minimise it: availability as minus its logarithm."""
    return -float(np.log(metrics[name])) if name == "availability" else metrics[name]


def _per_stream(app: Application, resources: Resources) -> tuple[Floats, Floats]:
    """Return delays (E, N, N) and link availabilities (N, N)."""
    nodes = len(resources.availability)
    delays = np.broadcast_to(resources.delays_s, (len(app.edges), nodes, nodes))
    links = resources.link_availability
    return delays, np.ones((nodes, nodes)) if links is None else links


def _optimise(
    app: Application, resources: Resources, weights: Mapping[str, float], effort: Effort
) -> Assignment:
    """Minimise the weighted sum of the costs of a placement."""
    program = _Program(app, resources)
    terms = {name: program.cost(name) for name in weights}
    unit = max(w * terms[name][1] for name, w in weights.items()) or 1.0
    program.model.minimise(
        program.model.sum(
            (w * scale / unit) * expression
            for (expression, scale), w in zip(terms.values(), weights.values(), strict=True)
        )
    )
    result = program.model.solve(effort)
    nodes = program.nodes()
    metrics = evaluate(nodes, app, resources)
    objective = sum(w * _cost(name, metrics) for name, w in weights.items())
    bound = min(result.bound * unit, objective)
    return Assignment(nodes, metrics, outcome(result.status, objective, bound, result.nodes))


class _Program:
    """The constraints, and each objective as an expression of the same variables."""

    def __init__(self, app: Application, resources: Resources) -> None:
        self.app = app
        self.resources = resources
        self.delays, self.links = _per_stream(app, resources)
        self.model = Model("odp")
        self.x = [
            {u: self.model.binary(f"x_{i}_{u}") for u in nodes}
            for i, nodes in enumerate(_candidates(app, resources))
        ]
        self.y = [self._stream(e) for e in range(len(app.edges))]
        for placed in self.x:
            self.model.add(self.model.sum(placed.values()) == 1)
        for i, j in pairwise(app.together):
            for u in sorted(self.x[i].keys() | self.x[j].keys()):
                self.model.add(self.model.sum([self.x[i].get(u, 0), -self.x[j].get(u, 0)]) == 0)
        self._add_capacities()

    def _stream(self, e: int) -> dict[tuple[int, int], Any]:
        """Return the products ``x_iu x_jv`` of one stream; integral because x is."""
        i, j = self.app.edges[e]
        y = {
            (u, v): self.model.continuous(f"y_{e}_{u}_{v}", 0.0, 1.0)
            for u in self.x[i]
            for v in self.x[j]
            if np.isfinite(self.delays[e][u, v])
        }
        for u, x in self.x[i].items():
            self.model.add(self.model.sum(y[p] for p in y if p[0] == u) - x == 0)
        for v, x in self.x[j].items():
            self.model.add(self.model.sum(y[p] for p in y if p[1] == v) - x == 0)
        return y

    def _add_capacities(self) -> None:
        """No resource of a node is used beyond its capacity."""
        for demand, capacity in zip(self.app.demands, self.resources.capacities, strict=True):
            unit = unit_of(demand)
            for u, room in enumerate(capacity):
                used = [
                    float(demand[i] / unit) * placed[u]
                    for i, placed in enumerate(self.x)
                    if u in placed and demand[i] > 0
                ]
                if used:
                    self.model.add(self.model.sum(used) <= float(room / unit))

    def cost(self, name: str) -> tuple[Any, float]:
        """Return one objective, to be minimised, and the unit it is written in."""
        if name == "response_time":
            return self._response_time()
        if name == "network_usage":
            return self._network_usage()
        return self._unavailability(), 1.0

    def _response_time(self) -> tuple[Any, float]:
        unit = unit_of(self.app.seconds, self.delays)
        model = self.model
        done = [model.continuous(f"done_{j}") for j in range(len(self.x))]
        response = model.continuous("response")
        for j, placed in enumerate(self.x):
            own = model.sum(float(self.app.seconds[j, u] / unit) * x for u, x in placed.items())
            model.add(done[j] - own >= 0)
            model.add(response - done[j] >= 0)
            for e, edge in enumerate(self.app.edges):
                if edge[1] == j:
                    hop = self._over_stream(e, self.delays[e] / unit)
                    model.add(done[j] - done[edge[0]] - hop - own >= 0)
        return response, unit

    def _network_usage(self) -> tuple[Any, float]:
        usage = [rate * delay for rate, delay in zip(self.app.rates, self.delays, strict=True)]
        unit = unit_of(*usage)
        streams = (self._over_stream(e, bytes_ / unit) for e, bytes_ in enumerate(usage))
        return self.model.sum(streams), unit

    def _unavailability(self) -> Any:
        node, link = -np.log(self.resources.availability), -np.log(self.links)
        return self.model.sum(
            float(node[u]) * x for placed in self.x for u, x in placed.items()
        ) + self.model.sum(self._over_stream(e, link) for e in range(len(self.y)))

    def _over_stream(self, e: int, costs: Floats) -> Any:
        return self.model.sum(float(costs[p]) * y for p, y in self.y[e].items() if costs[p])

    def nodes(self) -> tuple[int, ...]:
        """Return the node of each operator after a solve."""
        return tuple(max(placed, key=lambda u: value(placed[u])) for placed in self.x)


def _candidates(app: Application, resources: Resources) -> list[list[int]]:
    """Return the nodes that each operator may run on, looked at alone."""
    fits = (app.demands[:, :, None] <= resources.capacities[:, None, :]).all(axis=0)
    allowed = fits & np.isfinite(app.seconds)
    for i, u in app.pinned.items():
        allowed[i] &= np.arange(allowed.shape[1]) == u
    if len(empty := np.flatnonzero(~allowed.any(axis=1))):
        raise Infeasible(f"operators {empty.tolist()} fit on no node that they may run on")
    return [np.flatnonzero(row).tolist() for row in allowed]
