"""From a deployment on a cluster to the numbers that the planners work with, and back to a plan."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from infsim.errors import InfeasibleError, InputError
from infsim.policy.interface import Placement, Plan, Stage
from infsim.policy.placement.latency import Delays
from infsim.policy.placement.milp import Outcome
from infsim.policy.placement.room import Room

if TYPE_CHECKING:
    from infsim.cluster.cluster import Cluster
    from infsim.cluster.node import Client, Node
    from infsim.cost.costs import Costs
    from infsim.model.deployment import Deployment

Floats = NDArray[np.float64]
GIB = 2**30

#: Node and first and last operator of each stage of a pipeline.
Pipeline = Sequence[tuple[int, int, int]]


@dataclass(frozen=True)
class Instance:
    """What the planners ask about a deployment on a cluster.

    A step is one decode iteration of ``batch`` sequences at the context that the deployment
    expects (for a model that generates nothing, one pass over so many inputs). The same
    sequences must find room for their KV cache beside the weights.

    Attributes
    ----------
    deployment, cluster, costs : Deployment, Cluster, Costs
    batch : int
        Sequences of a step.
    """

    deployment: Deployment
    cluster: Cluster
    costs: Costs
    batch: int

    @property
    def operators(self) -> int:
        """Number of operators of the model."""
        return len(self.deployment.model.graph)

    @property
    def context(self) -> int:
        """Tokens of a sequence at which a step is priced."""
        return self.deployment.expected_context

    # --- time

    def step_s(self, node: int, operators: Sequence[int]) -> float:
        """Seconds of a step of these operators on a node."""
        cost = self.costs.step(node, self.deployment, operators)
        n, context = self.batch, self.context
        if self.deployment.model.generative:
            return cost.step_s(0, 0.0, 0.0, n, float(n * context), n)
        pairs = n * context * (context + 1) / 2
        return cost.step_s(n * context, pairs, float(n * context), 0, 0.0, n)

    def span_s(self, node: int, start: int, end: int) -> float:
        """Seconds of a step of the operators ``[start, end)`` on a node."""
        return self.step_s(node, range(start, end))

    def operators_s(self, node: int) -> tuple[Floats, float]:
        """Seconds of a step of each operator on a node, and those of a stage beside them.

        A stage takes the sum of its operators and the constant, which two prices tell apart:
        all operators in one stage, and each in a stage of its own.
        """
        each = np.array([self.span_s(node, i, i + 1) for i in range(self.operators)])
        if self.operators == 1:
            return each, 0.0
        together = self.span_s(node, 0, self.operators)
        stage_s = max((float(each.sum()) - together) / (self.operators - 1), 0.0)
        return np.maximum(each - stage_s, 0.0), stage_s

    # --- memory

    @property
    def tokens(self) -> float:
        """Tokens whose KV cache must fit."""
        return self.batch * (self.deployment.demand_tokens or self.context)

    def needs_bytes(self, operators: Sequence[int]) -> float:
        """Bytes of the weights of these operators and of the KV cache of a step."""
        kv_bytes = self.costs.kv_bytes_per_token(self.deployment, operators)
        return self.costs.weight_bytes(self.deployment, operators) + kv_bytes * self.tokens

    def fits(self, node: int, operators: Sequence[int]) -> bool:
        """Return whether a node can hold these operators."""
        return self.needs_bytes(operators) <= self.costs.free_bytes(node)

    # --- network

    @property
    def step_tokens(self) -> int:
        """Tokens whose activations a step sends on."""
        return self.batch * (1 if self.deployment.model.generative else self.context)

    def sending_s(self, size_bytes: float) -> Floats:
        """Seconds that so many bytes take from endpoint to endpoint, without the delay."""
        members: list[Node | Client] = [*self.cluster.nodes, *self.cluster.clients]
        up = np.array([member.uplink_bytes_per_s for member in members])
        down = np.array([member.downlink_bytes_per_s for member in members])
        rate = np.minimum(self.cluster.network.bandwidth, np.minimum(up[:, None], down[None, :]))
        seconds = np.asarray(size_bytes / rate)
        np.fill_diagonal(seconds, 0.0)
        return seconds

    def transfer_s(self, size_bytes: float) -> Floats:
        """Seconds from endpoint to endpoint for so many bytes, on an idle network."""
        return self.cluster.network.delay_s + self.sending_s(size_bytes)

    def client_s(self) -> tuple[Floats, Floats]:
        """Seconds from the clients to each node and back: propagation, mean over clients."""
        n = len(self.cluster.nodes)
        delay = self.cluster.network.delay_s
        if len(delay) == n:
            return np.zeros(n), np.zeros(n)
        return delay[n:, :n].mean(axis=0), delay[:n, n:].mean(axis=1)

    # --- what is missing

    def infeasible(self, nodes: Sequence[int], reason: str) -> InfeasibleError:
        """Return the error that says what is missing, in GiB."""
        deployment, everything = self.deployment, range(self.operators)
        needed = self.needs_bytes(everything)
        weights = self.costs.weight_bytes(deployment, everything)
        free = [float(self.costs.free_bytes(node)) for node in nodes]
        message = (
            f"{deployment.name!r} needs {needed / GIB:.2f} GiB ({weights / GIB:.2f} GiB of weights"
            f" and the KV cache of {self.tokens:g} tokens), its {len(free)} nodes have"
            f" {sum(free) / GIB:.2f} GiB free"
        )
        if needed > sum(free):
            message += f": {(needed - sum(free)) / GIB:.2f} GiB are missing"
        elif homeless := self._homeless_bytes(free):
            message += f" in pieces too small: {homeless / GIB:.2f} GiB of operators find no room"
        else:
            message += f", but {reason}"
        hint = "use a smaller format, or more nodes"
        return InfeasibleError(message, hint=hint)

    def _homeless_bytes(self, free: list[float]) -> float:
        """Return the bytes of operators left over when the largest ones choose their node first."""
        left, homeless = list(free), 0.0
        for need in sorted((self.needs_bytes([i]) for i in range(self.operators)), reverse=True):
            roomiest = max(range(len(left)), key=left.__getitem__)
            if left[roomiest] >= need:
                left[roomiest] -= need
            else:
                homeless += need
        return homeless


def with_room_for(instance: Instance, plan: Callable[[Instance], Plan]) -> Plan:
    """Plan with room for ``batch`` sequences, or for half as many, and so on down to one.

    A model that fits with little room for KV cache is served slowly rather than not at all.
    """
    while True:
        try:
            made = plan(instance)
        except InfeasibleError:
            if instance.batch == 1:
                raise
            instance = replace(instance, batch=instance.batch // 2)
        else:
            return replace(made, notes={"batch": instance.batch, **made.notes})


def require_positive(policy: Placement, *names: str) -> None:
    """Raise ValueError if a parameter of a policy is given and is less than 1."""
    for name in names:
        given = getattr(policy, name)
        if given is not None and given < 1:
            raise ValueError(f"{name} must be at least 1, got {given!r}")


def require_chain(instance: Instance) -> None:
    """Refuse a model that is not a chain of operators."""
    model = instance.deployment.model
    if not model.graph.is_chain:
        raise InputError(
            f"{instance.deployment.name!r}: the operators of {model.name!r} are not a chain",
            hint="the placement 'odp' places any graph",
        )


@dataclass(frozen=True)
class Layered:
    """A chain as so many equal layers, on some nodes: the instance of the integer programs.

    The time of k layers on node i is ``overhead_s + k * layer_s``, and ``last_s`` more with the
    head. Where the operators of a chain differ, ``layer_s`` is their mean, and the room is that
    of the widest window: a plan always fits, and its times are approximate.

    Attributes
    ----------
    nodes : tuple of int, N
        Indices into ``Cluster.nodes``.
    layers : int
    layer_s, overhead_s, last_s : (N,)
    room : Room
    """

    nodes: tuple[int, ...]
    layers: int
    layer_s: Floats
    overhead_s: Floats
    last_s: Floats
    room: Room

    @classmethod
    def of(cls, instance: Instance, nodes: Sequence[int]) -> Layered:
        """Measure the layers of a chain on some nodes."""
        count = instance.operators
        inner, last = min(1, count - 1), count - 1
        whole_s = np.array([instance.span_s(node, 0, count) for node in nodes])
        last_s = np.array([instance.span_s(node, last, count) for node in nodes])
        inner_s = np.array([instance.span_s(node, inner, inner + 1) for node in nodes])
        layer_s = (whole_s - last_s) / last if last else whole_s
        head_s = last_s - inner_s if count > 2 else np.zeros(len(nodes))
        return cls(
            nodes=tuple(nodes),
            layers=count,
            layer_s=layer_s,
            overhead_s=np.maximum(inner_s - layer_s, 0.0),
            last_s=np.maximum(head_s, 0.0),
            room=_room(instance, nodes),
        )

    def take(self, keep: Sequence[int]) -> Layered:
        """Return the same chain on some of the nodes, given by position."""
        at = np.asarray(keep, dtype=np.int64)
        room = self.room
        return Layered(
            nodes=tuple(self.nodes[i] for i in keep),
            layers=self.layers,
            layer_s=self.layer_s[at],
            overhead_s=self.overhead_s[at],
            last_s=self.last_s[at],
            room=Room(room.inner[at], room.first[at], room.last[at], room.only[at]),
        )

    def delays(self, instance: Instance, answer_tokens: int) -> Delays:
        """Return what a step costs beside its layers.

        A token that was made goes back from the last node to the first, for the next step; the
        way from and to the client is paid once in an answer of ``answer_tokens`` tokens.
        """
        at = np.array(self.nodes, dtype=np.int64)
        bytes_ = instance.costs.activation_bytes(instance.deployment, 0) * instance.step_tokens
        hops = instance.transfer_s(bytes_)[np.ix_(at, at)] + self.overhead_s
        to_node, from_node = instance.client_s()
        if not instance.deployment.model.generative:
            return Delays(hops, to_node[at] + self.overhead_s, from_node[at] + self.last_s)
        entry = to_node[at] / answer_tokens + self.overhead_s
        leave = from_node[at] / answer_tokens + self.last_s
        again = instance.cluster.network.delay_s[np.ix_(at, at)]
        return Delays(hops, entry, leave, again)


def _room(instance: Instance, nodes: Sequence[int]) -> Room:
    """Count the operators that fit on each node at each place of the chain."""
    count = instance.operators
    needs = [instance.needs_bytes([i]) for i in range(count)]
    prefix, suffix = list(accumulate(needs)), list(accumulate(reversed(needs)))
    inner = list(accumulate(needs[1:-1], initial=0.0))
    widest = [  # bytes of k consecutive inner operators, wherever they are
        max(inner[i + k] - inner[i] for i in range(len(inner) - k)) for k in range(1, len(inner))
    ]
    free = [instance.costs.free_bytes(node) for node in nodes]
    everything = instance.needs_bytes(range(count))

    def fitting(bytes_: Sequence[float]) -> NDArray[np.int64]:
        return np.array([np.searchsorted(bytes_, f, side="right") for f in free], dtype=np.int64)

    return Room(
        inner=fitting(widest),
        first=fitting(prefix[:-1]),
        last=fitting(suffix[:-1]),
        only=np.array([count if everything <= f else 0 for f in free], dtype=np.int64),
    )


def chain_plan(pipelines: Sequence[Pipeline], notes: dict[str, Any]) -> Plan:
    """Return the plan of dedicated pipelines of a chain."""
    stages: list[Stage] = []
    members = []
    for pipeline in pipelines:
        members.append(tuple(range(len(stages), len(stages) + len(pipeline))))
        stages += [Stage(node, tuple(range(start, end))) for node, start, end in pipeline]
    return Plan(tuple(stages), tuple(members), notes)


def spans(nodes: Sequence[int], counts: Sequence[int]) -> Pipeline:
    """Return the stages of nodes in order that hold so many layers each."""
    cuts = list(accumulate(counts, initial=0))
    return [(node, i, j) for node, (i, j) in zip(nodes, pairwise(cuts), strict=True)]


def solver_notes(outcomes: Sequence[Outcome], unit: str) -> dict[str, Any]:
    """Return how the solver ended, for the manifest: the worst of all, and each."""
    if not outcomes:
        return {}
    each = [
        {
            "status": o.status,
            f"objective_{unit}": o.objective,
            f"bound_{unit}": o.bound,
            "gap": o.gap,
            "solver_nodes": o.nodes,
        }
        for o in outcomes
    ]
    proven = all(o.status == "optimal" for o in outcomes)
    return {
        "solver": "HiGHS",
        "status": "optimal" if proven else "node limit",
        "gap": max(o.gap for o in outcomes),
        "programs": each,
    }
