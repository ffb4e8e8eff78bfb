"""Placement of any operator graph, as applications of data-stream processing are placed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from infsim.errors import InputError, did_you_mean
from infsim.policy.interface import Placement, Plan, Stage
from infsim.policy.placement.instance import Instance, require_positive, solver_notes, with_room_for
from infsim.policy.placement.milp import Effort, Infeasible, NoIncumbent
from infsim.policy.placement.odp import Application, Resources, place
from infsim.registry import register

if TYPE_CHECKING:
    from infsim.cluster.cluster import Cluster
    from infsim.cost.costs import Costs
    from infsim.model.deployment import Deployment
    from infsim.model.graph import OperatorGraph


@register("placement", "odp")
@dataclass
class OperatorPlacement(Placement):
    """Optimal operator placement for stream applications: any graph, one replica (ODP).

    The weights say what counts: the response time of a step, clients included; the network
    usage, bytes of a step times the delay they take; the availability of all nodes used. Several
    are normalised and summed. Operators without inputs are kept on one node, where a request
    enters. See `odp.place`. Operators are fused with their neighbours until ``operators`` are
    left, since the program grows with operators times nodes squared.

    Attributes
    ----------
    response_time, network_usage, availability : float
        Weights of the objectives.
    pinned : dict of str to str
        Names of operators and the names of the nodes they have to be on.
    operators : int
        Parts to place at most; lighter neighbours in a row are fused first.
    batch : int
        Sequences of a step: it prices operators, and their KV cache must fit beside the
        weights; halved until the model fits.
    node_limit, gap, seed
        Branch-and-bound nodes, relative gap to stop at, and seed of the solver.
    """

    response_time: float = 1.0
    network_usage: float = 0.0
    availability: float = 0.0
    pinned: dict[str, str] = field(default_factory=dict)
    operators: int = 16
    batch: int = 8
    node_limit: int = 200
    gap: float = 0.02
    seed: int = 0

    def __post_init__(self) -> None:
        require_positive(self, "operators", "batch")
        self._effort = Effort(self.node_limit, self.gap, self.seed)
        self._weights = {
            "response_time": self.response_time,
            "network_usage": self.network_usage,
            "availability": self.availability,
        }

    def place(self, deployment: Deployment, cluster: Cluster, costs: Costs) -> Plan:
        return with_room_for(Instance(deployment, cluster, costs, self.batch), self._plan)

    def _plan(self, instance: Instance) -> Plan:
        deployment = instance.deployment
        pins = self._pins(instance)
        parts = fuse(instance, pins, self.operators)
        app = _application(instance, parts, pins)
        resources = _resources(instance, app.rates)
        try:
            found = place(app, resources, self._weights, self._effort)
        except (Infeasible, NoIncumbent) as error:
            raise instance.infeasible(deployment.nodes, str(error)) from error
        at = {i: found.nodes[k] for k, part in enumerate(parts) for i in part}
        nodes = [deployment.nodes[at[i]] for i in range(instance.operators)]
        stages = stages_of(deployment.model.graph, nodes)
        notes = {**solver_notes([found.outcome], "value"), "metrics": dict(found.metrics)}
        return Plan(stages, (tuple(range(len(stages))),), notes)

    def _pins(self, instance: Instance) -> dict[int, int]:
        """Return pinned operators and their nodes, as indices into the deployment's nodes."""
        deployment = instance.deployment
        operators = {op.name: i for i, op in enumerate(deployment.model.graph.operators)}
        names = {instance.cluster.nodes[node].name: i for i, node in enumerate(deployment.nodes)}
        for operator, node in self.pinned.items():
            for what, name, known in (("operator", operator, operators), ("node", node, names)):
                if name not in known:
                    raise InputError(
                        f"pinned: {deployment.name!r} has no {what} {name!r}"
                        f"{did_you_mean(name, known)}",
                        key="pinned",
                    )
        return {operators[operator]: names[node] for operator, node in self.pinned.items()}


