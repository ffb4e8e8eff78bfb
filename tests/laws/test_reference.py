"""The laws of the engine (L1 to L9), on small random experiments run by the reference engine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from infsim import registry
from infsim.cost.energy import JOULES_PER_KWH
from infsim.engine.experiment import Experiment
from infsim.engine.reference import simulate_reference
from infsim.engine.reference.batching import BatchLook
from infsim.engine.reference.run import Run
from infsim.policy.interface import (
    Action,
    Batching,
    BatchView,
    Iteration,
    Loss,
    Recovery,
    ReplicaView,
    Request,
    Router,
    RoutingView,
)
from infsim.results.recorder import INCIDENT_KINDS, RunRecord, Status
from tests.experiments import Shape, build, shapes
from tests.fakes import Table
from tests.policies import FewestTokens

quick = settings(max_examples=60, deadline=None)

ERRORS = {
    Status.COMPLETED: {""},
    Status.REJECTED: {"context limit", "kv capacity"},
    Status.FAILED: {"kv capacity", "max attempts", "given up"},
    Status.UNFINISHED: {""},
}
REQUEST_TIMES = ("arrival_s", "start_s", "first_token_s", "end_s")


def asked(experiment: Experiment) -> dict[str, np.ndarray[Any, Any]]:
    """The columns of the requests that belong to the run."""
    blocks = list(experiment.workload.blocks(experiment.streams))
    names = ("arrival_s", "input_tokens", "output_tokens", "client", "session_id")
    columns: dict[str, np.ndarray[Any, Any]] = {
        name: np.concatenate([getattr(block, name) for block in blocks]) for name in names
    }
    horizon_s = experiment.settings.horizon_s
    part = columns["arrival_s"] < (np.inf if horizon_s is None else horizon_s)
    return {name: column[part] for name, column in columns.items()}


def wanted_tokens(experiment: Experiment, record: RunRecord) -> np.ndarray[Any, Any]:
    """Tokens that the deployment of the last dispatch makes for each request (all generative)."""
    limits = [d.model.max_context or 10**9 for d in experiment.deployments]
    limit = np.array(limits)[record.requests["deployment"]]
    room = limit - record.requests["input_tokens"]
    wanted: np.ndarray[Any, Any] = np.minimum(record.requests["output_tokens"], room)
    return wanted


# --- L1


@quick
@given(shapes(generative=True, closed=False))
def test_every_request_ends_once_and_tokens_are_conserved(shape: Shape) -> None:
    experiment = build(shape)
    record = simulate_reference(experiment)
    requests, given_ = record.requests, asked(experiment)
    # a run that is over before the last arrival would have lost requests
    assert requests["request_id"].tolist() == list(range(len(given_["arrival_s"])))
    for name, column in given_.items():
        assert requests[name].tolist() == column.tolist()
    statuses = requests["status"]
    for status, error in zip(statuses, record.text(requests["error"]), strict=True):
        assert error in ERRORS[Status(status)]
    wanted = wanted_tokens(experiment, record)
    served = requests["deployment"] >= 0
    completed = statuses == Status.COMPLETED
    assert (requests["generated_tokens"] <= wanted)[served].all()
    assert (requests["generated_tokens"] == wanted)[completed].all()
    assert (requests["generated_tokens"][~served] == 0).all()
    assert (requests["attempts"] <= experiment.settings.max_attempts + 1).all()
    if Status.UNFINISHED in statuses:
        assert record.end_s == pytest.approx(limit_s(experiment, given_["arrival_s"]))


def limit_s(experiment: Experiment, arrival_s: np.ndarray[Any, Any]) -> float:
    """When the run ends at the latest."""
    horizon_s, drain_s = experiment.settings.horizon_s, experiment.settings.drain_s
    last_s = float(arrival_s.max(initial=0.0)) + drain_s
    return last_s if horizon_s is None else min(last_s, horizon_s)


@quick
@given(shapes(generative=False, churn="none", tight=False))
def test_a_model_that_does_not_generate_answers_in_one_pass(shape: Shape) -> None:
    requests = simulate_reference(build(shape)).requests
    completed = requests["status"] == Status.COMPLETED
    assert (requests["generated_tokens"][completed] == 1).all()
    assert (requests["first_token_s"] == requests["end_s"])[completed].all()


# --- L2


@quick
@given(shapes())
def test_times_are_causal(shape: Shape) -> None:
    experiment = build(shape)
    record = simulate_reference(experiment)
    requests = record.requests
    arrival, start, first, end = (requests[name] for name in REQUEST_TIMES)
    assert not (start < arrival).any()
    assert not (first <= start).any()
    completed = requests["status"] == Status.COMPLETED
    assert (first <= end)[completed].all()
    for column in (start, first, end):
        assert np.isfinite(column[completed]).all()
    assert np.isnan(end[requests["status"] == Status.UNFINISHED]).all()
    assert np.isfinite(end[requests["status"] != Status.UNFINISHED]).all()
    if experiment.settings.horizon_s is None and Status.UNFINISHED not in requests["status"]:
        assert record.end_s == np.max(end)
    segments = record.segments
    assert (segments["start_s"] <= segments["end_s"]).all()
    assert (segments["end_s"] <= record.end_s).all()


@quick
@given(shapes(network="delays", attached=False, delivery="first", batching="chunked"))
def test_nothing_is_faster_than_the_network_and_the_device(shape: Shape) -> None:
    experiment = build(shape)
    requests = simulate_reference(experiment).requests
    nodes = len(experiment.cluster.nodes)
    delay = experiment.cluster.network.delay_s
    there = delay[nodes:, :nodes].min(axis=1)[requests["client"]]
    back = delay[:nodes, nodes:].min(axis=0)[requests["client"]]
    fastest = min(cost.base for cost in experiment.costs.per_node)  # type: ignore[attr-defined]
    assert not (requests["start_s"] < requests["arrival_s"] + there).any()
    assert not (requests["first_token_s"] < requests["start_s"] + fastest + back).any()
    completed = (requests["status"] == Status.COMPLETED) & (requests["attempts"] == 1)
    decodes = requests["generated_tokens"] - 1
    least = requests["first_token_s"] + decodes * fastest
    if shape.layout == "graph":  # another hop may be the last one
        least -= delay.max()
    assert (requests["end_s"] >= least - 1e-9)[completed].all()


# --- L3 and L4


@quick
@given(shapes())
def test_memory_is_never_exceeded_and_no_node_idles_with_work(shape: Shape) -> None:
    assert_memory_suffices_and_none_idles(build(shape))


SLOTS = {
    "routing": "router",
    "batching": "batching",
    "delivery": "delivery",
    "recovery": "recovery",
}
REGISTERED = [(kind, name) for kind in SLOTS for name in registry.names(kind)]


@pytest.mark.parametrize(("kind", "name"), REGISTERED)
@settings(max_examples=6, deadline=None, derandomize=True)
@given(shape=shapes())
def test_no_node_idles_with_work_under_a_registered_policy(
    kind: str, name: str, shape: Shape
) -> None:
    # Which deployment is the most accurate cannot be known without a table: name it.
    named = {"deployment": "deployment-0"} if name == "remote" else {}
    policy = registry.create(kind, {"name": name, **named})
    experiment = replace(build(shape), **{SLOTS[kind]: policy})
    assert_memory_suffices_and_none_idles(experiment)


def assert_memory_suffices_and_none_idles(experiment: Experiment) -> None:
    run = Run(experiment)
    world, policy = run.world, experiment.batching
    while not run.over:
        world.clock.step()
        for node in world.nodes:
            idle = sum(world.memory.entry_bytes(key) for key in world.memory.idle(node.index))
            assert world.memory.used(node.index) + idle <= world.memory.capacity[node.index]
        if world.clock.environment.peek() == world.clock.now:
            continue  # the moment is not over
        for node in world.nodes:
            if node.running is None and node.status == "ready":
                for host in node.hosts.values():
                    assert not host.queue
                    assert not would_run(policy, BatchLook(world, host, show_waiting=True))


def would_run(policy: Batching, view: BatchLook) -> bool:
    """Whether the policy has something to run."""
    if not (view.waiting or view.prefilling or view.decoding):
        return False
    answer = policy.plan(view)
    return bool(answer.chunks or (answer.decode and view.decoding))


@quick
@given(shapes(network="finite"))
def test_bytes_are_received_lost_or_on_their_way(shape: Shape) -> None:
    record = simulate_reference(build(shape))
    counters, nodes = record.counters, record.nodes
    kept = counters["bytes_received"] + counters["bytes_lost"] + counters["bytes_in_flight"]
    assert counters["bytes_sent"] == kept
    assert nodes["bytes_sent"].sum() <= counters["bytes_sent"]
    assert nodes["bytes_received"].sum() <= counters["bytes_received"]
    assert (nodes["peak_kv_bytes"] <= nodes["kv_capacity_bytes"]).all()
    if shape.churn == "none":
        assert counters["bytes_lost"] == 0


# --- L5


def columns(record: RunRecord) -> dict[str, np.ndarray[Any, Any]]:
    tables = {
        "requests": record.requests,
        "nodes": record.nodes,
        "segments": record.segments,
        "incidents": record.incidents,
    }
    return {f"{t}.{n}": column for t, table in tables.items() for n, column in table.items()}


@quick
@given(shapes())
def test_the_same_seed_gives_the_same_bytes(shape: Shape) -> None:
    first, second = simulate_reference(build(shape)), simulate_reference(build(shape))
    for name, column in columns(first).items():
        assert column.tobytes() == columns(second)[name].tobytes(), name
    assert (first.texts, first.counters, first.end_s) == (
        second.texts,
        second.counters,
        second.end_s,
    )


# --- L6


class Log:
    """Decisions with their times."""

    def __init__(self) -> None:
        self.lines: list[tuple[float, object]] = []

    def before(self, time_s: float) -> list[tuple[float, object]]:
        return [line for line in self.lines if line[0] < time_s]


class LoggedRouter(Router):
    def __init__(self, inner: Router, log: Log) -> None:
        self.inner, self.log = inner, log

    def route(self, request: Request, view: RoutingView) -> ReplicaView:
        chosen = self.inner.route(request, view)
        self.log.lines.append((view.now, ("route", request.request_id, chosen.index)))
        return chosen


class LoggedBatching(Batching):
    def __init__(self, inner: Batching, log: Log) -> None:
        self.inner, self.log = inner, log
        self.token_budget = inner.token_budget

    def plan(self, view: BatchView) -> Iteration:
        plan = self.inner.plan(view)
        chunks = [(prompt.request.request_id, tokens) for prompt, tokens in plan.chunks]
        self.log.lines.append((view.now, ("plan", chunks, plan.decode and view.decoding)))
        return plan


class LoggedRecovery(Recovery):
    def __init__(self, inner: Recovery, log: Log) -> None:
        self.inner, self.log = inner, log

    def recover(self, loss: Loss) -> Action:
        action = self.inner.recover(loss)
        self.log.lines.append((loss.now, ("recover", loss.request.request_id, action)))
        return action


def logged(experiment: Experiment) -> tuple[Experiment, Log]:
    log = Log()
    return replace(
        experiment,
        router=LoggedRouter(experiment.router, log),
        batching=LoggedBatching(experiment.batching, log),
        recovery=LoggedRecovery(experiment.recovery, log),
    ), log


@quick
@given(
    # with delays that vary nobody knows how late a decision may be seen
    shapes(delivery="first", generative=True, closed=False).filter(
        lambda s: s.network != "varying"
    ),
    st.floats(0.0, 1.0),
)
def test_output_that_is_not_made_yet_changes_no_decision(shape: Shape, part: float) -> None:
    experiment, log = logged(build(shape))
    record = simulate_reference(experiment)
    assume(log.lines)
    time_s = log.lines[int(part * (len(log.lines) - 1))][0]
    # requests that are not over by then would have made more tokens
    over = record.requests["end_s"] < time_s
    other, other_log = logged(build(shape))
    blocks, first = [], 0
    for block in other.workload.blocks(other.streams):
        more = np.full(len(block), 17)
        known = over[first : first + len(block)]
        more[: len(known)][known] = 0
        blocks.append(replace(block, output_tokens=block.output_tokens + more))
        first += len(block)
    simulate_reference(replace(other, workload=Table(tuple(blocks))))
    seen_s = time_s - experiment.cluster.network.delay_s.max()
    assert log.before(seen_s) == other_log.before(seen_s)


@quick
@given(shapes(delivery="first", network="instant", churn="none"))
def test_no_view_has_an_attribute_for_the_output(shape: Shape) -> None:
    seen: set[str] = set()

    class Nosy(FewestTokens):
        def route(self, request: Request, view: RoutingView) -> ReplicaView:
            seen.update((*dir(request), *dir(view), *dir(view.replicas[0])))
            return super().route(request, view)

    simulate_reference(replace(build(shape), router=Nosy()))
    assert not [name for name in seen if "output" in name or "total" in name]


# --- L7


@quick
@given(shapes(), st.sampled_from([0.25, 8.0]))
def test_scaling_all_times_scales_the_results(shape: Shape, scale: float) -> None:
    one, other = simulate_reference(build(shape)), simulate_reference(build(shape, scale))
    assert other.end_s == one.end_s * scale
    scaled = ("_s", "_j", "_g", "_cost")
    others = columns(other)
    for name, column in columns(one).items():
        factor = scale if name.endswith(scaled) else 1
        assert np.array_equal(column * factor, others[name], equal_nan=True), name


# --- L8


@quick
@given(shapes(tight=False), st.data())
def test_renaming_nodes_permutes_the_results(shape: Shape, data: st.DataObject) -> None:
    order = data.draw(st.permutations(range(shape.nodes)))
    one, other = simulate_reference(build(shape)), simulate_reference(build(shape, order=order))
    for name, column in one.requests.items():
        if name == "error":
            assert one.text(column) == other.text(other.requests[name])
        else:
            assert np.allclose(column, other.requests[name], rtol=0, atol=1e-9, equal_nan=True)
    for name, column in one.nodes.items():
        if name == "name":
            assert permuted(one.text(column), order) == other.text(other.nodes[name])
        elif name != "node":
            assert np.allclose(column[order], other.nodes[name], rtol=1e-9, atol=1e-9), name


def permuted(values: Sequence[str], order: Sequence[int]) -> list[str]:
    return [values[i] for i in order]


# --- L9


@quick
@given(shapes())
def test_energy_is_the_integral_of_power(shape: Shape) -> None:
    experiment = build(shape)
    record = simulate_reference(experiment)
    for index, node in enumerate(experiment.cluster.nodes):
        site = experiment.cluster.sites[node.site]
        up = up_intervals(record, index)
        part = record.segments["node"] == index
        rows = {name: column[part].tolist() for name, column in record.segments.items()}
        busy = list(zip(rows["start_s"], rows["end_s"], strict=True))
        tokens = [
            p + d for p, d in zip(rows["prefill_tokens"], rows["decode_sequences"], strict=True)
        ]
        table = experiment.costs.power(index)
        if table is not None and 0 in rows["iterations"]:
            continue  # what a stopped iteration would have computed is not in the record
        powers = [node.device.active_w if table is None else table.at(n) for n in tokens]
        drawn = [(*interval, node.device.idle_w) for interval in up]
        drawn += [
            (*interval, watts - node.device.idle_w)
            for interval, watts in zip(busy, powers, strict=True)
        ]
        energy = carbon = cost = 0.0
        for start, end, power_w in drawn:
            energy += power_w * site.pue * (end - start)
            carbon += power_w * site.pue * site.carbon.integral(start, end) / JOULES_PER_KWH
            cost += power_w * site.pue * site.price.integral(start, end) / JOULES_PER_KWH
        row = {name: column[index] for name, column in record.nodes.items()}
        assert row["energy_j"] == pytest.approx(energy, rel=1e-9, abs=1e-9)
        assert row["carbon_g"] == pytest.approx(carbon, rel=1e-9, abs=1e-9)
        assert row["energy_cost"] == pytest.approx(cost, rel=1e-9, abs=1e-9)
        assert row["up_s"] + row["down_s"] == pytest.approx(record.end_s, abs=1e-9)
        assert row["busy_s"] <= row["up_s"] - row["loading_s"] + 1e-9
        assert all(a[1] <= b[0] for a, b in pairwise(busy))


def up_intervals(record: RunRecord, node: int) -> list[tuple[float, float]]:
    """When a node was up, from what the incidents say."""
    part = record.incidents["node"] == node
    kinds = [INCIDENT_KINDS[kind] for kind in record.incidents["kind"][part]]
    intervals, since_s, is_up = [], 0.0, True
    for kind, time_s in zip(kinds, record.incidents["time_s"][part], strict=True):
        if kind == "down":
            intervals.append((since_s, time_s))
            is_up = False
        elif kind == "up":
            since_s, is_up = time_s, True
    return [*intervals, (since_s, record.end_s)] if is_up else intervals
