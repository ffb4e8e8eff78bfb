"""Small cases worked out by hand, for both engines."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from math import inf
from typing import Any

import numpy as np
import pytest

from infsim.cluster.availability import AlwaysUp, TraceAvailability
from infsim.cluster.cluster import Cluster
from infsim.cluster.device import Device
from infsim.cluster.network import Network
from infsim.cluster.node import Client, Node, Site
from infsim.engine.experiment import Experiment, Settings
from infsim.engine.reference import simulate_reference
from infsim.engine.simulation import simulate
from infsim.errors import InputError
from infsim.model.deployment import Deployment
from infsim.model.graph import Operator, chain
from infsim.model.model import Model
from infsim.policy.interface import (
    Action,
    DeliveryView,
    Plan,
    ReplicaView,
    Request,
    Router,
    RoutingView,
    Serve,
    Stage,
)
from infsim.results.recorder import INCIDENT_KINDS, RunRecord, Status
from infsim.rng import Streams
from infsim.workload.requests import Requests
from tests.fakes import FAKE_FORMAT, Announced, LinearCosts, LinearStepCost, Table
from tests.policies import Always, Chunked, FirstDeployment

Run = Callable[[Experiment], RunRecord]
COST = LinearStepCost(base=0.01, prefill_token=0.001, decode=0.002)


@pytest.fixture(params=[simulate_reference, simulate], ids=["reference", "fast"])
def run(request: pytest.FixtureRequest) -> Run:
    engine: Run = request.param
    return engine


class InTurn(Router):
    """The candidates one after another."""

    def __init__(self) -> None:
        self.asked = 0

    def route(self, request: Request, view: RoutingView) -> ReplicaView:
        self.asked += 1
        return view.replicas[(self.asked - 1) % len(view.replicas)]


class First(Router):
    """The first candidate."""

    def route(self, request: Request, view: RoutingView) -> ReplicaView:
        return view.replicas[0]


def experiment(
    stages: Sequence[tuple[int, int, int]],
    pipelines: tuple[tuple[int, ...], ...] | None,
    requests: Sequence[tuple[float, int, int]],
    *,
    delay_s: float = 0.0,
    uplink: float = inf,
    link: float = inf,
    memory_tokens: int = 1000,
    outages: Mapping[int, tuple[tuple[float, float], ...]] | None = None,
    hashes: Sequence[int] = (),
    **settings: Any,
) -> Experiment:
    """Stages (node, start, end), requests (arrival_s, input, output), one client.

    Every operator holds 2 bytes of KV and sends 100 bytes for a token; a KV block has 4 tokens.
    """
    count = 1 + max(node for node, _, _ in stages)
    operators = 1 + max(end for _, _, end in stages) - 1
    places = tuple(Stage(node, tuple(range(start, end))) for node, start, end in stages)
    nodes = tuple(
        Node(
            f"node-{i}",
            Device(
                f"device-{i}",
                memory_bytes=2 * memory_tokens * sum(len(p.operators) for p in places),
                bandwidth_bytes_per_s=1.0,
                peak_flops={"fp32": 1.0},
            ),
            memory_fraction=1.0,
            uplink_bytes_per_s=uplink,
            availability=TraceAvailability(outages[i]) if outages and i in outages else AlwaysUp(),
        )
        for i in range(count)
    )
    network = Network.full_mesh(count + 1, delay_s, link)
    client = Client("client", uplink_bytes_per_s=uplink)
    cluster = Cluster(nodes, (client,), {"default": Site("default")}, network)
    graph = chain([Operator(f"operator-{i}", 0, 1, 50, 0, 1) for i in range(operators)])
    arrival_s, inputs, outputs = (np.array(column) for column in zip(*requests, strict=True))
    total = len(requests)
    table = Requests(
        arrival_s.astype(np.float64),
        inputs,
        outputs,
        client=np.zeros(total, dtype=np.int64),
        session_id=np.full(total, -1),
        sample_id=np.full(total, -1),
        prefix_offsets=np.arange(total + 1) * len(hashes),
        prefix_hashes=np.array(list(hashes) * total, dtype=np.int64),
        prefix_block_tokens=8,
    )
    return Experiment(
        cluster=cluster,
        deployments=(Deployment("model", Model("model", graph), FAKE_FORMAT, tuple(range(count))),),
        plans=(Plan(places, pipelines),),
        costs=LinearCosts(cluster, [COST] * count),
        workload=Table((table,)),
        router=First() if pipelines is None else InTurn(),
        batching=Chunked(token_budget=1000),
        delivery=FirstDeployment(),
        recovery=Always(Action.REPLAY),
        streams=Streams(0),
        settings=Settings(block_tokens=4, **settings),
    )


def prefill_s(tokens: int, operators: int = 1) -> float:
    return 0.01 + 0.001 * tokens * operators


def decode_s(sequences: int = 1, operators: int = 1) -> float:
    return 0.01 + 0.002 * sequences * operators


@pytest.mark.parametrize("transfer", ["push", "relay"])
def test_two_stages(run: Run, transfer: str) -> None:
    record = run(
        experiment(
            [(0, 0, 2), (1, 2, 3)],
            ((0, 1),),
            [(1.0, 10, 2)],
            delay_s=0.1,
            link=1000.0,
            transfer=transfer,
        )
    )
    legs = {"push": 1, "relay": 2}[transfer]
    start = 1.0 + 10 * 4 / 1000 + 0.1
    there = legs * (10 * 100 / 1000 + 0.1)
    first = start + prefill_s(10, 2) + there + prefill_s(10)
    back = legs * (4 / 1000 + 0.1)
    there = legs * (100 / 1000 + 0.1)
    second = first + back + decode_s(1, 2) + there + decode_s()
    requests = record.requests
    assert requests["start_s"][0] == pytest.approx(start, abs=1e-12)
    assert requests["first_token_s"][0] == pytest.approx(first + 0.1, abs=1e-12)
    assert requests["end_s"][0] == pytest.approx(second + 0.1, abs=1e-12)
    # the prompt, its activations, the token back, the activations of the decode
    assert record.counters["bytes_sent"] == 40 + legs * (1000 + 4 + 100)


def test_fifo_messages_queue_for_the_uplink(run: Run) -> None:
    replicas = [(0, 0, 1), (1, 0, 1)]
    pair = [(0.0, 10, 1), (0.1, 20, 1)]
    record = run(experiment(replicas, ((0,), (1,)), pair, delay_s=0.5, uplink=100.0))
    # 40 bytes until 0.4, then 80 bytes until 1.2
    assert record.requests["start_s"] == pytest.approx([0.9, 1.7], abs=1e-12)


def test_max_min_messages_share_the_uplink(run: Run) -> None:
    replicas = [(0, 0, 1), (1, 0, 1)]
    pair = [(0.0, 10, 1), (0.1, 20, 1)]
    record = run(
        experiment(replicas, ((0,), (1,)), pair, delay_s=0.5, uplink=100.0, sharing="max-min")
    )
    # 10 of 40 bytes are through at 0.1, the others at half the rate until 0.7, when 50 of the
    # other 80 are left
    assert record.requests["start_s"] == pytest.approx([0.7 + 0.5, 1.2 + 0.5], abs=1e-12)


def test_the_last_admitted_is_preempted(run: Run) -> None:
    # room for 4 blocks of 4 tokens
    record = run(experiment([(0, 0, 1)], ((0,),), [(0.0, 4, 8), (0.001, 4, 8)], memory_tokens=16))
    requests = record.requests
    assert requests["preemptions"].tolist() == [0, 1]
    assert requests["generated_tokens"].tolist() == [8, 8]
    # prompt; decode with the other prompt; 3 decodes together. Then the first one has 8 tokens in
    # its KV and wants a third block: the other one, with 7 in its own, has to go. 3 decodes alone
    end = prefill_s(4) + prefill_s(4) + 0.002 + 3 * decode_s(2) + 3 * decode_s()
    assert requests["end_s"][0] == pytest.approx(end, abs=1e-12)
    # its prompt and the 4 tokens that it had made are computed again, which makes the fifth
    end += prefill_s(8) + 3 * decode_s()
    assert requests["end_s"][1] == pytest.approx(end, abs=1e-12)
    assert requests["wasted_tokens"].tolist() == [0, 7]
    assert record.nodes["peak_kv_bytes"][0] == 4 * 4 * 2


@pytest.mark.parametrize(("memory_tokens", "held", "found"), [(28, 12, 12), (24, 11, 8)])
def test_what_a_preempted_sequence_left_is_found_again(
    run: Run, memory_tokens: int, held: int, found: int
) -> None:
    """Of what it held, whole blocks of 4 tokens."""
    plain, cached = (
        run(
            experiment(
                [(0, 0, 1)],
                ((0,),),
                [(0.0, 8, 9), (0.001, 8, 9)],
                memory_tokens=memory_tokens,
                prefix_cache=prefix_cache,
            )
        ).requests
        for prefix_cache in (False, True)
    )
    assert cached["preemptions"].tolist() == plain["preemptions"].tolist() == [0, 1]
    assert cached["end_s"][0] == plain["end_s"][0]
    assert cached["end_s"][1] == pytest.approx(plain["end_s"][1] - found * COST.prefill_token)
    assert plain["wasted_tokens"].tolist() == [0, held]
    assert cached["wasted_tokens"].tolist() == [0, held - found]
    assert cached["cached_tokens"].tolist() == [0, 0]


def test_a_shared_prefix_is_computed_once(run: Run) -> None:
    record = run(
        experiment(
            [(0, 0, 1)],
            ((0,),),
            [(0.0, 20, 1), (1.0, 20, 1), (2.0, 16, 1)],
            hashes=(7, 8),
            prefix_cache=True,
        )
    )
    # of the last prompt one block is computed again: a token has to remain
    assert record.requests["cached_tokens"].tolist() == [0, 16, 8]
    durations = record.requests["end_s"] - record.requests["arrival_s"]
    assert durations == pytest.approx([prefill_s(20), prefill_s(4), prefill_s(8)], abs=1e-12)


@pytest.mark.parametrize("action", [Action.RESTART, Action.REPLAY])
def test_a_failed_replica(run: Run, action: Action) -> None:
    failing = experiment(
        [(0, 0, 1), (1, 0, 1)],
        ((0,), (1,)),
        [(0.0, 10, 4)],
        outages={0: ((0.04, 10.0),)},
        detection_s=1.0,
    )
    record = run(replace(failing, recovery=Always(action)))
    # prompt and one decode are done at 0.032; the second decode is stopped
    made = {Action.RESTART: 0, Action.REPLAY: 2}[action]
    end = 1.04 + prefill_s(10 + made) + (3 - made) * decode_s()
    requests = record.requests
    assert requests["end_s"][0] == pytest.approx(end, abs=1e-12)
    assert (requests["attempts"][0], requests["wasted_tokens"][0]) == (2, 11)
    assert requests["first_token_s"][0] == pytest.approx(prefill_s(10), abs=1e-12)
    assert record.nodes["iterations"].tolist() == [2, 4 - made]
    assert record.nodes["busy_s"][0] == pytest.approx(0.04, abs=1e-12)


def test_a_plan_made_ahead_knows_of_a_prompt_one_iteration_later(run: Run) -> None:
    """The second prompt comes during the first one's; it is computed after one decode."""
    base = experiment([(0, 0, 1)], ((0,),), [(0.0, 8, 4), (0.001, 8, 1)])
    at_once, ahead = (
        run(replace(base, settings=replace(base.settings, plan_ahead=plan_ahead))).requests
        for plan_ahead in (False, True)
    )
    assert at_once["start_s"].tolist() == pytest.approx([0.0, prefill_s(8)])
    assert ahead["start_s"].tolist() == pytest.approx([0.0, prefill_s(8) + decode_s()])


