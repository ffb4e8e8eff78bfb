"""What things cost on a given cluster: one object per scenario that everybody asks."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import Protocol

from infsim.cluster.cluster import Cluster
from infsim.cluster.node import Node
from infsim.cost.interface import StepCost
from infsim.cost.memory import activation_bytes, kv_bytes_per_token, weight_bytes
from infsim.cost.power import PowerTable
from infsim.cost.sources import Source, load_bytes_per_s, power_table, step_cost
from infsim.errors import InfeasibleError
from infsim.model.deployment import Deployment
from infsim.model.formats import Format
from infsim.model.graph import Operator
from infsim.model.model import Model


class HostedSpan(Protocol):
    """Operators on a node, as a plan's stages say it."""

    @property
    def node(self) -> int: ...
    @property
    def operators(self) -> tuple[int, ...]: ...


class Costs:
    """Time and memory of deployments on the nodes of a cluster.

    Equal nodes share their step costs. The memory that earlier plans have taken is known to
    the object that `reserve` returns.

    Parameters
    ----------
    cluster : Cluster
    source : str, Path, Calibration or EngineSteps
        ``calibrated``: measured kernels where the device and the format have them, else the
        roofline, scaled by the nearest device that was measured in the format. ``roofline``:
        the plain roofline everywhere. A path or coefficients: as ``calibrated``, with these
        coefficients for the device that they name; or steps of an engine, for the model, format
        and device that they name.
    """

    def __init__(self, cluster: Cluster, source: Source = "calibrated") -> None:
        self.cluster = cluster
        self.source = source
        self._kind = _kinds(cluster.nodes)
        self._steps: dict[tuple[int, Format, Model, tuple[int, ...]], StepCost] = {}
        self._reserved = [0] * len(cluster.nodes)

    # --- time and power

    def step(self, node: int, deployment: Deployment, operators: Sequence[int]) -> StepCost:
        """Return the time of iterations of these operators on a node."""
        key = (self._kind[node], deployment.format, deployment.model, tuple(operators))
        cost = self._steps.get(key)
        if cost is None:
            span = self._span(deployment, operators)
            model = deployment.model
            whole = model.name if len(span) == len(model.graph.operators) else ""
            cost = step_cost(self.cluster.nodes[node], deployment.format, span, self.source, whole)
            self._steps[key] = cost
        return cost

    def step_costs(self) -> tuple[StepCost, ...]:
        """All step costs made so far, for the manifest."""
        return tuple(self._steps.values())

    def power(self, node: int) -> PowerTable | None:
        """Return the measured power of the device of a node, None if its declared one holds."""
        return power_table(self.cluster.nodes[node].device, self.source)

    def load_s(self, node: int, size_bytes: float) -> float:
        """Seconds in which a node that came back loads so many bytes of weights."""
        member = self.cluster.nodes[node]
        rate = member.load_bytes_per_s or load_bytes_per_s(member.device, self.source)
        return size_bytes / rate

    # --- memory

    def weight_bytes(self, deployment: Deployment, operators: Sequence[int]) -> int:
        """Bytes of the weights of these operators."""
        return weight_bytes(self._span(deployment, operators), deployment.format)

    def kv_bytes_per_token(self, deployment: Deployment, operators: Sequence[int]) -> int:
        """Bytes that one token adds to the KV caches of these operators."""
        return kv_bytes_per_token(self._span(deployment, operators), deployment.format)

    def kv_capacity_bytes(self, node: int) -> int:
        """Memory of a node for KV cache and weights together."""
        member = self.cluster.nodes[node]
        return int(member.device.memory_bytes * member.memory_fraction * member.count)

    def free_bytes(self, node: int) -> int:
        """What `reserve` has left of the memory of a node."""
        return self.kv_capacity_bytes(node) - self._reserved[node]

    def reserve(self, deployment: Deployment, stages: Iterable[HostedSpan]) -> Costs:
        """Return the costs of a cluster whose memory already holds the weights of a plan.

        Raises
        ------
        InfeasibleError
            If a node would hold more than its memory; says by how much.
        """
        left = Costs(self.cluster, self.source)
        left._steps = self._steps
        left._reserved = list(self._reserved)
        for stage in stages:
            left._reserved[stage.node] += self.weight_bytes(deployment, stage.operators)
            missing = -left.free_bytes(stage.node)
            if missing > 0:
                raise InfeasibleError(
                    f"node {self.cluster.nodes[stage.node].name!r} lacks"
                    f" {missing / 2**30:.2f} GiB for the weights of {deployment.name!r}"
                )
        return left

    def layer_capacity(self, node: int, deployment: Deployment, tokens: float | None = None) -> int:
        """How many consecutive operators of a chain fit on a node, wherever in the chain they are.

        Parameters
        ----------
        node : int
        deployment : Deployment
        tokens : float or None
            Tokens whose KV cache must fit beside the weights; by default those of one
            sequence (``demand_tokens``, else ``expected_context``).
        """
        if tokens is None:
            tokens = deployment.demand_tokens or deployment.expected_context

        def need(operators: Sequence[Operator]) -> float:
            kv_bytes = kv_bytes_per_token(operators, deployment.format)
            return weight_bytes(operators, deployment.format) + kv_bytes * tokens

        chain, free = deployment.model.graph.operators, self.free_bytes(node)
        if need(chain) <= free:  # tied embeddings count once
            return len(chain)
        sums = [0.0, *accumulate(need([operator]) for operator in chain)]

        def widest(count: int) -> float:
            return max(b - a for a, b in zip(sums, sums[count:], strict=False))

        return bisect_right(range(1, len(chain) + 1), float(free), key=widest)

    # --- transfers

    def activation_bytes(
        self, deployment: Deployment, source: int, target: int | None = None
    ) -> int:
        """Bytes per token that operator ``source`` sends on (to ``target``, if it is named)."""
        graph = deployment.model.graph
        values = graph.operators[source].output_values
        if target is not None:
            values = next(v for s, t, v in graph.edges if (s, t) == (source, target))
        return activation_bytes(values, deployment.format)

    def _span(self, deployment: Deployment, operators: Sequence[int]) -> tuple[Operator, ...]:
        graph = deployment.model.graph
        return tuple(graph.operators[i] for i in operators)


def _kinds(nodes: Sequence[Node]) -> list[int]:
    """Number nodes so that those of equal speed have the same number."""
    seen: list[tuple[object, ...]] = []
    kinds = []
    for node in nodes:
        speed = (
            node.device,
            node.count,
            node.data_parallel,
            node.interconnect_bytes_per_s,
            node.interconnect_latency_s,
        )
        if speed not in seen:
            seen.append(speed)
        kinds.append(seen.index(speed))
    return kinds
