"""The slowest stage as fast as possible, nodes in any order.

Node i takes ``t_i`` seconds for a layer and step and has room for ``c_i`` layers; the bottleneck
of a pipeline with ``x_i`` layers on node i is ``max_i t_i x_i``, the inverse of its throughput.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from infsim.policy.placement.milp import Effort, Model, Outcome, outcome, unit_of, value, whole
from infsim.policy.placement.room import Room


@dataclass(frozen=True, slots=True)
class Layers:
    """Layers per node, of one or several pipelines.

    Attributes
    ----------
    counts : tuple of tuple of int, (P, N)
        Layers held by each node for each pipeline, 0 where it is not used.
    ends : tuple of (int, int), P
        First and last node of each pipeline.
    bottleneck_s : float
        Time of the slowest node.
    outcome : Outcome
        How the solver ended; objective and bound in seconds.
    """

    counts: tuple[tuple[int, ...], ...]
    ends: tuple[tuple[int, int], ...]
    bottleneck_s: float
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class _Pipeline:
    """Variables of one pipeline: layers, and whether a node is used, the first, the last."""

    held: list[Any]
    used: list[Any]
    first: list[Any]
    last: list[Any]


def bottleneck_ilp(
    seconds: ArrayLike,
    capacities: ArrayLike | Room,
    layers: int,
    *,
    overheads: ArrayLike = 0.0,
    last_s: ArrayLike = 0.0,
    pipelines: int = 1,
    effort: Effort | None = None,
) -> Layers:
    """Minimise the bottleneck as an integer program.

    ``min tau`` with ``o_i u_i + t_i x_i + h_i e_i <= tau``, ``sum_i x_i = L``, ``x_i`` within the
    room of node i, and ``u_i``, ``s_i``, ``e_i`` saying whether it is used, the first, the last.
    Without the figures that depend on the place this is ``min max t_i x_i``, the throughput
    objective of planners that do not fix the order of the nodes. Several pipelines share the
    nodes, each node being in one at most, and the slowest node of all is what counts.

    Parameters
    ----------
    seconds : (N,)
        Time of one layer on each node, t.
    capacities : (N,) or Room
        Layers that fit into each node, c.
    layers : int
        Layers of the chain, L.
    overheads : (N,) or scalar
        Time that a node takes beside its layers, o.
    last_s : (N,) or scalar
        Time of the model's head on each node, h.
    pipelines : int
        Pipelines that each hold the whole chain, P.
    effort : Effort, optional
        Limits of the solver.

    Raises
    ------
    Infeasible
        If the pipelines do not fit.
    NoIncumbent
        If the node limit came before a first solution.
    """
    t = np.asarray(seconds, dtype=float)
    fixed, head = (
        np.broadcast_to(np.asarray(a, dtype=float), t.shape) for a in (overheads, last_s)
    )
    room = Room.of(capacities, layers)
    room.require(layers, pipelines)
    unit = unit_of(t, fixed, head)
    model = Model("bottleneck")
    slowest = model.continuous("tau")
    chosen = [_add_pipeline(model, room, layers, p) for p in range(pipelines)]
    for i in range(len(t)):
        model.add(model.sum(pipeline.used[i] for pipeline in chosen) <= 1)
        work = model.sum(  # over all pipelines, since i is in one at most: a tighter relaxation
            float(t[i] / unit) * pipeline.held[i]
            + float(fixed[i] / unit) * pipeline.used[i]
            + float(head[i] / unit) * pipeline.last[i]
            for pipeline in chosen
        )
        model.add(work <= slowest)
    model.minimise(slowest + 0)
    result = model.solve(effort or Effort())
    counts = tuple(tuple(whole(x) for x in pipeline.held) for pipeline in chosen)
    ends = tuple((_marked(pipeline.first), _marked(pipeline.last)) for pipeline in chosen)
    reached = max(
        _slowest_s(np.array(held), end[1], t, fixed, head)
        for held, end in zip(counts, ends, strict=True)
    )
    bound = min(result.bound * unit, reached)
    return Layers(counts, ends, reached, outcome(result.status, reached, bound, result.nodes))


def _add_pipeline(model: Model, room: Room, layers: int, p: int) -> _Pipeline:
    """Add the layers of one pipeline, which has one first and one last node."""
    n = range(len(room.most))
    pipeline = _Pipeline(
        [model.integer(f"x_{p}_{i}", 0, int(room.most[i])) for i in n],
        *([model.binary(f"{name}_{p}_{i}") for i in n] for name in "use"),
    )
    model.add(model.sum(pipeline.held) == layers)
    model.add(model.sum(pipeline.first) == 1)
    model.add(model.sum(pipeline.last) == 1)
    for i in n:
        used, first, last = pipeline.used[i], pipeline.first[i], pipeline.last[i]
        model.add(first - used <= 0)
        model.add(last - used <= 0)
        # the one that is first and last is the only one
        model.add(pipeline.held[i] - layers * (first + last - 1) >= 0)
        room.limit(model, i, pipeline.held[i], used, first, last)
    return pipeline


def _marked(binaries: list[Any]) -> int:
    return max(range(len(binaries)), key=lambda i: value(binaries[i]))


def _slowest_s(
    counts: NDArray[np.int64],
    last: int,
    t: NDArray[np.float64],
    fixed: NDArray[np.float64],
    head: NDArray[np.float64],
) -> float:
    times = np.where(counts > 0, t * counts + fixed, 0.0)
    times[last] += head[last]
    return float(times.max())


def bottleneck_exact(seconds: ArrayLike, capacities: ArrayLike, layers: int) -> Layers:
    """Minimise the bottleneck of one pipeline without a solver.

    A bottleneck tau admits ``sum_i min(c_i, floor(tau / t_i))`` layers, which is the number of
    products ``k t_i`` with ``k <= c_i`` that are at most tau. The search for the smallest tau
    that admits L layers therefore ends at the L-th smallest product, and the nodes of the L
    smallest products are a split that attains it. Parameters as for `bottleneck_ilp`.
    """
    t = np.asarray(seconds, dtype=float)
    room = Room.of(capacities, layers)
    room.require(layers)
    owner = np.repeat(np.arange(len(t)), room.inner)
    held = np.concatenate([np.arange(1, c + 1) for c in room.inner])
    products = held * t[owner]
    chosen = np.argsort(products, kind="stable")[:layers]
    counts = np.bincount(owner[chosen], minlength=len(t))
    reached = float(products[chosen[-1]])
    users = np.flatnonzero(counts)
    return Layers(
        (tuple(int(x) for x in counts),),
        ((int(users[0]), int(users[-1])),),
        reached,
        outcome("optimal", reached, reached),
    )
