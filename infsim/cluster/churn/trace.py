"""An observed availability trace: which nodes were up, and when."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

import numpy as np
from numpy.typing import NDArray

from infsim.cluster.availability import RepeatedTrace
from infsim.errors import InputError

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class NodeTrace:
    """When one node was up.

    Attributes
    ----------
    name : str
    up : (n, 2) array
        Uptimes: from when to when, in seconds; sorted and disjoint.
    zone, region : str
        Where the node is; empty where the trace does not say.
    """

    name: str
    up: Floats
    zone: str = ""
    region: str = ""

    @property
    def up_s(self) -> float:
        """Time that it was up."""
        return float((self.up[:, 1] - self.up[:, 0]).sum())


@dataclass(frozen=True)
class ChurnTrace:
    """What was seen of nodes from time 0 to the end of the observation.

    An uptime that begins at 0 or ends at the end is censored: it is longer than what was seen.

    Attributes
    ----------
    nodes : tuple of NodeTrace
    duration_s : float
        Length of the observation.
    name : str

    Raises
    ------
    InputError
        If there is nothing in the trace, or an uptime is not within it.
    """

    nodes: tuple[NodeTrace, ...]
    duration_s: float
    name: str = "trace"

    def __post_init__(self) -> None:
        if not self.nodes:
            raise InputError(f"{self.name!r} has no nodes")
        if not 0 < self.duration_s < inf:
            raise InputError(f"{self.name!r} lasts {self.duration_s!r} s")
        for node in self.nodes:
            edges = node.up.ravel()
            within = not len(edges) or 0 <= edges[0] <= edges[-1] <= self.duration_s
            if not within or (np.diff(edges) < 0).any():
                raise InputError(
                    f"uptimes of {node.name!r} are not sorted within 0 and {self.duration_s:g} s"
                )

    def part(self, start_s: float = 0.0, end_s: float = inf) -> ChurnTrace:
        """Return what was seen between two moments; the first becomes time 0.

        Nodes that were never up in it are left out.

        Raises
        ------
        InputError
            If nothing is left.
        """
        end_s = min(end_s, self.duration_s)
        if not 0 <= start_s < end_s:
            raise InputError(
                f"nothing of {self.name!r} lies between {start_s:g} s and {end_s:g} s",
                hint=f"it lasts {self.duration_s:g} s",
            )
        nodes = []
        for node in self.nodes:
            up = np.clip(node.up, start_s, end_s) - start_s
            up = up[up[:, 1] > up[:, 0]]
            if len(up):
                nodes.append(NodeTrace(node.name, up, node.zone, node.region))
        return ChurnTrace(tuple(nodes), end_s - start_s, self.name)

    def scaled(self, factor: float) -> ChurnTrace:
        """Return the trace with all times multiplied; below 1, nodes come and go faster."""
        nodes = [NodeTrace(n.name, n.up * factor, n.zone, n.region) for n in self.nodes]
        return ChurnTrace(tuple(nodes), self.duration_s * factor, self.name)

    def repeated(self) -> tuple[RepeatedTrace, ...]:
        """Return the availability of nodes that do again and again what was seen."""
        return tuple(
            RepeatedTrace(tuple((float(a), float(b)) for a, b in node.up), self.duration_s)
            for node in self.nodes
        )

    @property
    def zones(self) -> tuple[str, ...]:
        """Names of the zones in order of appearance."""
        return tuple(dict.fromkeys(node.zone for node in self.nodes))


def merge_traces(traces: Sequence[ChurnTrace], name: str) -> ChurnTrace:
    """Return traces of different nodes at the same time as one; as long as the shortest.

    Raises
    ------
    InputError
        If a node is in two of them.
    """
    shortest = min(trace.duration_s for trace in traces)
    nodes: dict[str, NodeTrace] = {}
    for trace in traces:
        for node in trace.nodes:
            if node.name in nodes:
                raise InputError(f"node {node.name!r} is in two traces")
            up = np.minimum(node.up, shortest)
            nodes[node.name] = NodeTrace(node.name, up[up[:, 1] > up[:, 0]], node.zone, node.region)
    return ChurnTrace(tuple(nodes.values()), shortest, name)
