"""A recorded run again, in the simulator."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from infsim.cluster.cluster import Cluster
from infsim.cluster.device import load_device
from infsim.cluster.network import Network
from infsim.cluster.node import Client, Node, Site
from infsim.cost.calibration import Calibration, device_calibration
from infsim.cost.costs import Costs
from infsim.cost.sources import CALIBRATED, Source, named
from infsim.cost.unequal import for_unequal
from infsim.engine.experiment import Experiment, Settings
from infsim.engine.simulation import simulate
from infsim.errors import InputError
from infsim.fidelity.ranks import Balancer, RankCosts
from infsim.fidelity.recorded import Recorded, Serving
from infsim.model.catalog import load, load_format
from infsim.model.deployment import Deployment
from infsim.policy.batching.continuous import Continuous
from infsim.policy.delivery.local import Local
from infsim.policy.interface import Plan, Stage
from infsim.policy.recovery.restart import Restart
from infsim.results.recorder import RunRecord, Status
from infsim.rng import Streams
from infsim.workload.requests import Requests

COLD = 1.5
"""The first token counts as that of a cold engine if it took so many times as long."""

ENOUGH_S = 1e-3

MOMENTS = 200
"""At which the contexts of a batch are compared."""


@dataclass(frozen=True)
class Replay:
    """A recorded run, simulated.

    Attributes
    ----------
    record : RunRecord
        Requests in the order of the recording, with the same times of arrival.
    late_s : float
        When the engine began to serve, see `cold_start_s`.
    longest : float
        The longest context of a batch over its mean one, see `longest_context`; 1 where it is not
        known what unequal contexts cost.
    """

    record: RunRecord
    late_s: float
    longest: float


def simulated(recorded: Recorded, costs: Source = "calibrated") -> Replay:
    """Simulate a recorded run as faithfully as its data allow.

    Parameters
    ----------
    recorded : Recorded
    costs : str, Path, Calibration or EngineSteps
        Where times of iterations come from, see `infsim.cost.costs.Costs`.

    Raises
    ------
    InputError
        As `replay`.
    """
    known = _known(recorded.serving.device, costs)
    longest = 1.0
    if known is not None and any(table.unequal for table in known.attentions):
        longest = longest_context(replay(recorded, known))
        costs = for_unequal(known, longest)
    late_s = cold_start_s(recorded, costs)
    return Replay(replay(recorded, costs, late_s), late_s, longest)


def _known(device: str, costs: Source) -> Calibration | None:
    """The coefficients of the device, if there are any."""
    if costs == CALIBRATED:
        return device_calibration(device)
    known = named(costs)
    return known if isinstance(known, Calibration) else None


def longest_context(record: RunRecord) -> float:
    """Return how many times as long as the mean context of a batch its longest one is.

    The mean over the run, of all requests that decode together.
    """
    requests = record.requests
    first_s, end_s = requests["first_token_s"], requests["end_s"]
    ratios = []
    for now in np.linspace(first_s.min(), end_s.max(), MOMENTS + 2)[1:-1]:
        decode = (first_s <= now) & (now < end_s)
        if decode.any():
            share = (now - first_s[decode]) / (end_s[decode] - first_s[decode])
            context = requests["input_tokens"][decode] + share * requests["output_tokens"][decode]
            ratios.append(context.max() / context.mean())
    return float(np.mean(ratios)) if ratios else 1.0


def replay(recorded: Recorded, costs: Source = "calibrated", late_s: float = 0.0) -> RunRecord:
    """Simulate the engine of a recorded run on the same requests.

    Parameters
    ----------
    recorded : Recorded
    costs : str, Path, Calibration or EngineSteps
        Where times of iterations come from, see `infsim.cost.costs.Costs`.
    late_s : float
        When the engine begins to serve, see `cold_start_s`.

    Returns
    -------
    RunRecord
        Requests in the order of ``recorded``, with the same times of arrival.

    Raises
    ------
    InputError
        If a request cannot be served, for example because its prompt exceeds the KV cache.
    """
    record = simulate(experiment(recorded, costs, late_s))
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
    return replace(record, requests=requests | {"arrival_s": recorded.arrival_s})


def cold_start_s(recorded: Recorded, costs: Source = "calibrated") -> float:
    """Return when a cold engine began to serve, 0 for a warm one.

    Libraries load kernels, compile and tune when they are first used, which no table of kernels
    tells: the first prompt of the recorded vLLM 0.19 server took 0.69 s instead of 0.23 s, while
    its host was busy with other things. The time is found such that the first request gets its
    first token when it was recorded; who shares batches later, and who ends first, depends on it.
    """
    real_s = float(recorded.first_token_s[0] - recorded.arrival_s[0])

    def early_s(late_s: float) -> float:
        first_s = replay(recorded, costs, late_s).requests["first_token_s"][0]
        return real_s - float(first_s - recorded.arrival_s[0])

    if real_s < COLD * (real_s - early_s(0.0)):
        return 0.0
    low_s, high_s = 0.0, real_s  # more requests share the first batches the later they begin
    while high_s - low_s > ENOUGH_S:
        middle_s = (low_s + high_s) / 2
        if early_s(middle_s) > 0:
            low_s = middle_s
        else:
            high_s = middle_s
    return min(low_s, high_s, key=lambda late_s: abs(early_s(late_s)))


@dataclass(frozen=True)
class _Late:
    """Requests that an engine sees when it begins to serve, or when they arrive after that."""

    recorded: Recorded
    late_s: float

    def blocks(self, streams: Streams) -> Iterator[Requests]:
        for block in self.recorded.blocks(streams):
            yield replace(block, arrival_s=np.maximum(block.arrival_s, self.late_s))


def experiment(recorded: Recorded, costs: Source, late_s: float = 0.0) -> Experiment:
    """Return the engines, each a node with the memory that it had for its KV cache."""
    serving = recorded.serving
    model, form = load(serving.model), load_format(serving.format)
    deployment = Deployment("recorded", model, form, (0,))
    operators = tuple(range(len(model.graph.operators)))
    cluster = _cluster(serving, deployment, operators)
    nodes = range(len(cluster.nodes))
    ranks = cluster.nodes[0].data_parallel
    return Experiment(
        cluster=cluster,
        deployments=(replace(deployment, nodes=tuple(nodes)),),
        plans=(Plan(tuple(Stage(i, operators) for i in nodes), tuple((i,) for i in nodes)),),
        costs=RankCosts(cluster, costs),
        workload=_Late(recorded, late_s),
        router=Balancer(),
        batching=Continuous(ranks * serving.token_budget, ranks * serving.max_sequences),
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
    """One node per engine; data-parallel engines that share experts are one."""
    device = load_device(serving.device)
    experts = any(op.experts > 1 for op in deployment.model.graph.operators)
    ranks = serving.replicas if experts else 1
    node = Node("engine", device, ranks * serving.devices, data_parallel=ranks)
    client = (Client("client"),)
    bare = Costs(Cluster((node,), client, {"default": Site("default")}, Network.full_mesh(2)))
    tokens = ranks * (serving.kv_tokens // serving.block_tokens) * serving.block_tokens
    memory = bare.weight_bytes(deployment, operators)
    memory += tokens * bare.kv_bytes_per_token(deployment, operators)
    each = -(-memory // node.count)
    node = replace(node, device=replace(device, memory_bytes=each), memory_fraction=1.0)
    count = serving.replicas // ranks
    nodes = tuple(replace(node, name=f"engine-{i}") for i in range(count))
    network = Network.full_mesh(count + 1)
    return Cluster(nodes, client, {"default": Site("default")}, network)
