"""Queues of theory as experiments: Poisson arrivals, made-up service times, nothing in between.

Service times are numbers of tokens times a fixed time, so that the moments are known exactly.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

import numpy as np
from numpy.typing import NDArray

from infsim.cluster.availability import AlwaysUp, Availability
from infsim.cluster.cluster import Cluster
from infsim.cluster.device import Device
from infsim.cluster.network import Network
from infsim.cluster.node import Client, Node, Site
from infsim.cost.interface import StepCost
from infsim.engine.experiment import Experiment, Settings
from infsim.fidelity.stages import StageCosts
from infsim.model.deployment import Deployment
from infsim.model.graph import Operator, chain
from infsim.model.model import Model
from infsim.policy.interface import Action, Batching, BatchView, Iteration, Plan, Router, Stage
from infsim.rng import Streams
from infsim.workload.requests import Requests
from tests.fakes import FAKE_FORMAT, LinearStepCost, Table
from tests.policies import Always, AnyReplica, FirstDeployment

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

TICK_S = 1e-4
"""Service time of one token: 10,000 of them make a mean service time of one second."""
MEAN_TOKENS = 10_000
DEVICE = Device("queue", memory_bytes=10**6, bandwidth_bytes_per_s=1.0, peak_flops={"fp32": 1.0})


class OneByOne(Batching):
    """One whole prompt at a time, in order of arrival."""

    token_budget = 1

    def plan(self, view: BatchView) -> Iteration:
        pending = (*view.prefilling, *view.waiting)
        return Iteration(chunks=[(prompt, prompt.remaining_tokens) for prompt in pending[:1]])


class Everybody(Batching):
    """All that is there, in every iteration: processor sharing, one token at a time."""

    token_budget = 10**9
    steady = True

    def plan(self, view: BatchView) -> Iteration:
        pending = (*view.prefilling, *view.waiting)
        return Iteration(chunks=[(prompt, prompt.remaining_tokens) for prompt in pending])


class HashedStepCost(StepCost):
    """Exponential times that are fixed by the number of tokens, but look independent of it."""

    def __init__(self, mean_s: float) -> None:
        self.mean_s = mean_s

    def step_s(
        self,
        prefill_tokens: int,
        prefill_pairs: float,
        prefill_context: float,
        decode_sequences: int,
        decode_context: float,
        sequences: int,
    ) -> float:
        golden = 0.6180339887498949  # multiples of it spread evenly over the unit interval
        return -self.mean_s * float(np.log1p(-(prefill_tokens * golden % 1.0)))

    def decode_line(self, sequences: int, context: float) -> tuple[float, float, float]:
        return self.mean_s, 0.0, inf


@dataclass(frozen=True)
class Queue:
    """A queueing system: so many parallel servers, each a chain of stages."""

    arrival_s: Floats
    input_tokens: Integers
    output_tokens: Integers
    costs: tuple[StepCost, ...] = (LinearStepCost(prefill_token=TICK_S),)
    servers: int = 1
    batching: Batching = OneByOne()  # noqa: RUF009 - it remembers nothing
    router: Router = AnyReplica()  # noqa: RUF009 - it remembers nothing
    availability: Availability = AlwaysUp()  # noqa: RUF009 - frozen
    horizon_s: float | None = None
    seed: int = 0

    def experiment(self) -> Experiment:
        """The queue as an experiment."""
        stages = len(self.costs)
        nodes = tuple(
            Node(
                f"node-{i}",
                DEVICE,
                load_bytes_per_s=1e30,
                memory_fraction=1.0,
                availability=self.availability,
            )
            for i in range(self.servers * stages)
        )
        site = {"default": Site("default")}
        cluster = Cluster(nodes, (Client("client"),), site, Network.full_mesh(len(nodes) + 1))
        operators = [Operator(f"operator-{i}", 1, 1, 0) for i in range(stages)]
        model = Model("model", chain(operators), generative=bool(self.output_tokens.max() > 1))
        places = tuple(Stage(i, (i % stages,)) for i in range(len(nodes)))
        pipelines = tuple(
            tuple(range(first, first + stages)) for first in range(0, len(nodes), stages)
        )
        count = len(self.arrival_s)
        nothing = np.full(count, -1)
        requests = Requests(
            arrival_s=self.arrival_s,
            input_tokens=self.input_tokens,
            output_tokens=self.output_tokens,
            client=np.zeros(count, dtype=np.int64),
            session_id=nothing,
            sample_id=nothing,
        )
        return Experiment(
            cluster=cluster,
            deployments=(Deployment("queue", model, FAKE_FORMAT, tuple(range(len(nodes)))),),
            plans=(Plan(places, pipelines),),
            costs=StageCosts(cluster, self.costs),
            workload=Table((requests,)),
            router=self.router,
            batching=self.batching,
            delivery=FirstDeployment(),
            recovery=Always(Action.RESTART),
            streams=Streams(self.seed),
            settings=Settings(
                detection_s=0.0, horizon_s=self.horizon_s, max_attempts=10**9, token_bytes=0
            ),
        )


def poisson(rng: np.random.Generator, rate: float, count: int) -> Floats:
    """Arrival times of a Poisson process."""
    times: Floats = np.cumsum(rng.exponential(1 / rate, count))
    return times


def ones(count: int) -> Integers:
    return np.ones(count, dtype=np.int64)