def test_a_plan_made_ahead_knows_of_free_memory_one_iteration_later(run: Run) -> None:
    """The third prompt waits for the memory of the first, while the second decodes."""
    requests = [(0.0, 4, 2), (0.0, 4, 6), (0.001, 8, 1)]
    base = experiment([(0, 0, 1)], ((0,),), requests, memory_tokens=20)
    at_once, ahead = (
        run(replace(base, settings=replace(base.settings, plan_ahead=plan_ahead))).requests
        for plan_ahead in (False, True)
    )
    assert at_once["end_s"][0] == ahead["end_s"][0]
    assert at_once["start_s"][2] == at_once["end_s"][0]
    assert ahead["start_s"][2] == pytest.approx(ahead["end_s"][0] + decode_s())


def test_what_cannot_be_planned_ahead_is_refused(run: Run) -> None:
    base = experiment([(0, 0, 1), (1, 1, 2)], ((0, 1),), [(0.0, 8, 4)], plan_ahead=True)
    if run is simulate:
        with pytest.raises(InputError, match="one whole deployment"):
            run(base)


def announced(experiment: Experiment, notice_s: float) -> Experiment:
    """The same, with notice given of all outages."""
    nodes = tuple(
        replace(node, availability=Announced(node.availability, notice_s))
        for node in experiment.cluster.nodes
    )
    return replace(experiment, cluster=replace(experiment.cluster, nodes=nodes))


