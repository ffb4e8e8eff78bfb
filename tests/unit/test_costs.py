"""The roofline and the facade of costs: physical bounds, exact lines, exact bytes."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infsim.cluster.cluster import Cluster
from infsim.cluster.device import Device, load_device
from infsim.cluster.network import Network
from infsim.cluster.node import Client, Node, Site
from infsim.cost.costs import Costs
from infsim.cost.roofline import RooflineStepCost
from infsim.errors import InfeasibleError
from infsim.model.catalog import FORMATS, load, load_format
from infsim.model.deployment import Deployment
from infsim.model.formats import Format
from infsim.model.graph import Operator
from infsim.model.model import Model

DEVICES = ("a100-80gb", "t4", "rtx-4090", "gtx-1080-ti", "m2-ultra", "raspberry-pi-5")
MODELS = {name: load(name) for name in ("llama-3.1-8b", "mixtral-8x7b", "bloom-7b1", "resnet50")}


class Batch(NamedTuple):
    """Arguments of ``step_s``."""

    prefill_tokens: int
    prefill_pairs: float
    prefill_context: float
    decode_sequences: int
    decode_context: float
    sequences: int


@st.composite
def batches(draw: st.DrawFn) -> Batch:
    chunks = draw(st.lists(st.tuples(st.integers(1, 2048), st.integers(0, 8192)), max_size=3))
    contexts = draw(st.lists(st.integers(1, 8192), max_size=40))
    ends = draw(st.integers(0, len(chunks)))
    return Batch(
        sum(t for t, _ in chunks),
        sum(t * p + t * (t + 1) / 2 for t, p in chunks),
        sum(p + t for t, p in chunks),
        len(contexts),
        float(sum(contexts)),
        len(contexts) + ends,
    )


@st.composite
def rooflines(draw: st.DrawFn) -> tuple[RooflineStepCost, Node, Format, tuple[Operator, ...]]:
    device = load_device(draw(st.sampled_from(DEVICES)))
    node = Node("n", device, count=draw(st.sampled_from([1, 2, 8])))
    form = load_format(draw(st.sampled_from(FORMATS.names())))
    operators = MODELS[draw(st.sampled_from(sorted(MODELS)))].graph.operators
    start = draw(st.integers(0, len(operators) - 1))
    span = operators[start : draw(st.integers(start + 1, len(operators)))]
    return RooflineStepCost(node, form, span), node, form, span


@settings(deadline=None)
@given(rooflines(), st.integers(1, 4000), st.integers(1, 10**7), st.integers(0, 10**7))
def test_decode_line_is_the_step_itself(
    roofline: tuple[RooflineStepCost, Node, Format, tuple[Operator, ...]],
    sequences: int,
    context: int,
    more: int,
) -> None:
    cost = roofline[0]
    for _ in range(2):  # the second time from the table of lines
        base, slope, limit = cost.decode_line(sequences, context)
        assert limit >= context
        for c in (context, min(context + more, limit)):
            assert base + slope * c == cost.step_s(0, 0, 0, sequences, c, sequences)


@settings(deadline=None)
@given(rooflines(), batches(), batches())
def test_more_work_never_takes_less_time(
    roofline: tuple[RooflineStepCost, Node, Format, tuple[Operator, ...]], a: Batch, b: Batch
) -> None:
    cost = roofline[0]
    time = cost.step_s(*a)
    for i in range(6):
        more: list[Any] = list(a)
        more[i] += b[i]
        assert cost.step_s(*more) >= time * (1 - 1e-12)


@settings(deadline=None)
@given(rooflines(), batches())
def test_a_step_is_never_faster_than_physics(
    roofline: tuple[RooflineStepCost, Node, Format, tuple[Operator, ...]], batch: Batch
) -> None:
    """Not faster than its FLOPs at the device's highest peak, nor than its bytes."""
    cost, node, form, span = roofline
    tokens = batch.prefill_tokens + batch.decode_sequences
    if tokens == 0:
        return
    peak = max(node.device.peak_flops.values()) * node.count
    bandwidth = node.device.bandwidth_bytes_per_s * node.count
    pairs = batch.prefill_pairs + batch.decode_context
    macs = sum(
        op.macs_per_token * form.density * tokens
        + op.head_macs * batch.sequences
        + 2 * op.attention_dim * pairs
        for op in span
    )
    size = sum(
        (op.parameters - op.expert_parameters) * form.weight_bits
        + (op.head_parameters * form.embedding_bits if batch.sequences else 0)
        + op.kv_values_per_token * form.kv_bits * (batch.decode_context + batch.prefill_context)
        for op in span
    )
    time = cost.step_s(*batch)
    assert time >= 2 * macs / peak * (1 - 1e-9)
    assert time >= size / 8 / bandwidth * (1 - 1e-9)


