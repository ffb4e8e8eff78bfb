"""Experiments whose speed is measured, built from the catalogues and real traces."""

from __future__ import annotations

from pathlib import Path

from infsim import registry
from infsim.cluster.cluster import Cluster
from infsim.cluster.device import load_device
from infsim.cluster.network import Network
from infsim.cluster.node import Client, Node, Site
from infsim.cost.costs import Costs
from infsim.engine.experiment import Experiment, Settings
from infsim.model.catalog import load, load_format
from infsim.model.deployment import Deployment
from infsim.policy.interface import Plan, Stage
from infsim.rng import Streams
from infsim.workload.readers.trace import open_trace
from infsim.workload.requests import Workload
from infsim.workload.transform import Limit, Rescale

SITE = {"lab": Site("lab")}


def one_instance(device: str, trace: Path, requests: int) -> Experiment:
    """Llama-3.1-8B in bf16 on one device, the first requests of a trace."""
    cluster = Cluster(
        nodes=(Node("gpu", load_device(device), site="lab"),),
        clients=(Client("users", site="lab", node="gpu"),),
        sites=SITE,
        network=Network.full_mesh(2),
    )
    deployment = Deployment("8b", load("llama-3.1-8b"), load_format("bf16"), (0,))
    stage = Stage(0, tuple(range(len(deployment.model.graph.operators))))
    plan = Plan((stage,), ((0,),))
    workload = Limit(open_trace(trace), requests=requests)
    return _experiment(cluster, deployment, plan, workload, Settings(), "round-robin")


def pipeline_24(trace: Path, rate_per_s: float, duration_s: float) -> Experiment:
    """Llama-2-70B over 4 A100, 8 L4 and 12 T4, as one pipeline of 24 stages."""
    kinds = ["a100-40gb"] * 4 + ["l4"] * 8 + ["t4"] * 12
    layers = [8] * 4 + [3] * 8 + [2] * 12
    nodes = tuple(
        Node(
            f"{kind}-{i}",
            load_device(kind),
            site="lab",
            uplink_bytes_per_s=1.25e9,
            downlink_bytes_per_s=1.25e9,
        )
        for i, kind in enumerate(kinds)
    )
    cluster = Cluster(
        nodes=nodes,
        clients=(Client("users", site="lab"),),
        sites=SITE,
        network=Network.full_mesh(len(nodes) + 1, 1e-3, 1.25e9),
    )
    deployment = Deployment(
        "70b", load("llama-2-70b"), load_format("fp16"), tuple(range(len(nodes)))
    )
    starts = [sum(layers[:i]) for i in range(len(layers))]
    stages = tuple(
        Stage(i, tuple(range(start, start + count)))
        for i, (start, count) in enumerate(zip(starts, layers, strict=True))
    )
    plan = Plan(stages, (tuple(range(len(stages))),))
    workload = Rescale(open_trace(trace), rate_per_s=rate_per_s)
    settings = Settings(horizon_s=duration_s)
    return _experiment(cluster, deployment, plan, workload, settings, "round-robin")


def _experiment(
    cluster: Cluster,
    deployment: Deployment,
    plan: Plan,
    workload: Workload,
    settings: Settings,
    router: str,
) -> Experiment:
    return Experiment(
        cluster=cluster,
        deployments=(deployment,),
        plans=(plan,),
        costs=Costs(cluster),
        workload=workload,
        router=registry.create("routing", router),
        batching=registry.create("batching", "continuous"),
        delivery=registry.create("delivery", "local"),
        recovery=registry.create("recovery", "restart"),
        streams=Streams(0),
        settings=settings,
    )
