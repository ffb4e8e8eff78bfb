"""Populations of unlike nodes, fitted to a trace: who they are, and their common rhythm.

What a node does is exponential on a clock of the rhythm; the mean times are a draw from a
population, whose distribution is the nonparametric maximum-likelihood estimate on a grid (Kiefer &
Wolfowitz 1956; it has few points of support, Laird 1978), found by expectation-maximisation. What
is censored needs no care then: the likelihood of a node depends on its total times and on the
number of times that ended in sight.
"""

from __future__ import annotations

from math import log

import numpy as np
from numpy.typing import NDArray

from infsim.cluster.availability import NodeClass, Population, Rhythm
from infsim.cluster.availability.population import STEADY
from infsim.cluster.churn.made import make_trace
from infsim.cluster.churn.rhythm import Flows, corrected
from infsim.cluster.churn.trace import ChurnTrace
from infsim.errors import InputError
from infsim.rng import Streams

Floats = NDArray[np.float64]

GRID = 28  # mean times on each axis, from the shortest to the longest that a trace can tell
ITERATIONS, BLOCKS = 400, 20
LEAST_WEIGHT = 5e-4  # points of support below it are dropped
EVENTS_PER_WINDOW = 10  # windows of a rhythm are long enough for so many arrivals
ROUNDS = 6


def fit_population(
    trace: ChurnTrace, *, window_s: float = 7200.0, steady: bool = False, seed: int = 0
) -> Population:
    """Fit classes of nodes, and a rhythm, to a trace.

    The factors of the rhythm are corrected by what nodes made of the fit do: those who come and
    go often saturate, and damp it.

    Parameters
    ----------
    trace : ChurnTrace
    window_s : float
        Shortest window of the rhythm; it is longer for traces with few events.
    steady : bool
        Fit no rhythm.
    seed : int
        Of the made nodes.

    Raises
    ------
    InputError
        If no node comes or goes.
    """
    flows = Flows.of(trace, trace.duration_s)
    events = min(flows.joins.sum(), flows.leaves.sum())
    if events < 1:
        raise InputError(f"no node of {trace.name!r} comes and goes; there is nothing to fit")
    windows = int(min(trace.duration_s / window_s, events / EVENTS_PER_WINDOW))
    if steady or windows < 12:
        return _population(trace, STEADY)
    real = Flows.of(trace, trace.duration_s / windows)
    rhythm = real.rhythm(trace.duration_s / windows, trace.name)
    for round_ in range(ROUNDS):
        population = _population(trace, rhythm)
        made = make_trace(
            [(node, population) for node in trace.nodes],
            trace.duration_s,
            Streams(seed, round_),
        )
        rhythm = corrected(rhythm, real, Flows.of(made, rhythm.window_s))
    return _population(trace, rhythm)


def _population(trace: ChurnTrace, rhythm: Rhythm) -> Population:
    classes = fit_classes(trace, rhythm)
    return Population(classes, rhythm=rhythm, seen_within_s=trace.duration_s)


# --- the population -------------------------------------------------------------------------


def fit_classes(trace: ChurnTrace, rhythm: Rhythm) -> tuple[NodeClass, ...]:
    """Return classes of nodes and their weights, on the clocks of a rhythm."""
    seen = [_seen(trace, node.up, rhythm) for node in trace.nodes]
    up_s, ends, down_s, returns, first_up = (np.array(column) for column in zip(*seen, strict=True))
    up_means, down_means = _axis(up_s, ends), _axis(down_s, returns)
    # exponential durations: total time over mean, and minus log mean for each that ended
    up_log = -up_s[:, None] / up_means - ends[:, None] * np.log(up_means)
    down_log = -down_s[:, None] / down_means - returns[:, None] * np.log(down_means)
    fraction = up_means[:, None] / (up_means[:, None] + down_means)
    begin = np.where(first_up[:, None, None], np.log(fraction), np.log1p(-fraction))
    # only nodes that are up at some time are in a trace: likelihoods are those of such nodes
    begin = begin - np.log1p(
        -(1 - fraction) * np.exp(-rhythm.join_clock.shows(trace.duration_s) / down_means)
    )
    logs = (up_log[:, :, None] + down_log[:, None, :] + begin).reshape(len(seen), -1)
    weights = _mixture(np.exp(logs - logs.max(axis=1, keepdims=True)))
    kept = np.flatnonzero(weights > LEAST_WEIGHT)
    return tuple(
        NodeClass(
            float(f"{weights[i]:.3g}"),
            float(f"{up_means[i // len(down_means)]:.3g}"),
            float(f"{down_means[i % len(down_means)]:.3g}"),
        )
        for i in kept
    )


def _seen(trace: ChurnTrace, up: Floats, rhythm: Rhythm) -> tuple[float, int, float, int, bool]:
    """Return total times on the clocks, the ends of uptimes and downtimes, and whether up first."""
    leave, join = rhythm.leave_clock, rhythm.join_clock
    up_s = sum(leave.shows(float(end)) - leave.shows(float(start)) for start, end in up)
    edges = np.concatenate([[0.0], up.ravel(), [trace.duration_s]]).reshape(-1, 2)
    down_s = sum(join.shows(float(end)) - join.shows(float(start)) for start, end in edges)
    ends = int((up[:, 1] < trace.duration_s).sum())
    returns = int((up[:, 0] > 0).sum())
    return float(up_s), ends, float(down_s), returns, bool(len(up) and up[0, 0] == 0)


def _axis(total_s: Floats, ended: NDArray[np.int64]) -> Floats:
    """Return mean times from the shortest of a node to twice the longest."""
    means = total_s / np.maximum(ended, 1)
    low, high = max(float(means[means > 0].min()), 1.0), float(means.max()) * 2
    return np.exp(np.linspace(log(low), log(max(high, 2 * low)), GRID))


def _mixture(likelihood: Floats) -> Floats:
    """Return the weights of the components that make a sample most likely.

    Parameters
    ----------
    likelihood : (nodes, components) array
        Each row up to a factor of its own.
    """
    weights = np.full(likelihood.shape[1], 1 / likelihood.shape[1])
    kept = np.arange(len(weights))
    for _ in range(BLOCKS):
        kept = kept[weights[kept] > 1e-9]  # most components lose all of their weight soon
        some, share = np.ascontiguousarray(likelihood[:, kept]), weights[kept]
        for _ in range(ITERATIONS // BLOCKS):
            share = share * ((1 / (some @ share)) @ some) / len(some)
        weights = np.zeros_like(weights)
        weights[kept] = share
    return weights
