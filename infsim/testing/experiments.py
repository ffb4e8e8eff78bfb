"""Small experiments on which policies are checked: a few nodes, a few dozen requests each.

Everything is irregular on purpose (speeds, delays, lengths), so that no two things happen at one
moment by accident, and tight enough that queues form, memory fills up and sequences are preempted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from infsim.cluster.availability import AlwaysUp, Availability, TraceAvailability
from infsim.cluster.carbon import CarbonIntensity
from infsim.cluster.cluster import Cluster
from infsim.cluster.device import Device
from infsim.cluster.network import Network
from infsim.cluster.node import Client, Node, Site
from infsim.cost.accuracy import LEVELS, AccuracyTable, ModelFacts
from infsim.cost.costs import Costs
from infsim.engine.experiment import Experiment, Settings
from infsim.model.deployment import Deployment
from infsim.model.formats import Format
from infsim.model.graph import Operator, chain, graph_from_mapping
from infsim.model.model import Model
from infsim.policy.batching.continuous import Continuous
from infsim.policy.delivery.forward_or_serve import ForwardOrServe
from infsim.policy.delivery.local import Local
from infsim.policy.interface import Plan, Stage
from infsim.policy.recovery.restart import Restart
from infsim.policy.routing.least_loaded import LeastLoaded
from infsim.rng import Streams
from infsim.workload.given import Given
from infsim.workload.requests import Requests

SEED = 20240607
OPERATORS = 6
FORMAT = Format("fp16", 16)
WEIGHT_BYTES = 2_000_000
KV_BYTES = 128
SAMPLES = 200


def rng(*names: str | int) -> np.random.Generator:
    """Return a stream of random numbers for building experiments, always the same."""
    return Streams(SEED).stream("testing", *names)


def language_model(operators: int = OPERATORS) -> Model:
    """Return a chain of equal layers, small enough to be quick and large enough to be split."""
    layers = [
        Operator(
            f"layer-{i}",
            parameters=WEIGHT_BYTES / 2,
            macs_per_token=1e6,
            output_values=512,
            attention_dim=64,
            kv_values_per_token=KV_BYTES / 2,
        )
        for i in range(operators)
    ]
    return Model("small", chain(layers), max_context=400)


def stream_model() -> Model:
    """Return a graph of operators that splits and joins, as in stream processing."""
    figures = {
        "parse": (1e6, 300),
        "left": (5e6, 200),
        "right": (2e6, 100),
        "join": (3e6, 50),
        "store": (5e5, 10),
    }
    operators = {
        name: {"macs": macs, "parameters": WEIGHT_BYTES / 2, "output_values": values}
        for name, (macs, values) in figures.items()
    }
    edges = [("parse", "left"), ("parse", "right"), ("left", "join"), ("right", "join")]
    graph = graph_from_mapping(operators, [*edges, ("join", "store")])
    return Model("stream", graph, generative=False)


def classifier(name: str) -> Model:
    """Return a model that answers in one pass, larger the longer its name."""
    size = float(len(name))
    operator = Operator(name, parameters=1e5 * size, macs_per_token=1e7 * size, output_values=10)
    return Model(name, chain([operator]), generative=False, accuracy_model=name)


def accuracy_table(skills: Mapping[str, float]) -> AccuracyTable:
    """Return made-up answers: samples differ in difficulty, and models in skill.

    A model is right on what is easier than its skill, give or take chance, and surer the easier
    it is; so models tend to be wrong on the same samples.
    """
    facts = {name: ModelFacts(1, 1, 1, 32) for name in skills}

    def split(name: str, learning: AccuracyTable | None) -> AccuracyTable:
        draw = rng("accuracy", name)
        difficulty = draw.random(SAMPLES)
        label = draw.integers(0, 3, SAMPLES).astype(np.uint8)
        levels = {}
        for model, skill in skills.items():
            ease = skill - difficulty + draw.normal(0, 0.15, SAMPLES)
            confidence = np.clip(0.7 + 0.5 * ease, 0.4, 0.99)
            answer = np.where(ease > 0, label, (label + 1) % 3)
            shares = np.tile((1 - confidence[:, None]) / 2, 3)
            shares[np.arange(SAMPLES), answer] = confidence
            levels[model] = np.rint(shares * LEVELS).astype(np.uint16)
        return AccuracyTable(Path("made-up"), name, label, facts, levels, learning)

    return split("test", split("validation", None))


def node(
    index: int,
    operators: int = OPERATORS,
    kv_tokens: int = 450,
    availability: Availability | None = None,
) -> Node:
    """Return a node that holds so many layers, and for each of them the KV of so many tokens."""
    speed = float(rng("node", index).uniform(0.7, 2.0))
    device = Device(
        f"device-{index}",
        memory_bytes=operators * (WEIGHT_BYTES + KV_BYTES * kv_tokens),
        bandwidth_bytes_per_s=1.1e9 * speed,
        peak_flops={"fp32": 2e9 * speed, "fp16": 4.3e9 * speed},
        idle_w=20.0,
        active_w=100.0,
        overhead_s=0.0031 / speed,
        layer_overhead_s=0.0002,
    )
    return Node(
        f"node-{index}",
        device,
        site=("east", "west")[index % 2],
        uplink_bytes_per_s=5.3e6,
        downlink_bytes_per_s=7.7e6,
        load_bytes_per_s=2.1e7,
        memory_fraction=1.0,
        availability=availability or AlwaysUp(),
    )


def cluster(nodes: Sequence[Node], clients: Sequence[Client] | None = None) -> Cluster:
    """Return a cluster with two clients (if none are given) and irregular links."""
    if clients is None:
        clients = [Client(f"client-{i}", site=("east", "west")[i]) for i in range(2)]
    size = len(nodes) + len(clients)
    draw = rng("network", size)
    delay_s = np.triu(draw.uniform(0.004, 0.07, (size, size)), 1)
    bandwidth = np.triu(draw.uniform(2e6, 9e6, (size, size)), 1)
    sites = {
        "east": Site("east", CarbonIntensity.constant(56.0)),
        "west": Site("west", CarbonIntensity.constant(300.0), pue=1.2),
    }
    network = Network(delay_s + delay_s.T, bandwidth + bandwidth.T)
    names = [member.name for member in nodes]
    for i, client in enumerate(clients):
        if client.node is not None:
            network = network.attach(len(nodes) + i, names.index(client.node))
    return Cluster(tuple(nodes), tuple(clients), sites, network)


def requests(count: int, mean_gap_s: float, *, clients: int = 2, samples: int = 0) -> Requests:
    """Return requests with irregular gaps and lengths, from all clients in turn."""
    draw = rng("requests", count)
    return Requests(
        arrival_s=np.cumsum(draw.exponential(mean_gap_s, count)),
        input_tokens=draw.integers(5, 150, count),
        output_tokens=draw.integers(1, 60, count),
        client=np.arange(count) % clients,
        session_id=np.full(count, -1),
        sample_id=draw.integers(0, samples, count) if samples else np.full(count, -1),
    )


def in_sessions(table: Requests, sessions: int, block_tokens: int = 16) -> Requests:
    """Return the same requests as turns of sessions, each prompt longer than the one before."""
    turn = np.arange(len(table)) // sessions
    session_id = np.arange(len(table)) % sessions
    input_tokens = 20 + 31 * turn + table.input_tokens % 13
    whole = input_tokens // block_tokens
    hashes = [1000 * int(s) + k for s, n in zip(session_id, whole, strict=True) for k in range(n)]
    return replace(
        table,
        input_tokens=input_tokens,
        session_id=session_id,
        prefix_offsets=_offsets(whole),
        prefix_hashes=np.array(hashes, dtype=np.int64),
        prefix_block_tokens=block_tokens,
    )


def _offsets(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)


def deployment(place: Cluster, model: Model | None = None) -> Deployment:
    """Return a deployment of the small language model, or of another, on any node."""
    return Deployment("small", model or language_model(), FORMAT, tuple(range(len(place.nodes))))


def experiment(
    place: Cluster,
    plan: Plan,
    workload: Requests,
    settings: Settings | None = None,
    model: Model | None = None,
) -> Experiment:
    """Return an experiment with one deployment and plain policies."""
    return Experiment(
        cluster=place,
        deployments=(deployment(place, model),),
        plans=(plan,),
        costs=Costs(place),
        workload=Given(workload),
        router=LeastLoaded(),
        batching=Continuous(token_budget=128, max_sequences=16),
        delivery=Local(),
        recovery=Restart(),
        streams=Streams(SEED),
        settings=settings or Settings(detection_s=0.37),
    )


def spans(*pieces: tuple[int, int, int]) -> tuple[Stage, ...]:
    """Return stages from ``(node, start, end)``."""
    return tuple(Stage(n, tuple(range(start, end))) for n, start, end in pieces)


def outages(index: int, mean_s: float = 1.75) -> Availability:
    """Return the outages of a node that is down now and then, and always comes back."""
    draw = rng("outages", index)
    edges = np.cumsum(draw.uniform(0.35 * mean_s, 1.65 * mean_s, 8))
    return TraceAvailability(tuple(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True)))


# --- the experiments ------------------------------------------------------------------------


def replicas(settings: Settings | None = None, *, volatile: bool = False) -> Experiment:
    """Three nodes of different speed, each with the whole model."""
    nodes = [node(i, availability=outages(i) if volatile else None) for i in range(3)]
    plan = Plan(spans(*((i, 0, OPERATORS) for i in range(3))), tuple((i,) for i in range(3)))
    return experiment(cluster(nodes), plan, requests(40, 0.09), settings)


def pipelines(settings: Settings | None = None, *, volatile: bool = False) -> Experiment:
    """Two pipelines, one of two stages and one of three."""
    held = [(0, 0, 4), (1, 4, 6), (2, 0, 2), (3, 2, 4), (4, 4, 6)]
    nodes = [node(i, e - s, availability=outages(i) if volatile else None) for i, s, e in held]
    plan = Plan(spans(*held), ((0, 1), (2, 3, 4)))
    return experiment(cluster(nodes), plan, requests(20, 0.15), settings)


def mesh(settings: Settings | None = None, *, volatile: bool = False) -> Experiment:
    """Six nodes whose spans overlap, so that a request has many paths."""
    held = [(0, 0, 3), (1, 0, 2), (2, 2, 5), (3, 1, 4), (4, 3, 6), (5, 4, 6)]
    nodes = [node(i, e - s, availability=outages(i) if volatile else None) for i, s, e in held]
    return experiment(cluster(nodes), Plan(spans(*held), None), requests(20, 0.15), settings)


def sessions() -> Experiment:
    """The replicas, with conversations whose prompts share prefixes that stay cached."""
    base = replicas(Settings(prefix_cache=True, detection_s=0.37))
    table = requests(40, 0.09)
    return replace(base, workload=Given(in_sessions(table, sessions=9)))


def stale() -> Experiment:
    """The mesh seen late, with relayed activations and links that are shared fairly."""
    settings = Settings(staleness_s=0.83, detection_s=0.37, transfer="relay", sharing="max-min")
    return mesh(settings, volatile=True)


def tiers(*, volatile: bool = False) -> Experiment:
    """Two devices with a client each, an edge node and a cloud, with better and better models."""
    held = ("small", "small", "middle", "large")
    nodes = [node(i, availability=outages(i, 0.1) if volatile else None) for i in range(4)]
    clients = [Client(f"user-{i}", site=nodes[i].site, node=nodes[i].name) for i in range(2)]
    place = cluster(nodes, clients)
    table = requests(60, 0.012, samples=SAMPLES)
    accuracy = accuracy_table({"small": 0.5, "middle": 0.7, "large": 0.9})
    return Experiment(
        cluster=place,
        deployments=tuple(
            Deployment(f"{name}-{i}", classifier(name), FORMAT, (i,), index=i)
            for i, name in enumerate(held)
        ),
        plans=tuple(Plan(spans((i, 0, 1)), ((0,),)) for i in range(len(held))),
        costs=Costs(place),
        workload=Given(replace(table, input_tokens=np.ones(len(table), dtype=np.int64))),
        router=LeastLoaded(),
        batching=Continuous(token_budget=128, max_sequences=16),
        delivery=ForwardOrServe(error_cost_s=1.7, offload_cost_s=0.013),
        recovery=Restart(),
        streams=Streams(SEED),
        settings=Settings(detection_s=0.037, request_bytes=3000),
        accuracy=accuracy,
        accuracy_validation=accuracy.validation,
    )


EXPERIMENTS: Mapping[str, Callable[[], Experiment]] = {
    "replicas": replicas,
    "pipelines": pipelines,
    "mesh": mesh,
    "sessions": sessions,
    "volatile replicas": lambda: replicas(volatile=True),
    "volatile pipelines": lambda: pipelines(volatile=True),
    "volatile mesh": lambda: mesh(volatile=True),
    "stale mesh": stale,
    "tiers": tiers,
    "volatile tiers": lambda: tiers(volatile=True),
}
"""By name, as failures of the kit name them."""

SUITED: Mapping[str, tuple[str, ...]] = {
    "routing": tuple(name for name in EXPERIMENTS if "tiers" not in name),
    "batching": tuple(name for name in EXPERIMENTS if name != "volatile tiers"),
    "delivery": ("replicas", "stale mesh", "tiers", "volatile tiers"),
    "recovery": ("volatile replicas", "volatile pipelines", "volatile mesh", "stale mesh"),
}
"""Experiments in which a kind of policy has something to decide."""
