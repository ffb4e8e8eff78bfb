"""The slowest stage as fast as possible, nodes in any order.

Node i takes ``t_i`` seconds for a layer and step and has room for ``c_i`` layers; the bottleneck
of a pipeline with ``x_i`` layers on node i is ``max_i t_i x_i``, the inverse of its throughput.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from infsim.policy.placement.milp import Effort, Infeasible, Model, Outcome, outcome, unit_of, whole


@dataclass(frozen=True, slots=True)
class Layers:
    """Layers per node.

    Attributes
    ----------
    counts : tuple of int, N
        Layers held by each node, 0 where it is not used.
    bottleneck_s : float
        Time of the slowest node.
    outcome : Outcome
        How the solver ended; objective and bound in seconds.
    """

    counts: tuple[int, ...]
    bottleneck_s: float
    outcome: Outcome


def bottleneck_ilp(
    seconds: ArrayLike, capacities: ArrayLike, layers: int, effort: Effort | None = None
) -> Layers:
    """Minimise the bottleneck as an integer program.

    ``min tau`` with ``t_i x_i <= tau`` and ``sum_i x_i = L``; the throughput objective of the
    planners that do not fix the order of the nodes (AlpaServe, Li et al., OSDI'23; Helix, Mei
    et al., ASPLOS'25, in its chain form).

    Parameters
    ----------
    seconds : (N,)
        Time of one layer on each node, t.
    capacities : (N,)
        Layers that fit into each node, c.
    layers : int
        Layers of the chain, L.
    effort : Effort, optional
        Limits of the solver.

    Raises
    ------
    Infeasible
        If the capacities sum to less than ``layers``.
    NoIncumbent
        If the node limit came before a first solution.
    """
    times, room = _instance(seconds, capacities, layers)
    unit = unit_of(times)
    model = Model("bottleneck")
    held = [model.integer(f"x_{i}", 0, min(c, layers)) for i, c in enumerate(room)]
    slowest = model.continuous("tau")
    for t, x in zip(times, held, strict=True):
        model.add((t / unit) * x <= slowest)
    model.add(model.sum(held) == layers)
    model.minimise(slowest)
    result = model.solve(effort or Effort())
    counts = tuple(whole(x) for x in held)
    value = max(t * x for t, x in zip(times, counts, strict=True))
    bound = min(result.bound * unit, value)
    return Layers(counts, value, outcome(result.status, value, bound, result.nodes))


def bottleneck_exact(seconds: ArrayLike, capacities: ArrayLike, layers: int) -> Layers:
    """Minimise the bottleneck without a solver.

    A bottleneck tau admits ``sum_i min(c_i, floor(tau / t_i))`` layers, which is the number of
    products ``k t_i`` with ``k <= c_i`` that are at most tau. The search for the smallest tau
    that admits L layers therefore ends at the L-th smallest product, and the nodes of the L
    smallest products are a split that attains it. Parameters as for `bottleneck_ilp`.
    """
    times, room = _instance(seconds, capacities, layers)
    owner = np.repeat(np.arange(len(times)), room)
    held = np.concatenate([np.arange(1, c + 1) for c in room])
    products = held * np.asarray(times)[owner]
    chosen = np.argsort(products, kind="stable")[:layers]
    counts = np.bincount(owner[chosen], minlength=len(times))
    value = float(products[chosen[-1]])
    return Layers(tuple(int(x) for x in counts), value, outcome("optimal", value, value))


def _instance(
    seconds: ArrayLike, capacities: ArrayLike, layers: int
) -> tuple[list[float], list[int]]:
    times = [float(t) for t in np.asarray(seconds, dtype=float)]
    room = [min(int(c), layers) for c in np.asarray(capacities)]
    if sum(room) < layers:
        raise Infeasible(f"{layers} layers, but room for {sum(room)}")
    return times, room