@settings(deadline=None)
@given(rooflines(), batches())
def test_spans_add_up_but_for_the_overhead_of_an_iteration(
    roofline: tuple[RooflineStepCost, Node, Format, tuple[Operator, ...]], batch: Batch
) -> None:
    cost, node, form, span = roofline
    parts = [RooflineStepCost(node, form, part) for part in (span[:1], span[1:]) if part]
    whole = cost.step_s(*batch) + (len(parts) - 1) * node.device.overhead_s
    assert sum(part.step_s(*batch) for part in parts) == pytest.approx(whole, rel=1e-9)


IDEAL = Device("ideal", 2**40, 1e12, {"fp32": 1e13, "fp16": 1e14, "int8": 2e14})


def _step(form: str, *batch: Any, device: Device = IDEAL, **operator: Any) -> float:
    figures: dict[str, Any] = {
        "parameters": 1e9,
        "macs_per_token": 1e9,
        "output_values": 0,
        **operator,
    }
    node = Node("n", device)
    return RooflineStepCost(node, load_format(form), [Operator("op", **figures)]).step_s(*batch)


def test_decode_of_one_sequence_reads_the_weights_once() -> None:
    assert _step("fp16", 0, 0, 0, 1, 0, 0) == pytest.approx(2e9 / 1e12, rel=1e-3)
    assert _step("w8a16", 0, 0, 0, 1, 0, 0) == pytest.approx(1e9 / 1e12, rel=1e-3)


def test_a_long_prompt_runs_at_the_peak_of_the_type_that_multiplies() -> None:
    tokens = 1_000_000
    fp16 = 2e9 * tokens / 1e14
    assert _step("fp16", tokens, 0, 0, 0, 0, 0) == pytest.approx(fp16, rel=1e-3)
    assert _step("w4a16", tokens, 0, 0, 0, 0, 0) == pytest.approx(fp16, rel=1e-3)  # weight-only
    assert _step("w8a8", tokens, 0, 0, 0, 0, 0) == pytest.approx(fp16 / 2, rel=1e-3)
    assert _step("fp32", tokens, 0, 0, 0, 0, 0) == pytest.approx(fp16 * 10, rel=1e-3)
    # no fp8 here: multiplied in fp16
    assert _step("fp8", tokens, 0, 0, 0, 0, 0) == pytest.approx(fp16, rel=1e-3)


def test_zeros_are_skipped_only_where_the_device_can() -> None:
    dense = _step("fp16", 10**6, 0, 0, 0, 0, 0)
    assert _step("sparse24", 10**6, 0, 0, 0, 0, 0) == pytest.approx(dense, rel=1e-3)
    sparse = replace(IDEAL, sparse_patterns=("2:4",))
    assert _step("sparse24", 10**6, 0, 0, 0, 0, 0, device=sparse) == pytest.approx(dense / 2, 1e-3)
    assert _step("pruned50", 10**6, 0, 0, 0, 0, 0, device=sparse) == pytest.approx(dense, rel=1e-3)


def test_no_device_multiplies_zeros_that_are_not_stored() -> None:
    dense = _step("fp16", 10**6, 0, 0, 0, 0, 0)
    for form in ("fp16-csr90", "fp16-block90"):
        assert _step(form, 10**6, 0, 0, 0, 0, 0) == pytest.approx(dense / 10, rel=1e-3)


