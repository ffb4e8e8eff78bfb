"""Made traces: what would have been seen of nodes that follow a model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from infsim.cluster.availability import Availability
from infsim.cluster.churn.trace import ChurnTrace, NodeTrace
from infsim.rng import Streams


def make_trace(
    nodes: Sequence[tuple[NodeTrace, Availability]], duration_s: float, streams: Streams
) -> ChurnTrace:
    """Return what an observer sees of nodes from time 0 on.

    Parameters
    ----------
    nodes : sequence of (NodeTrace, Availability)
        Name, zone and region of each node come from the first, its outages from the second.
    duration_s : float
    streams : Streams
    """
    made = []
    for like, availability in nodes:
        edges = [0.0]
        for outage in availability.outages(streams, like.name):
            if outage.down_s >= duration_s:
                break
            edges += [outage.down_s, min(outage.up_s, duration_s)]
        up = np.array([*edges, duration_s]).reshape(-1, 2)
        made.append(NodeTrace(like.name, up[up[:, 1] > up[:, 0]], like.zone, like.region))
    return ChurnTrace(tuple(made), duration_s, "made")