def fuse(instance: Instance, pins: dict[int, int], limit: int) -> list[list[int]]:
    """Fuse operators in a row, the lightest pair first, until at most ``limit`` parts are left.

    Only an operator with one successor that has no other predecessor is fused with it, so the
    parts form an acyclic graph again, in topological order; operators pinned to different nodes,
    or too heavy together for every node, stay apart.
    """
    graph = instance.deployment.model.graph
    part = {i: [i] for i in range(len(graph))}  # by the first operator of each
    roomiest = max(instance.costs.free_bytes(node) for node in instance.deployment.nodes)
    while len(part) > limit:
        joints = []
        for head, body in part.items():
            after = graph.successors(body[-1])
            if len(after) != 1 or len(graph.predecessors(after[0])) != 1:
                continue
            both = [*body, *part[after[0]]]
            weight = instance.needs_bytes(both)
            if weight <= roomiest and len({pins[i] for i in both if i in pins}) < 2:
                joints.append((weight, head, after[0]))
        if not joints:
            break
        _, head, tail = min(joints)
        part[head] += part.pop(tail)
    return list(part.values())


def _application(
    instance: Instance, parts: Sequence[Sequence[int]], pins: dict[int, int]
) -> Application:
    """Return what is placed; the ways from and to the client are part of the ends' times."""
    deployment, graph = instance.deployment, instance.deployment.model.graph
    at = np.array(deployment.nodes)
    seconds = np.array(
        [[instance.step_s(node, part) for node in deployment.nodes] for part in parts]
    )
    to_node, from_node = instance.client_s()
    sources = [k for k, part in enumerate(parts) if not graph.predecessors(part[0])]
    seconds[sources] += to_node[at]
    seconds[[k for k, part in enumerate(parts) if not graph.successors(part[-1])]] += from_node[at]
    part_of = {i: k for k, part in enumerate(parts) for i in part}
    crossing = [(i, j) for i, j, _ in graph.edges if part_of[i] != part_of[j]]
    bytes_ = [instance.costs.activation_bytes(deployment, i, j) for i, j in crossing]
    return Application(
        seconds=seconds,
        edges=[(part_of[i], part_of[j]) for i, j in crossing],
        rates=np.array(bytes_, dtype=float) * instance.step_tokens,
        demands=np.array([[instance.needs_bytes(part) for part in parts]]),
        pinned={part_of[i]: node for i, node in pins.items()},
        together=sources,
    )


def _resources(instance: Instance, stream_bytes: Iterable[float]) -> Resources:
    """Return the nodes that may be used and the delay of each stream between them."""
    at = np.array(instance.deployment.nodes)
    members = [instance.cluster.nodes[node] for node in instance.deployment.nodes]
    delays = [instance.transfer_s(size)[np.ix_(at, at)] for size in stream_bytes]
    known = [member.availability.expected_fraction for member in members]
    return Resources(
        delays_s=np.array(delays).reshape(len(delays), len(at), len(at)),
        capacities=np.array([[float(instance.costs.free_bytes(node)) for node in at]]),
        availability=np.array([1.0 if share is None else share for share in known]),
    )


def stages_of(graph: OperatorGraph, nodes: Sequence[int]) -> tuple[Stage, ...]:
    """Chain operators that follow one another on the same node into stages.

    As stream engines do (operator chaining in Flink): an operator joins the stage of the one
    before it if nothing else leads from there, and nothing else to here. A stage is computed as
    one step, so that with any more in it branches would wait for each other. The sources of a
    node are one stage, where a request enters.
    """
    entries: dict[int, int] = {}
    heads: list[int] = []  # the first operator of the stage of each one
    members: dict[int, list[int]] = {}
    for i, node in enumerate(nodes):
        before = graph.predecessors(i)
        if not before:
            head = entries.setdefault(node, i)
        elif len(before) > 1 or nodes[before[0]] != node or len(graph.successors(before[0])) > 1:
            head = i
        else:
            head = heads[before[0]]
        heads.append(head)
        members.setdefault(head, []).append(i)
    return tuple(Stage(nodes[head], tuple(held)) for head, held in sorted(members.items()))
