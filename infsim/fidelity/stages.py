"""Stages in a row whose costs were measured as a whole, as an experiment of the engine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from infsim.cluster.cluster import Cluster
from infsim.cluster.device import Device
from infsim.cluster.network import Network
from infsim.cluster.node import Client, Node, Site
from infsim.cost.costs import Costs
from infsim.cost.interface import StepCost
from infsim.engine.experiment import Experiment, Settings
from infsim.engine.simulation import simulate
from infsim.errors import InputError
from infsim.model.deployment import Deployment
from infsim.model.formats import Format
from infsim.model.graph import Operator, chain
from infsim.model.model import Model
from infsim.policy.delivery.local import Local
from infsim.policy.interface import Batching, Plan, Stage
from infsim.policy.recovery.replay import Replay
from infsim.policy.routing.round_robin import RoundRobin
from infsim.results.recorder import RunRecord, Status
from infsim.rng import Streams
from infsim.workload.given import Given

MACHINE = Device("measured", memory_bytes=2**40, bandwidth_bytes_per_s=1.0, peak_flops={"fp32": 1})
"""A device of which nothing counts: its times are measured, and its memory suffices."""


class StageCosts(Costs):
    """One step cost for each operator of a chain, the same on all nodes."""

    def __init__(self, cluster: Cluster, costs: Sequence[StepCost]) -> None:
        super().__init__(cluster)
        self.of_operator = costs

    def step(
        self,
        node: int,  # noqa: ARG002 - all are alike
        deployment: Deployment,  # noqa: ARG002 - there is one
        operators: Sequence[int],
    ) -> StepCost:
        return self.of_operator[operators[0]]


@dataclass(frozen=True)
class Stages:
    """Stages in a row, each an operator on a node of its own.

    Attributes
    ----------
    nodes : tuple of Node
    operators : tuple of Operator
    costs : sequence of StepCost
        What an iteration costs on each stage.
    network : Network
        Of the nodes, and the client after them.
    format : Format
        Of the values that pass from stage to stage, and of the weights.
    batching : Batching
    settings : Settings
    """

    nodes: tuple[Node, ...]
    operators: tuple[Operator, ...]
    costs: Sequence[StepCost]
    network: Network
    format: Format
    batching: Batching
    settings: Settings

    def serve(self, workload: Given) -> RunRecord:
        """Simulate how the stages serve these requests.

        Raises
        ------
        InputError
            If one of them is not served.
        """
        record = simulate(self.experiment(workload))
        lost = np.flatnonzero(record.requests["status"] != Status.COMPLETED)
        if len(lost):
            raise InputError(f"request {lost[0]} of {len(record.requests['status'])} is not served")
        return record

    def experiment(self, workload: Given) -> Experiment:
        """Return the experiment in which the stages serve these requests."""
        places = tuple(range(len(self.nodes)))
        sites = {"default": Site("default")}
        cluster = Cluster(self.nodes, (Client("client"),), sites, self.network)
        model = Model("recorded", chain(self.operators))
        return Experiment(
            cluster=cluster,
            deployments=(Deployment("recorded", model, self.format, places),),
            plans=(Plan(tuple(Stage(i, (i,)) for i in places), (places,)),),
            costs=StageCosts(cluster, self.costs),
            workload=workload,
            router=RoundRobin(),
            batching=self.batching,
            delivery=Local(),
            recovery=Replay(),
            streams=Streams(0),
            settings=self.settings,
        )