def test_a_node_that_is_about_to_leave_gets_no_new_work(run: Run) -> None:
    """It finishes what it has: one token takes 0.02, the second request arrives during notice."""
    requests = [(0.0, 8, 3), (0.005, 8, 3)]
    outages = {0: ((0.1, inf),)}
    base = experiment([(0, 0, 1), (1, 0, 1)], ((0,), (1,)), requests, outages=outages)
    base = replace(base, router=First())
    assert run(base).requests["replica"].tolist() == [0, 0]
    record = run(announced(base, 0.098))  # from 0.002 on
    assert record.requests["replica"].tolist() == [0, 1]
    assert record.requests["attempts"].tolist() == [1, 1]
    kinds = [INCIDENT_KINDS[code] for code in record.incidents["kind"]]
    assert kinds == ["notice"]
    assert record.incidents["time_s"].tolist() == pytest.approx([0.002])


def test_a_node_that_is_about_to_leave_serves_if_nobody_else_can(run: Run) -> None:
    base = experiment([(0, 0, 1)], ((0,),), [(0.05, 8, 3)], outages={0: ((1.0, inf),)})
    record = run(announced(base, 0.99))
    assert record.requests["status"].tolist() == [Status.COMPLETED]
    assert record.requests["start_s"].tolist() == [0.05]