def test_attention_costs_its_pairs_or_its_kv_bytes() -> None:
    attention: dict[str, Any] = {"parameters": 0, "macs_per_token": 0, "attention_dim": 4096}
    pairs = 1e9
    compute_bound = _step("fp16", 1, pairs, 1, 0, 0, 0, **attention)
    assert compute_bound == pytest.approx(4 * 4096 * pairs / 1e14, rel=1e-6)
    decode = _step("fp16", 0, 0, 0, 1, 1e6, 0, kv_values_per_token=2048, **attention)
    assert decode == pytest.approx(1e6 * 2048 * 2 / 1e12, rel=1e-3)


def test_the_head_runs_once_for_each_sequence_that_needs_logits() -> None:
    head: dict[str, Any] = {
        "parameters": 0,
        "macs_per_token": 0,
        "head_parameters": 5e8,
        "head_macs": 5e8,
    }
    assert _step("fp16", 100, 0, 0, 0, 0, 0, **head) == 0
    assert _step("fp16", 100, 0, 0, 0, 0, 1, **head) == pytest.approx(1e9 / 1e12, rel=1e-3)
    many = 10**6
    assert _step("fp16", 0, 0, 0, many, 0, many, **head) == pytest.approx(1e9 * many / 1e14, 1e-3)


def test_a_mixture_reads_the_experts_that_are_used() -> None:
    experts: dict[str, Any] = {
        "expert_parameters": 8e8,
        "experts": 8,
        "active_experts": 2,
        "parameters": 1e9,
    }
    one, all_ = (_step("fp16", 0, 0, 0, n, 0, 0, macs_per_token=0, **experts) for n in (1, 10**4))
    assert one == pytest.approx(2 * (2e8 + 8e8 * 2 / 8) / 1e12)
    assert all_ == pytest.approx(2 * 1e9 / 1e12)


def test_a_tensor_parallel_group_divides_work_and_adds_reductions() -> None:
    layer = load("llama-2-70b").graph.operators[1:2]
    form = load_format("fp16")

    def step(count: int, **link: Any) -> float:
        node = Node("n", IDEAL, count, **link)
        return RooflineStepCost(node, form, layer).step_s(4096, 0, 0, 0, 0, 0)

    free = {"interconnect_bytes_per_s": 1e30, "interconnect_latency_s": 0.0}
    assert step(4, **free) == pytest.approx(step(1) / 4)
    reduced = 2 * (3 / 4) * 8192 * 2 * 4096 / 100e9
    priced = step(4, interconnect_bytes_per_s=100e9, interconnect_latency_s=1e-5)
    assert priced - step(4, **free) == pytest.approx(2 * (1e-5 + reduced))


# --- facade ---------------------------------------------------------------------------------


def _costs(*nodes: Node, model: str = "llama-2-7b", form: str = "fp16") -> tuple[Costs, Deployment]:
    cluster = Cluster(
        nodes, (Client("c"),), {"default": Site("default")}, Network.full_mesh(len(nodes) + 1)
    )
    everywhere = tuple(range(len(nodes)))
    return Costs(cluster), Deployment("d", load(model), load_format(form), everywhere)


class Hosted(NamedTuple):
    """A stage of a plan."""

    node: int
    operators: tuple[int, ...]


def test_equal_nodes_share_their_step_costs() -> None:
    a100, t4 = load_device("a100-80gb"), load_device("t4")
    costs, deployment = _costs(
        Node("a", a100), Node("b", a100, site="default", uplink_bytes_per_s=1.0),
        Node("t", t4), Node("d", a100, count=2),
    )  # fmt: skip
    steps = [costs.step(node, deployment, range(8)) for node in range(4)]
    assert steps[0] is steps[1]
    assert len({id(step) for step in steps}) == 3
    assert costs.step(0, deployment, range(8, 16)) is not steps[0]
    assert set(costs.step_costs()) == {*steps, costs.step(0, deployment, range(8, 16))}
    assert [step.calibrated for step in steps] == [True, True, False, True]
    assert "a100-80gb" in steps[0].source


