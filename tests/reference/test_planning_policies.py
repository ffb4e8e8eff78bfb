"""Placement policies on clusters: what they answer, how good it is, and what they refuse."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infsim.cluster.cluster import Cluster
from infsim.cluster.network import Network
from infsim.cost.costs import Costs
from infsim.engine.paths import check_plan
from infsim.errors import InfeasibleError, InputError
from infsim.model.deployment import Deployment
from infsim.model.graph import Operator, OperatorGraph, chain
from infsim.model.model import Model
from infsim.policy.interface import Plan, Stage
from infsim.policy.placement.bottleneck import bottleneck_ilp
from infsim.policy.placement.instance import Instance, Layered
from infsim.policy.placement.room import Room
from infsim.policy.placement.streams import fuse, stages_of
from infsim.registry import create
from infsim.testing.experiments import cluster, deployment, language_model, node, stream_model

CHAINS = ["uniform", "water-filling", "chain-dp", "ilp-bottleneck", "ilp-latency"]


def placed(spec: Any, what: Deployment, where: Cluster) -> Plan:
    """Place, and check that the plan can be run and fits the memory."""
    costs = Costs(where)
    plan: Plan = create("placement", spec).place(what, where, costs)
    check_plan(str(spec), what, plan)
    costs.reserve(what, plan.stages)
    return plan


def pipelines(plan: Plan) -> list[list[Stage]]:
    assert plan.pipelines is not None
    return [[plan.stages[i] for i in pipeline] for pipeline in plan.pipelines]


def bottleneck_s(instance: Instance, pipeline: Sequence[Stage]) -> float:
    return max(instance.step_s(stage.node, stage.operators) for stage in pipeline)


def loop_s(instance: Instance, pipeline: Sequence[Stage], answer_tokens: int) -> float:
    """Time from token to token, as `ilp-latency` minimises it."""
    size = instance.costs.activation_bytes(instance.deployment, 0) * instance.step_tokens
    hop, delay = instance.transfer_s(size), instance.cluster.network.delay_s
    to_node, from_node = instance.client_s()
    first, last = pipeline[0].node, pipeline[-1].node
    total = sum(instance.step_s(stage.node, stage.operators) for stage in pipeline)
    total += sum(hop[a.node, b.node] for a, b in pairwise(pipeline)) + delay[last, first]
    return float(total + (to_node[first] + from_node[last]) / answer_tokens)


def small(*layers: int, operators: int = 6) -> tuple[Deployment, Cluster]:
    where = cluster([node(i, held) for i, held in enumerate(layers)])
    return deployment(where, language_model(operators)), where


def headed(layers: int) -> Model:
    """A chain with an embedding at its beginning and a head at its end, each worth two layers."""
    plain = language_model(layers).graph.operators
    extra = 2 * plain[0].parameters
    first = replace(plain[0], extra_parameters=extra)
    last = replace(plain[-1], head_parameters=extra, head_macs=extra)
    return Model("headed", chain([first, *plain[1:-1], last]))


@pytest.mark.parametrize("name", CHAINS)
def test_one_pipeline_over_unequal_nodes(name: str) -> None:
    what, where = small(3, 2, 4, 2, 3)
    plan = placed({"name": name, "replicas": 1}, what, where)
    (pipeline,) = pipelines(plan)
    assert sum(len(stage.operators) for stage in pipeline) == 6


@pytest.mark.parametrize("name", CHAINS)
def test_replicas_fill_the_cluster(name: str) -> None:
    what, where = small(4, 4, 4, 4, 4, 4)
    assert len(pipelines(placed({"name": name, "batch": 1}, what, where))) == 3
    limited = placed({"name": name, "batch": 1, "replicas": 2}, what, where)
    assert len(pipelines(limited)) == 2


@pytest.mark.parametrize("name", CHAINS)
def test_nodes_with_the_whole_model_are_replicas(name: str) -> None:
    what, where = small(8, 8, 8)
    members = pipelines(placed({"name": name, "batch": 1}, what, where))
    assert sorted(stage.node for (stage,) in members) == [0, 1, 2]


@pytest.mark.parametrize("name", [*CHAINS, "petals", "odp"])
def test_a_single_operator(name: str) -> None:
    what, where = small(1, 2, 2, operators=1)
    plan = placed({"name": name, "batch": 1}, what, where)
    assert all(stage.operators == (0,) for stage in plan.stages)


@pytest.mark.parametrize("name", [*CHAINS, "petals", "odp"])
def test_plans_repeat(name: str) -> None:
    what, where = small(3, 2, 4, 2, 3)
    assert placed(name, what, where) == placed(name, what, where)


@pytest.mark.parametrize("name", CHAINS)
def test_embedding_and_head_need_room(name: str) -> None:
    where = cluster([node(i, held) for i, held in enumerate((5, 4, 5, 5, 4))])
    what = deployment(where, headed(8))
    placed({"name": name, "batch": 1, "replicas": 1}, what, where)


@pytest.mark.parametrize("name", [*CHAINS, "petals", "odp"])
def test_what_fits_nowhere_is_said_in_gib(name: str) -> None:
    what, where = small(2, 3, 2, operators=12)
    with pytest.raises(InfeasibleError, match=r"needs 0.02 GiB.*0.01 GiB are missing"):
        placed(name, what, where)


def test_operators_too_large_for_any_node() -> None:
    giants = [replace(op, parameters=op.parameters * 9) for op in language_model(2).graph.operators]
    where = cluster([node(i, 6) for i in range(4)])
    what = deployment(where, Model("giants", chain(giants)))
    with pytest.raises(InfeasibleError, match=r"in pieces too small: 0.03 GiB of operators"):
        placed("ilp-latency", what, where)


@pytest.mark.parametrize("name", [*CHAINS, "petals"])
def test_a_graph_is_not_a_chain(name: str) -> None:
    where = cluster([node(i) for i in range(3)])
    with pytest.raises(InputError, match="not a chain") as caught:
        placed(name, deployment(where, stream_model()), where)
    assert not isinstance(caught.value, InfeasibleError)


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        ({"name": "uniform", "replicas": 0}, "replicas must be at least 1"),
        ({"name": "ilp-latency", "batch": 0}, "batch must be at least 1"),
        ({"name": "ilp-bottleneck", "node_limit": 0}, "nodes >= 1"),
        ({"name": "odp", "operators": 0}, "operators must be at least 1"),
    ],
)
def test_parameters_are_checked(spec: dict[str, Any], text: str) -> None:
    with pytest.raises(InputError, match=text):
        create("placement", spec)


def test_uniform_parts_are_equal_and_as_few_as_needed() -> None:
    what, where = small(2, 3, 1, 4, 3, 2, 3)
    for pipeline in pipelines(placed({"name": "uniform", "batch": 1}, what, where)):
        assert [len(stage.operators) for stage in pipeline] == [2, 2, 2]
    plan = placed({"name": "uniform", "batch": 1, "stages": 6}, what, where)
    assert [stage.node for stage in pipelines(plan)[0]] == [0, 1, 3, 4, 5, 6]


def test_less_kv_room_rather_than_no_plan() -> None:
    what, where = small(3, 2, 4, 2, 3)
    assert placed({"name": "uniform", "batch": 1000}, what, where).notes["batch"] < 20


@pytest.mark.parametrize("seed", range(3))
def test_programs_beat_the_baselines_at_what_they_optimise(seed: int) -> None:
    order = np.random.default_rng(seed).permutation(9)
    where = cluster([node(int(i), 4 + int(i) % 3) for i in order])
    what = deployment(where, headed(12))
    instance = Instance(what, where, Costs(where), 2)
    made = {
        name: pipelines(placed({"name": name, "replicas": 1, "batch": 2}, what, where))[0]
        for name in ("uniform", "water-filling", "chain-dp", "odp")
        if name != "odp"
    }
    exact = {"replicas": 1, "batch": 2, "gap": 0.0, "node_limit": 5000}
    fast = pipelines(placed({"name": "ilp-bottleneck", **exact}, what, where))[0]
    near = pipelines(placed({"name": "ilp-latency", **exact}, what, where))[0]
    for baseline in made.values():
        assert bottleneck_s(instance, fast) <= bottleneck_s(instance, baseline) * (1 + 1e-9)
        assert loop_s(instance, near, 128) <= loop_s(instance, baseline, 128) * (1 + 1e-9)
    assert bottleneck_s(instance, fast) <= bottleneck_s(instance, near)
    assert loop_s(instance, near, 128) <= loop_s(instance, fast, 128)


def test_objectives_are_what_the_engine_would_charge() -> None:
    what, where = small(3, 2, 4, 2, 3)
    instance = Instance(what, where, Costs(where), 8)
    for name, charge in (("ilp-bottleneck", bottleneck_s), ("ilp-latency", loop_s)):
        plan = placed({"name": name, "replicas": 1, "gap": 0.0}, what, where)
        (pipeline,), (program,) = pipelines(plan), plan.notes["programs"]
        extra = (128,) if charge is loop_s else ()
        instance = replace(instance, batch=plan.notes["batch"])
        assert program["objective_s"] == pytest.approx(charge(instance, pipeline, *extra), rel=1e-9)
        assert (plan.notes["status"], plan.notes["gap"]) == ("optimal", pytest.approx(0, abs=1e-6))
        assert program["bound_s"] <= program["objective_s"]


def test_layers_are_priced_as_the_engine_prices_stages() -> None:
    where = cluster([node(i, 9) for i in range(3)])
    instance = Instance(deployment(where, headed(8)), where, Costs(where), 3)
    chain_of = Layered.of(instance, (2, 0))
    for i, member in enumerate((2, 0)):
        layer_s, base_s, head_s = (
            a[i] for a in (chain_of.layer_s, chain_of.overhead_s, chain_of.last_s)
        )
        assert instance.span_s(member, 2, 5) == pytest.approx(base_s + 3 * layer_s)
        assert instance.span_s(member, 5, 8) == pytest.approx(base_s + 3 * layer_s + head_s)
        each, stage_s = instance.operators_s(member)
        assert instance.span_s(member, 4, 8) == pytest.approx(stage_s + each[4:].sum())


def test_transfers_are_bound_by_the_narrowest_part() -> None:
    members = [replace(node(0), uplink_bytes_per_s=4.0), replace(node(1), downlink_bytes_per_s=2.0)]
    where = cluster(members, [])
    where = replace(where, network=Network(np.full((2, 2), 0.5), np.full((2, 2), 3.0)))
    instance = Instance(deployment(where), where, Costs(where), 1)
    assert instance.transfer_s(12.0)[0, 1] == pytest.approx(0.5 + 12 / 2)
    assert instance.transfer_s(12.0)[1, 0] == pytest.approx(0.5 + 12 / 3)
    assert instance.transfer_s(12.0)[0, 0] == 0.0


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 3), st.integers(1, 2), st.integers(0, 2**32 - 1))
def test_shared_bottleneck_equals_enumeration(n: int, count: int, seed: int) -> None:
    """With overheads, a head, room that depends on the place, and several pipelines."""
    rng = np.random.default_rng(seed)
    layers = int(rng.integers(1, 4))
    t, fixed, head = rng.uniform(1e-3, 1e-2, (3, n))
    room = Room(*rng.integers(0, 4, (4, n)))
    best = min(bottlenecks(n, layers, count, t, fixed, head, room), default=np.inf)
    options = {"overheads": fixed, "last_s": head, "pipelines": count}
    if not np.isfinite(best):
        with pytest.raises(ValueError, match=r"room|feasible"):
            bottleneck_ilp(t, room, layers, **options)
        return
    found = bottleneck_ilp(t, room, layers, **options)
    assert found.bottleneck_s == pytest.approx(best, rel=1e-5)
    assert (np.array(found.counts).astype(bool).sum(axis=0) <= 1).all()


def bottlenecks(
    n: int, layers: int, count: int, t: Any, fixed: Any, head: Any, room: Room
) -> list[float]:
    """Bottlenecks of all ways to make so many pipelines of disjoint sets of nodes."""
    from itertools import permutations, product

    single: dict[frozenset[int], float] = {}
    for size in range(1, n + 1):
        for order in permutations(range(n), size):
            limits = [room.first[order[0]], *(room.inner[i] for i in order[1:-1])]
            limits = [room.only[order[0]]] if size == 1 else [*limits, room.last[order[-1]]]
            for counts in product(*[range(1, int(c) + 1) for c in limits]):
                if sum(counts) == layers:
                    times = [fixed[i] + k * t[i] for i, k in zip(order, counts, strict=True)]
                    times[-1] += head[order[-1]]
                    held = frozenset(order)
                    single[held] = min(single.get(held, np.inf), max(times))
    if count == 1:
        return list(single.values())
    return [max(a, b) for x, a in single.items() for y, b in single.items() if not x & y]


@given(st.lists(st.integers(0, 5), min_size=1, max_size=8), st.integers(1, 8))
def test_packing_is_a_lower_bound(capacities: list[int], layers: int) -> None:
    room = Room.of(capacities, layers)
    assert 0 <= room.packed(layers) <= sum(min(c, layers) for c in capacities) // layers


# --- graphs ---------------------------------------------------------------------------------


@st.composite
def graphs(draw: st.DrawFn) -> OperatorGraph:
    size = draw(st.integers(1, 8))
    graph: nx.DiGraph[Any] = nx.DiGraph()
    for i in range(size):
        graph.add_node(i, operator=Operator(f"op{i}", 1e6, 1e6, 10))
    for j in range(1, size):
        for i in draw(st.sets(st.integers(0, j - 1), min_size=1, max_size=3)):
            graph.add_edge(i, j)
    return OperatorGraph(graph)


@given(graphs(), st.data())
def test_stages_of_any_assignment_form_a_pipeline(
    graph: OperatorGraph, data: st.DataObject
) -> None:
    where = cluster([node(i, 20) for i in range(3)])
    what = deployment(where, Model("any", graph, generative=False))
    nodes = data.draw(st.lists(st.integers(0, 2), min_size=len(graph), max_size=len(graph)))
    stages = stages_of(graph, nodes)
    check_plan("any", what, Plan(stages, (tuple(range(len(stages))),)))


@given(graphs(), st.integers(1, 4))
def test_fusing_keeps_a_topological_order(graph: OperatorGraph, limit: int) -> None:
    where = cluster([node(i, 20) for i in range(2)])
    what = deployment(where, Model("any", graph, generative=False))
    parts = fuse(Instance(what, where, Costs(where), 1), {0: 0, len(graph) - 1: 1}, limit)
    assert sorted(i for part in parts for i in part) == list(range(len(graph)))
    at = {i: k for k, part in enumerate(parts) for i in part}
    assert all(at[i] <= at[j] for i, j, _ in graph.edges)
    assert len(graph) == 1 or at[0] != at[len(graph) - 1]


def test_a_chain_is_fused_to_the_limit() -> None:
    where = cluster([node(i, 40) for i in range(2)])
    what = deployment(where, language_model(24))
    parts = fuse(Instance(what, where, Costs(where), 1), {}, 6)
    assert [len(part) for part in parts] == [4] * 6


def test_odp_pins_and_objectives() -> None:
    where = cluster([node(i, 6) for i in range(4)])
    what = deployment(where, stream_model())
    pinned = {"parse": "node-3", "store": "node-1"}
    apart = placed({"name": "odp", "pinned": pinned, "gap": 0.0}, what, where)
    at = {i: stage.node for stage in apart.stages for i in stage.operators}
    assert (at[0], at[4]) == (3, 1)
    local = placed({"name": "odp", "response_time": 0.0, "network_usage": 1.0}, what, where)
    assert len({stage.node for stage in local.stages}) == 1
    assert local.notes["metrics"]["network_usage"] == 0.0
    assert apart.notes["metrics"]["response_time"] > 0


def test_odp_says_which_pin_is_misspelt() -> None:
    where = cluster([node(i, 6) for i in range(2)])
    what = deployment(where, stream_model())
    for pinned in ({"prase": "node-1"}, {"parse": "node-l"}):
        with pytest.raises(InputError, match=r"did you mean '(parse|node-1)'"):
            placed({"name": "odp", "pinned": pinned}, what, where)


def test_odp_keeps_the_sources_together() -> None:
    graph: nx.DiGraph[Any] = nx.DiGraph()
    for name in ("left", "right", "join"):
        graph.add_node(name, operator=Operator(name, 2e6, 1e6, 100))
    graph.add_edges_from([("left", "join"), ("right", "join")])
    where = cluster([node(i, 5) for i in range(3)])
    what = deployment(where, Model("two sources", OperatorGraph(graph), generative=False))
    plan = placed("odp", what, where)
    assert plan.stages[0].operators[:2] == (0, 1)


# --- petals ---------------------------------------------------------------------------------


def test_petals_makes_a_mesh_that_covers_the_chain() -> None:
    what, where = small(3, 2, 4, 2, 3, 4, 2)
    plan = placed({"name": "petals", "batch": 1}, what, where)
    assert plan.pipelines is None
    assert {i for stage in plan.stages for i in stage.operators} == set(range(6))
    assert plan.notes["max_flow_tokens_per_s"] > 0
    still = placed({"name": "petals", "batch": 1, "quality": 0.0}, what, where)
    assert [len(stage.operators) for stage in still.stages] == [
        len(stage.operators) for stage in plan.stages
    ]
