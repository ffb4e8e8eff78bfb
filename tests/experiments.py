"""Small random experiments for the tests of the engine.

A `Shape` says what an experiment is like (a handful of small choices that hypothesis can shrink)
and holds a seed; `build` makes the experiment. All quantities are irregular random numbers, so
that two things happen at one time only where the rules make it so.

Build an experiment anew for each run: policies may remember things.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import ceil, inf

import numpy as np
from hypothesis import strategies as st

from infsim.cluster.availability import (
    AlwaysUp,
    Availability,
    Exponential,
    Renewal,
    TraceAvailability,
)
from infsim.cluster.carbon import CarbonIntensity
from infsim.cluster.cluster import Cluster
from infsim.cluster.device import Device
from infsim.cluster.network import Network
from infsim.cluster.node import Client, Node, Site
from infsim.cluster.price import ElectricityPrice
from infsim.engine.experiment import Experiment, Settings
from infsim.model.deployment import Deployment
from infsim.model.graph import Operator, OperatorGraph
from infsim.model.model import Model
from infsim.policy.interface import Action, Batching, Delivery, Plan, Recovery, Router, Stage
from infsim.rng import Streams
from infsim.workload.closed_loop import ClosedLoop, Dialogue
from infsim.workload.lengths import Independent, Uniform
from infsim.workload.requests import Requests
from tests import policies
from tests.fakes import (
    FAKE_FORMAT,
    Announced,
    LinearCosts,
    LinearStepCost,
    SlowTransfer,
    Swell,
    Table,
)

PREFIX_BLOCK = 8
BLOCK = 4


# --- shapes ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Shape:
    """What a random experiment is like."""

    seed: int = 0
    nodes: int = 3
    clients: int = 2
    attached: bool = False
    requests: int = 12
    layout: str = "pipelines"  # or "mesh", "graph"
    operators: int = 4
    deployments: int = 1
    generative: bool = True
    network: str = "finite"  # or "instant" (no delays, no limits), "delays" (no limits), "varying"
    churn: str = "none"  # or "trace", "renewal", "announced" (some of the time)
    tight: bool = False  # little KV memory
    context_limit: bool = False
    horizon: bool = False
    closed: bool = False  # users who wait for their answers
    ahead: bool = False  # iterations planned ahead, each node a whole replica
    stale: bool = False
    transfer: str = "push"
    sharing: str = "fifo"
    prefix_cache: bool = False
    router: str = "any"  # or "tokens", "path"
    batching: str = "chunked"  # or "limited", "prompts-first", "patient"
    delivery: str = "first"  # or "wander"
    recovery: str = "restart"  # or "replay", "in-turn"


@st.composite
def shapes(draw: st.DrawFn, /, **fixed: object) -> Shape:
    """Shapes of random experiments; keywords fix some of their fields."""
    boolean = st.booleans()
    choices: dict[str, st.SearchStrategy[object]] = {
        "seed": st.integers(0, 2**32 - 1),
        "nodes": st.integers(1, 5),
        "clients": st.integers(1, 3),
        "attached": boolean,
        "requests": st.integers(1, 25),
        "layout": st.sampled_from(["pipelines", "mesh", "graph"]),
        "operators": st.integers(1, 6),
        "deployments": st.integers(1, 2),
        "generative": st.sampled_from([True, True, True, False]),
        "network": st.sampled_from(["instant", "delays", "finite", "varying"]),
        "churn": st.sampled_from(["none", "trace", "renewal", "announced"]),
        "tight": boolean,
        "context_limit": boolean,
        "horizon": boolean,
        "closed": st.sampled_from([False, False, True]),
        "stale": boolean,
        "transfer": st.sampled_from(["push", "relay"]),
        "sharing": st.sampled_from(["fifo", "max-min"]),
        "prefix_cache": boolean,
        "router": st.sampled_from(["any", "tokens", "path"]),
        "batching": st.sampled_from(["chunked", "limited", "prompts-first", "patient"]),
        "delivery": st.sampled_from(["first", "wander"]),
        "recovery": st.sampled_from(["restart", "replay", "in-turn"]),
    }
    drawn = {name: draw(choice) for name, choice in choices.items() if name not in fixed}
    return Shape(**drawn, **fixed)  # type: ignore[arg-type]


# --- building -------------------------------------------------------------------------------


def build(shape: Shape, scale: float = 1.0, order: Sequence[int] | None = None) -> Experiment:
    """Make the experiment of a shape.

    Parameters
    ----------
    shape : Shape
    scale : float
        Everything takes so many times as long; a power of two makes the results scale exactly.
    order : sequence of int, optional
        Node ``order[i]`` of the unpermuted cluster is put at index i.
    """
    rng = np.random.default_rng(shape.seed)
    order = list(range(shape.nodes)) if order is None else list(order)
    place = {node: index for index, node in enumerate(order)}

    deployments = tuple(_deployment(shape, i, rng) for i in range(shape.deployments))
    plans = [_plan(shape, len(d.model.graph), rng) for d in deployments]
    nodes = _nodes(shape, deployments, plans, rng, scale)
    speeds = [_speed(rng) for _ in range(shape.nodes)]
    clients = [
        Client(
            f"client-{i}",
            node=f"node-{rng.integers(shape.nodes)}" if shape.attached else None,
            uplink_bytes_per_s=_rate(shape, rng, scale),
            downlink_bytes_per_s=_rate(shape, rng, scale),
        )
        for i in range(shape.clients)
    ]
    network = _network(shape, clients, rng, scale, order)
    carbon = CarbonIntensity([0, 3 * scale], [100, 37.5], 7 * scale)
    price = ElectricityPrice([0, 2 * scale], [0.25, -0.125], 5 * scale)
    site = Site("default", carbon, price, pue=1.25)
    cluster = Cluster(tuple(nodes[i] for i in order), tuple(clients), {"default": site}, network)
    requests = _requests(shape, rng, scale)
    return Experiment(
        cluster=cluster,
        deployments=deployments,
        plans=tuple(_renamed(plan, place) for plan in plans),
        costs=LinearCosts(cluster, [speeds[i] for i in order], scale),
        workload=_closed_loop(shape, scale) if shape.closed else Table(requests),
        router=_router(shape),
        batching=_batching(shape, scale),
        delivery=_delivery(shape),
        recovery=_recovery(shape),
        streams=Streams(shape.seed),
        settings=Settings(
            block_tokens=BLOCK,
            drain_s=scale * float(rng.uniform(20, 60)),
            staleness_s=scale * float(rng.uniform(0.05, 0.4)) if shape.stale else 0.0,
            detection_s=scale * float(rng.uniform(0.0, 0.5)),
            transfer="relay" if shape.transfer == "relay" else "push",
            sharing="fifo" if shape.sharing == "fifo" else "max-min",
            prefix_cache=shape.prefix_cache,
            plan_ahead=shape.ahead,
            horizon_s=_horizon(shape, rng, scale),
            max_attempts=int(rng.integers(1, 6)),
        ),
    )


def _deployment(shape: Shape, index: int, rng: np.random.Generator) -> Deployment:
    import networkx as nx

    graph: nx.DiGraph[int] = nx.DiGraph()
    for i in range(shape.operators):
        operator = Operator(
            f"operator-{i}",
            parameters=float(rng.integers(100, 1000)),
            macs_per_token=1.0,
            output_values=float(rng.integers(50, 500)),
            kv_values_per_token=float(rng.integers(0, 4)),
        )
        graph.add_node(i, operator=operator)
    for i in range(1, shape.operators):
        if shape.layout == "graph":
            sources = rng.choice(i, size=int(rng.integers(1, min(i, 2) + 1)), replace=False)
        else:
            sources = np.array([i - 1])
        for source in sorted(sources.tolist()):
            graph.add_edge(source, i, values=float(rng.integers(50, 500)))
    limit = int(rng.integers(30, 80))
    model = Model(
        f"model-{index}",
        OperatorGraph(graph),
        generative=shape.generative,
        max_context=limit if shape.context_limit else None,
    )
    return Deployment(f"deployment-{index}", model, FAKE_FORMAT, tuple(range(shape.nodes)), index)


def _plan(shape: Shape, operators: int, rng: np.random.Generator) -> Plan:
    if shape.ahead:
        nodes = range(shape.nodes)
        whole = tuple(range(operators))
        return Plan(tuple(Stage(i, whole) for i in nodes), tuple((i,) for i in nodes))
    if shape.layout == "mesh":
        stages = _spans(operators, shape.nodes, rng)
        for _ in range(int(rng.integers(1, 5))):  # further spans, that overlap with these
            start, end = np.sort(rng.choice(operators + 1, 2, replace=False)).tolist()
            stages.append(Stage(int(rng.integers(shape.nodes)), tuple(range(start, end))))
        return Plan(tuple(stages), None)
    stages, pipelines = [], []
    for _ in range(int(rng.integers(1, 4))):
        span = _spans(operators, shape.nodes, rng)
        pipelines.append(tuple(range(len(stages), len(stages) + len(span))))
        stages += span
    return Plan(tuple(stages), tuple(pipelines))


def _spans(operators: int, nodes: int, rng: np.random.Generator) -> list[Stage]:
    """Cut the operators into stages and give each a node (some get two stages)."""
    cuts = int(rng.integers(0, min(operators, nodes + 1)))
    bounds = [0, *sorted(1 + rng.choice(operators - 1, cuts, replace=False)), operators]
    hosts = [int(node) for node in rng.permutation(nodes)]
    hosts += [int(node) for node in rng.integers(nodes, size=len(bounds))]
    return [
        Stage(hosts[i], tuple(range(int(bounds[i]), int(bounds[i + 1]))))
        for i in range(len(bounds) - 1)
    ]


def _renamed(plan: Plan, place: dict[int, int]) -> Plan:
    return replace(
        plan, stages=tuple(Stage(place[stage.node], stage.operators) for stage in plan.stages)
    )


def _nodes(
    shape: Shape,
    deployments: Sequence[Deployment],
    plans: Sequence[Plan],
    rng: np.random.Generator,
    scale: float,
) -> list[Node]:
    nodes = []
    for i in range(shape.nodes):
        weights = per_token = 0
        for deployment, plan in zip(deployments, plans, strict=True):
            for stage in plan.stages:
                for operator in (deployment.model.graph.operators[k] for k in stage.operators):
                    weights += (stage.node == i) * ceil(operator.parameters * 2)
                    per_token += (stage.node == i) * ceil(operator.kv_values_per_token * 2)
        tokens = rng.uniform(30, 150) if shape.tight else 10_000
        device = Device(
            f"device-{i}",
            memory_bytes=weights + int(per_token * tokens) + 1,
            bandwidth_bytes_per_s=1.0,
            peak_flops={"fp32": 1.0},
            idle_w=float(rng.uniform(10, 50)),
            active_w=float(rng.uniform(100, 300)),
        )
        nodes.append(
            Node(
                f"node-{i}",
                device,
                count=1,
                uplink_bytes_per_s=_rate(shape, rng, scale),
                downlink_bytes_per_s=_rate(shape, rng, scale),
                load_bytes_per_s=float(rng.uniform(1e4, 1e5)) / scale,
                memory_fraction=1.0,
                availability=_availability(shape, rng, scale),
            )
        )
    return nodes


def _availability(shape: Shape, rng: np.random.Generator, scale: float) -> Availability:
    if shape.churn == "none":
        return AlwaysUp()
    up_s, down_s = float(rng.uniform(1, 8)), float(rng.uniform(0.05, 0.8))
    renewal = Renewal(Exponential(scale * up_s), Exponential(scale * down_s))
    if shape.churn == "renewal":
        return renewal
    if shape.churn == "announced":
        return Announced(renewal, scale * float(rng.uniform(0.1, 2.0)), every=2)
    edges = np.cumsum(rng.exponential([up_s, down_s] * int(rng.integers(0, 5)))) * scale
    intervals = [(float(a), float(b)) for a, b in edges.reshape(-1, 2)]
    if intervals and rng.random() < 0.2:
        intervals[-1] = (intervals[-1][0], inf)
    return TraceAvailability(tuple(intervals))


def _speed(rng: np.random.Generator) -> LinearStepCost:
    return LinearStepCost(*(rng.uniform(0.5, 2.0, 7) * [8e-3, 3e-4, 3e-6, 3e-6, 3e-4, 4e-6, 1e-4]))


def _rate(shape: Shape, rng: np.random.Generator, scale: float) -> float:
    rate = float(rng.uniform(5e4, 1e6)) / scale
    limited = shape.network in ("finite", "varying")
    return inf if not limited or rng.random() < 0.2 else rate


def _network(
    shape: Shape,
    clients: Sequence[Client],
    rng: np.random.Generator,
    scale: float,
    order: Sequence[int],
) -> Network:
    size = shape.nodes + len(clients)
    delay = rng.uniform(0.001, 0.05, (size, size)) * (shape.network != "instant")
    link = [[_rate(shape, rng, scale) for _ in range(size)] for _ in range(size)]
    network = Network(delay * scale, link)
    for i, client in enumerate(clients):
        if client.node is not None:
            network = network.attach(shape.nodes + i, int(client.node.removeprefix("node-")))
    ends = [*order, *range(shape.nodes, size)]
    permuted = Network(network.delay_s[np.ix_(ends, ends)], network.bandwidth[np.ix_(ends, ends)])
    if shape.network != "varying":
        return permuted
    return permuted.with_effects(variation=Swell(scale), tcp=SlowTransfer(scale))


def _requests(shape: Shape, rng: np.random.Generator, scale: float) -> tuple[Requests, ...]:
    count = shape.requests
    arrival_s = np.cumsum(rng.exponential(rng.uniform(0.02, 0.3), count)) * scale
    tokens = rng.integers(1, 50, count)
    # leading blocks are shared within a group of requests, what follows is a request's own
    groups, common = rng.integers(0, 3, count), rng.integers(0, 6, count)
    lengths = -(-tokens // PREFIX_BLOCK)
    hashes = [
        int(groups[r] * 1000 + k) if k < common[r] else int(10_000 + r * 100 + k)
        for r in range(count)
        for k in range(lengths[r])
    ]
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    columns = {
        "arrival_s": arrival_s,
        "input_tokens": tokens,
        "output_tokens": rng.integers(1, 30, count),
        "client": rng.integers(0, shape.clients, count),
        "session_id": groups,
        "sample_id": np.full(count, -1),
    }
    cut = int(rng.integers(0, count + 1))
    return tuple(
        Requests(
            **{name: column[part] for name, column in columns.items()},
            prefix_offsets=offsets[part.start : part.stop + 1] - offsets[part.start],
            prefix_hashes=np.array(
                hashes[offsets[part.start] : offsets[part.stop]], dtype=np.int64
            ),
            prefix_block_tokens=PREFIX_BLOCK,
        )
        for part in (slice(0, cut), slice(cut, count))
        if part.start < part.stop
    )


def _closed_loop(shape: Shape, scale: float) -> ClosedLoop:
    rng = np.random.default_rng([shape.seed, 1])
    return ClosedLoop(
        users=int(rng.integers(1, 7)),
        lengths=Independent(Uniform(1, 49), Uniform(1, 29)),
        think_s=scale * float(rng.uniform(0.05, 1.0)),
        think_cv=float(rng.uniform(0.5, 1.5)),
        ramp_s=scale * float(rng.uniform(0.0, 2.0)),
        dialogue=Dialogue(
            turns=3.0, system_tokens=11, max_context=150, prefix_block_tokens=PREFIX_BLOCK
        )
        if shape.prefix_cache
        else None,
        requests=shape.requests,
        duration_s=scale * float(rng.uniform(1.0, 20.0)) if rng.random() < 0.3 else None,
        weights=rng.uniform(0.1, 1.0, shape.clients).tolist(),
    )


def _horizon(shape: Shape, rng: np.random.Generator, scale: float) -> float | None:
    short = float(rng.uniform(0.5, 4.0))
    if shape.horizon:
        return short * scale
    # nodes that come and go for ever might never be up together
    return 100 * short * scale if shape.churn in ("renewal", "announced") else None


def _router(shape: Shape) -> Router:
    routers: dict[str, Callable[[], Router]] = {
        "any": policies.AnyReplica,
        "tokens": policies.FewestTokens,
        "path": policies.RandomPath,
    }
    return routers[shape.router]()


def _batching(shape: Shape, scale: float) -> Batching:
    if shape.batching == "patient":
        return policies.Patient(wait_s=0.0731 * scale)
    plain: dict[str, Callable[[], Batching]] = {
        "chunked": policies.Chunked,
        "limited": policies.Limited,
        "prompts-first": policies.PromptsFirst,
    }
    return plain[shape.batching]()


def _delivery(shape: Shape) -> Delivery:
    return policies.FirstDeployment() if shape.delivery == "first" else policies.Wander()


def _recovery(shape: Shape) -> Recovery:
    if shape.recovery == "in-turn":
        return policies.InTurn()
    return policies.Always(Action.REPLAY if shape.recovery == "replay" else Action.RESTART)