def test_memory_of_a_node() -> None:
    costs, deployment = _costs(Node("a", load_device("a100-80gb"), count=2, memory_fraction=0.75))
    assert costs.kv_capacity_bytes(0) == 2 * 60 * 2**30
    assert costs.weight_bytes(deployment, range(32)) == 2 * 6_738_415_616
    assert costs.kv_bytes_per_token(deployment, range(32)) == 2 * 32 * 4096 * 2
    assert costs.kv_bytes_per_token(deployment, range(4)) == 2 * 4 * 4096 * 2
    assert costs.activation_bytes(deployment, 0) == costs.activation_bytes(deployment, 0, 1) == 8192


@settings(deadline=None, max_examples=40)
@given(
    st.integers(1, 40),
    st.integers(0, 40_000),
    st.sampled_from(["llama-2-7b", "llama-3.1-8b", "qwen2.5-0.5b"]),
)
def test_layer_capacity_is_the_most_that_fits(gib: int, tokens: int, model: str) -> None:
    device = replace(IDEAL, memory_bytes=gib * 2**30)
    costs, deployment = _costs(Node("a", device), model=model)
    n = len(deployment.model.graph)

    def fits(span: range) -> bool:
        need = costs.weight_bytes(deployment, span)
        return need + tokens * costs.kv_bytes_per_token(deployment, span) <= costs.free_bytes(0)

    count = costs.layer_capacity(0, deployment, tokens)
    assert all(fits(range(i, i + count)) for i in range(n - count + 1))
    assert count == n or not all(fits(range(i, i + count + 1)) for i in range(n - count))


def test_layer_capacity_leaves_room_for_one_sequence_by_default() -> None:
    costs, deployment = _costs(Node("a", replace(IDEAL, memory_bytes=8 * 2**30)))
    counts = [
        costs.layer_capacity(0, replace(deployment, **change))
        for change in ({}, {"expected_context": 16_384}, {"demand_tokens": 32_768.0})
    ]
    assert counts[0] > counts[1] > counts[2] > 0


def test_reserving_takes_memory_from_those_who_come_later() -> None:
    device = replace(IDEAL, memory_bytes=14 * 2**30)
    costs, deployment = _costs(Node("a", device), Node("b", device))
    stages = [Hosted(0, tuple(range(16))), Hosted(1, tuple(range(16, 32)))]
    left = costs.reserve(deployment, stages)
    for node, (_, operators) in enumerate(stages):
        taken = costs.free_bytes(node) - left.free_bytes(node)
        assert taken == costs.weight_bytes(deployment, operators)
        assert left.layer_capacity(node, deployment) < costs.layer_capacity(node, deployment)
    assert costs.free_bytes(0) == costs.kv_capacity_bytes(0)
    assert left.step(0, deployment, range(3)) is costs.step(0, deployment, range(3))
    with pytest.raises(
        InfeasibleError, match=r"node 'a' lacks \d\.\d\d GiB for the weights of 'd'"
    ):
        left.reserve(deployment, [Hosted(0, tuple(range(32)))])


def test_loading_takes_its_bytes_over_the_rate() -> None:
    costs, _ = _costs(Node("a", IDEAL, load_bytes_per_s=1e9))
    assert costs.load_s(0, 5e9) == 5.0


def test_a_graph_sends_what_its_edge_says() -> None:
    from infsim.model.graph import graph_from_mapping

    graph = graph_from_mapping(
        {"a": {"output_values": 10}, "b": {}, "c": {}}, [["a", "b", 4], ["a", "c"]]
    )
    costs, deployment = _costs(Node("a", IDEAL))
    deployment = replace(deployment, model=Model("g", graph))
    sizes = [costs.activation_bytes(deployment, 0, target) for target in (1, 2)]
    assert sizes == [8, 20]


def test_capacities_fall_with_the_size_of_the_format() -> None:
    node = Node("a", load_device("rtx-3060"))
    counts = []
    for form in ("fp32", "fp16", "w8a16", "w4a16"):
        costs, deployment = _costs(node, model="llama-2-70b", form=form)
        counts.append(costs.layer_capacity(0, deployment))
    assert all(a < b for a, b in pairwise(counts))