def test_a_mesh_replaces_only_the_lost_hop(run: Run) -> None:
    record = run(
        experiment(
            [(0, 0, 1), (1, 1, 2), (2, 1, 2)],
            None,
            [(0.0, 10, 4)],
            outages={1: ((0.075, 10.0),)},
            detection_s=1.0,
            delay_s=0.01,
        )
    )
    # there, first hop, on, second hop: 0.06. The token is back at 0.07, and the second hop fails
    # while the entry decodes
    first = 0.01 + prefill_s(10) + 0.01 + prefill_s(10)
    assert record.requests["first_token_s"][0] == pytest.approx(first + 0.01, abs=1e-12)
    # 10 tokens go from the client to the new hop, and the entry hears that they are done
    again = 1.075 + 0.01 + prefill_s(10) + 0.01
    passes = 3 * (decode_s() + 0.01 + decode_s()) + 2 * 0.01
    assert record.requests["end_s"][0] == pytest.approx(again + passes + 0.01, abs=1e-12)
    # one prompt at the entry, and one decode too many
    assert record.nodes["tokens"].tolist() == [10 + 4, 10, 10 + 3]
    assert record.requests["wasted_tokens"][0] == 5  # half of the operators


def test_a_stale_view_parks_until_it_knows(run: Run) -> None:
    record = run(
        experiment(
            [(0, 0, 1)],
            ((0,),),
            [(0.5, 10, 1)],
            outages={0: ((0.1, 0.6),)},
            staleness_s=0.4,
        )
    )
    # ready again at 0.6, which is known at 0.8
    assert record.requests["start_s"][0] == pytest.approx(0.8, abs=1e-12)
    assert record.requests["attempts"][0] == 1


def test_an_interrupted_run_keeps_what_it_has(run: Run) -> None:
    class Interrupting(FirstDeployment):
        def decide(self, request: Request, view: DeliveryView) -> Serve:
            if request.request_id == 2:
                raise KeyboardInterrupt
            return super().decide(request, view)

    requests = [(0.0, 10, 1), (1.0, 10, 1), (1.005, 10, 1), (5.0, 10, 1)]
    record = run(replace(experiment([(0, 0, 1)], ((0,),), requests), delivery=Interrupting()))
    assert record.interrupted
    statuses = [Status.COMPLETED, Status.UNFINISHED, Status.UNFINISHED]
    assert record.requests["status"].tolist() == statuses
