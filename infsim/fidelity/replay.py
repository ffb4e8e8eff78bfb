"""A recorded run again, in the simulator."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from infsim.cluster.cluster import Cluster
from infsim.cluster.device import load_device
from infsim.cluster.network import Network
from infsim.cluster.node import Client, Node, Site
from infsim.cost.costs import Costs
from infsim.engine.experiment import Experiment, Settings
from infsim.engine.simulation import simulate
from infsim.errors import InputError
from infsim.fidelity.recorded import Recorded, Serving
from infsim.model.catalog import load, load_format
from infsim.model.deployment import Deployment
from infsim.policy.batching.continuous import Continuous
from infsim.policy.delivery.local import Local
from infsim.policy.interface import Plan, Stage
from infsim.policy.recovery.restart import Restart
from infsim.policy.routing.round_robin import RoundRobin
from infsim.results.recorder import RunRecord, Status
from infsim.rng import Streams


def replay(recorded: Recorded, costs: str | Path = "calibrated") -> RunRecord:
    """Simulate the engine of a recorded run on the same requests.

    Parameters
    ----------
    recorded : Recorded
    costs : str or Path
        Where times of iterations come from, see `infsim.cost.costs.Costs`.

    Returns
    -------
    RunRecord
        Requests in the order of ``recorded``.

    Raises
    ------
    InputError
        If a request cannot be served, for example because its prompt exceeds the KV cache.
    """
    record = simulate(experiment(recorded, costs))
    refused = np.flatnonzero(record.requests["status"] != Status.COMPLETED)
    if len(refused):
        first = int(refused[0])
        error = record.text(record.requests["error"])[first]
        raise InputError(
            f"{len(refused)} requests are not served in the simulation, the first with"
            f" {record.requests['input_tokens'][first]} tokens: {error}"
        )
    order = np.argsort(record.requests["request_id"])
    requests = {name: column[order] for name, column in record.requests.items()}
    return replace(record, requests=requests)


def experiment(recorded: Recorded, costs: str | Path) -> Experiment:
    """Return one node with the memory that the engine had for its KV cache."""
    serving = recorded.serving
    model, form = load(serving.model), load_format(serving.format)
    deployment = Deployment("recorded", model, form, (0,))
    operators = tuple(range(len(model.graph.operators)))
    cluster = _cluster(serving, deployment, operators)
    return Experiment(
        cluster=cluster,
        deployments=(deployment,),
        plans=(Plan((Stage(0, operators),), ((0,),)),),
        costs=Costs(cluster, costs),
        workload=recorded,
        router=RoundRobin(),
        batching=Continuous(serving.token_budget, serving.max_sequences),
        delivery=Local(),
        recovery=Restart(),
        streams=Streams(0),
        settings=Settings(
            block_tokens=serving.block_tokens,
            plan_ahead=serving.plan_ahead,
            prefix_cache=serving.prefix_cache,
        ),
    )


def _cluster(serving: Serving, deployment: Deployment, operators: tuple[int, ...]) -> Cluster:
    device = load_device(serving.device)
    node = Node("engine", device, serving.devices)
    client = (Client("client"),)
    network = Network.full_mesh(2)
    bare = Costs(Cluster((node,), client, {"default": Site("default")}, network))
    tokens = serving.kv_tokens // serving.block_tokens * serving.block_tokens
    memory = bare.weight_bytes(deployment, operators)
    memory += tokens * bare.kv_bytes_per_token(deployment, operators)
    each = -(-memory // serving.devices)
    node = replace(node, device=replace(device, memory_bytes=each), memory_fraction=1.0)
    return Cluster((node,), client, {"default": Site("default")}, network)
