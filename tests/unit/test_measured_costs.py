"""Costs from measured kernels: exact where measured, lines between, never faster than physics."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from math import inf
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from infsim.cluster.cluster import Cluster
from infsim.cluster.device import load_device
from infsim.cluster.network import Network
from infsim.cluster.node import Client, Node, Site
from infsim.cost.attention import AttentionTime
from infsim.cost.calibration import (
    AttentionTable,
    Calibration,
    CollectiveTable,
    ElementTable,
    LinearTable,
    calibrated_devices,
    device_calibration,
    read_calibration,
)
from infsim.cost.costs import Costs
from infsim.cost.curves import Curve, total
from infsim.cost.kernels import covers
from infsim.cost.linear import LinearTimes, Peak, used_experts
from infsim.cost.measured import MeasuredStepCost
from infsim.cost.nearest import nearest, scaled
from infsim.cost.roofline import RooflineStepCost
from infsim.cost.sources import power_table
from infsim.errors import InputError
from infsim.model.architecture import Architecture
from infsim.model.catalog import load, load_format
from infsim.model.deployment import Deployment
from infsim.model.graph import Operator

BF16 = load_format("bf16")
TINY = Architecture(
    "tiny", layers=2, hidden=256, heads=4, kv_heads=2, head_dim=64, ffn=512,
    vocabulary=1000, max_context=4096,
).graph().operators  # fmt: skip
SHAPES = ((512, 256), (256, 256), (1024, 256), (256, 512))
TOKENS = (1.0, 2.0, 16.0, 64.0)


def a_calibration(**changes: Any) -> Calibration:
    """Made-up times of the matrices of `TINY` on an RTX 4090, in milliseconds and slow."""
    linear = LinearTable(
        "bf16", "test", TOKENS,
        {shape: tuple(1e-3 * (i + 1) * (2 + m) for m in TOKENS) for i, shape in enumerate(SHAPES)},
        {},
    )  # fmt: skip
    chunks, prefixes, counts, contexts = (16.0, 64.0), (0.0, 128.0), (1.0, 8.0), (64.0, 256.0)
    attention = AttentionTable(
        "bf16", "test", 4, 2, 64,
        chunks, prefixes, tuple(1e-3 * (c + c * p / 64) for c in chunks for p in prefixes),
        counts, contexts, tuple(1e-3 * (1 + d * c / 64) for d in counts for c in contexts),
    )  # fmt: skip
    elements = tuple(
        ElementTable(kernel, width, Curve((1.0, 64.0), (1e-4, 2e-4)))
        for kernel, width in (("norm", 256), ("activation", 512), ("rotary", 384))
    )
    heads = (
        ElementTable("head", 256_000, Curve((1.0, 8.0), (5e-3, 6e-3))),
        ElementTable("sample", 1000, Curve((1.0, 8.0), (1e-3, 2e-3))),
    )
    given: dict[str, Any] = {
        "device": "rtx-4090", "source": "made up", "licence": "none", "linears": (linear,),
        "attentions": (attention,), "elements": (*elements, *heads), "iteration_s": 1e-2,
    }  # fmt: skip
    return Calibration(**given | changes)


def a_cost(**changes: Any) -> MeasuredStepCost:
    return MeasuredStepCost(
        Node("n", load_device("rtx-4090")), BF16, TINY, a_calibration(**changes)
    )


# --- curves -------------------------------------------------------------------------------------


@given(
    st.lists(st.floats(0.5, 1e6), min_size=1, max_size=8, unique=True).map(sorted),
    st.data(),
)
def test_a_curve_is_exact_at_its_points_and_within_them_between(x: list[float], data: Any) -> None:
    assume(all(b - a > 1e-6 * b for a, b in pairwise(x)))
    times = data.draw(st.lists(st.floats(0, 10), min_size=len(x), max_size=len(x)))
    curve = Curve(tuple(x), tuple(times))
    assert [curve.at(a) for a in x] == times
    for (a, s), (b, t) in pairwise(zip(x, times, strict=True)):
        assert min(s, t) - 1e-12 <= curve.at((a + b) / 2) <= max(s, t) + 1e-12
    assert curve.at(x[0] / 2) == times[0]
    assert curve.at(4 * x[-1]) == pytest.approx(4 * times[-1])


def test_curves_add_and_scale() -> None:
    a, b = Curve((1.0, 3.0), (1.0, 3.0)), Curve((2.0, 4.0), (10.0, 30.0))
    both = total([(2, a), (1, b)])
    assert both.x == (1.0, 2.0, 3.0, 4.0)
    assert both.at(3) == 2 * 3 + 20
    assert b.scaled(2).at(1) == b.at(2)


@pytest.mark.parametrize(
    ("x", "times", "said"),
    [((), (), "0 points"), ((1.0, 1.0), (1.0, 1.0), "increase"), ((1.0,), (-1.0,), "negative")],
)
def test_a_broken_curve_is_refused(x: Any, times: Any, said: str) -> None:
    with pytest.raises(InputError, match=said):
        Curve(x, times)


# --- steps --------------------------------------------------------------------------------------


def test_a_step_is_the_sum_of_its_kernels_at_measured_points() -> None:
    """8 decodes of 64 entries: 10 tokens are not measured, 16 are."""
    cost = a_cost()
    matrices = 1e-3 * (1 + 2 + 3 + 4) * (2 + 16)
    elements = [1e-4 + 1e-4 * 15 / 63] * 4  # two norms, activation, rotary
    layer = matrices + sum(elements)
    attention = 1e-3 * (16 + 16 * 128 / 64)
    embedding = 3e-6 + 16 * 2 * 256 * 2 / load_device("rtx-4090").bandwidth_bytes_per_s
    found = cost.step_s(16, 16 * 128 + 16 * 17 / 2, 144, 0, 0.0, 1)
    expected = 1e-2 + 2 * (layer + attention) + embedding + elements[0] + 5e-3 + 1e-3
    assert found == pytest.approx(expected, rel=1e-12)
    assert cost.extrapolated == 0
    decode = cost.step_s(0, 0, 0, 1, 64.0, 1)
    base = 1e-2 + 2 * (1e-2 * 3 + 4e-4) + 1e-4 + 6e-3
    assert decode == pytest.approx(base + 2 * 2e-3, rel=1e-4)  # and the embedding


def test_mixed_batches_are_sums_unless_they_were_measured() -> None:
    cost = a_cost()

    def more_context(tokens: int) -> float:
        batches = [(tokens, tokens * 30.0, 0.0, 4, c, 4) for c in (400.0, 500.0)]
        return cost.step_s(*batches[1]) - cost.step_s(*batches[0])

    assert more_context(0) > 0
    assert more_context(12) == pytest.approx(more_context(0))
    table = a_calibration().attentions[0]
    joint = replace(
        table,
        mixed_chunks=table.chunks, mixed_prefixes=table.prefixes,
        mixed_sequences=table.sequences, mixed_contexts=table.contexts,
        mixed_s=tuple(float(i) for i in range(16)),
    )  # fmt: skip
    times = AttentionTime(joint)
    for i, chunk in enumerate(joint.chunks):
        for j, prefix in enumerate(joint.prefixes):
            pairs = chunk * prefix + chunk * (chunk + 1) / 2
            for k, count in enumerate(joint.sequences):
                for m, context in enumerate(joint.contexts):
                    found = times.mixed_s(chunk, pairs, int(count), count * context)
                    assert found == pytest.approx(((i * 2 + j) * 2 + k) * 2 + m)
    middle = times.mixed_s(40, 40 * 64 + 40 * 41 / 2, 1, 160.0)
    assert middle == pytest.approx(8 / 2 + 4 / 2 + 1 / 2)


def test_heads_are_amounts_of_work() -> None:
    """Twice the heads over so many sequences is as much as so many heads over twice as many."""
    table = a_calibration().attentions[0]
    one, two = AttentionTime(table), AttentionTime(table, 2.0, 2.0)
    assert two.decode_s(3) == pytest.approx(one.decode_s(6))
    pairs = 16 * 17 / 2
    assert two.prefill_s(16, pairs) == pytest.approx(one.prefill_s(32, 2 * pairs))


def test_calls_outside_of_the_grid_are_counted() -> None:
    cost = a_cost()
    for inside in ((0, 0, 0, 8, 8 * 256.0, 8), (64, 64 * 65 / 2, 64, 0, 0.0, 1)):
        cost.step_s(*inside)
    assert cost.extrapolated == 0
    for outside in (
        (0, 0, 0, 9, 9 * 64.0, 9),  # sequences
        (0, 0, 0, 8, 8 * 257.0, 8),  # context
        (65, 65 * 66 / 2, 65, 0, 0.0, 1),  # chunk
        (64, 64 * 2000.0, 2064, 0, 0.0, 1),  # prefix
    ):
        before = cost.extrapolated
        cost.step_s(*outside)
        assert cost.extrapolated == before + 1
    cost.decode_line(9, 900.0)
    assert cost.extrapolated == 5


@pytest.mark.parametrize("name", calibrated_devices())
@settings(deadline=None, max_examples=40)
@given(
    sequences=st.integers(1, 700), mean=st.integers(1, 30_000), more=st.integers(0, 10**6),
    devices=st.sampled_from([1, 2, 8]),
)  # fmt: skip
def test_decode_line_is_the_step_itself(
    name: str, sequences: int, mean: int, more: int, devices: int
) -> None:
    cost = shipped(name, "llama-3.1-8b", devices)
    context = sequences * mean
    base, slope, limit = cost.decode_line(sequences, context)
    assert limit >= context
    for c in (context, min(context + more, limit)):
        if c < inf:
            assert base + slope * c == cost.step_s(0, 0, 0, sequences, c, sequences)


_SHIPPED: dict[tuple[Any, ...], MeasuredStepCost] = {}


def shipped(name: str, model: str, devices: int = 1, form: str = "") -> MeasuredStepCost:
    key = name, model, devices, form
    if key not in _SHIPPED:
        known = device_calibration(name)
        assert known is not None
        fmt = load_format(form or known.linears[0].format)
        node = Node("n", load_device(name), devices)
        _SHIPPED[key] = MeasuredStepCost(node, fmt, load(model).graph.operators, known)
    return _SHIPPED[key]


def formats_of(name: str) -> list[str]:
    known = device_calibration(name)
    assert known is not None
    return [t.format for t in known.linears if covers(known, load_format(t.format), TINY)]


@pytest.mark.parametrize(
    ("name", "form"), [(name, form) for name in calibrated_devices() for form in formats_of(name)]
)
@settings(deadline=None, max_examples=40)
@given(
    model=st.sampled_from(["llama-2-7b", "llama-3.1-8b", "llama-3.2-1b", "llama-2-70b"]),
    devices=st.sampled_from([1, 4]), tokens=st.integers(0, 5000), prefix=st.integers(0, 20_000),
    chunks=st.integers(1, 8), sequences=st.integers(0, 500), mean=st.integers(1, 40_000),
)  # fmt: skip
def test_a_step_is_never_faster_than_physics(
    name: str, form: str, model: str, devices: int, tokens: int, prefix: int, chunks: int,
    sequences: int, mean: int,
) -> None:  # fmt: skip
    """All bytes at the memory's peak, and all multiplications at a tenth more than the peak."""
    assume(tokens or sequences)
    chunks = min(chunks, tokens) or 1
    share = tokens / chunks
    pairs = tokens * prefix + tokens * (share + 1) / 2
    context = float(sequences * mean)
    batch = (tokens, pairs, tokens + prefix * chunks, sequences, context, sequences)
    found = shipped(name, model, devices, form).step_s(*batch)
    device, fmt = load_device(name), load_format(form)
    operators = load(model).graph.operators
    peak = 1.1 * max(device.peak_flops.values()) * devices
    macs = sum(
        op.macs_per_token * (tokens + sequences)
        + 2 * op.attention_dim * pairs
        + op.head_macs * sequences
        for op in operators
    )
    weights = sum(sum(m.n * m.k for m in op.linears) for op in operators)
    read = weights * fmt.weight_bits / 8
    read += sum(op.kv_values_per_token for op in operators) * context * fmt.kv_bits / 8
    assert found >= 2 * macs / peak * (1 - 1e-9)
    # KV heads are no fewer than devices in these models, so that they divide
    assert found >= read / (device.bandwidth_bytes_per_s * devices) * (1 - 1e-9)


def test_monotone_kernels_make_monotone_steps() -> None:
    cost = a_cost()
    by_tokens = [cost.step_s(t, t * (t + 1) / 2, t, 0, 0.0, 1) for t in range(1, 300)]
    by_context = [cost.step_s(0, 0, 0, 4, float(c), 4) for c in range(4, 3000, 7)]
    by_sequences = [cost.step_s(0, 0, 0, n, 100.0 * n, n) for n in range(1, 40)]
    for times in (by_tokens[:16], by_context, by_sequences):
        assert all(b >= a * (1 - 1e-12) for a, b in pairwise(times))


def test_a_decode_costs_less_than_a_microsecond() -> None:
    cost = shipped(calibrated_devices()[0], "llama-3.1-8b")

    def best(call: Callable[[], object]) -> float:
        seconds = []
        for _ in range(30):
            started = time.perf_counter()
            for _ in range(2000):
                call()
            seconds.append((time.perf_counter() - started) / 2000)
        return min(seconds)

    assert best(lambda: cost.step_s(0, 0.0, 0.0, 20, 30_000.0, 20)) < 1e-6
    assert best(lambda: cost.decode_line(20, 30_000.0)) < 1e-6


# --- shapes that were not measured ----------------------------------------------------------------


def test_the_efficiency_of_other_shapes_is_that_of_their_neighbours() -> None:
    """Kernels at two thirds of what the reference promises do so at all sizes."""
    peak = Peak(mac_s=1e-14, weight_s=1e-12, value_s=1e-12)
    sizes = [(n, k) for n in (1024, 4096, 16384) for k in (1024, 4096)]
    table = LinearTable(
        "bf16", "test", TOKENS,
        {s: tuple(1.5 * peak.reference_s(m, *s) for m in TOKENS) for s in sizes}, {},
    )  # fmt: skip
    times = LinearTimes(table, peak)
    guess = times.curve(6144, 3000)
    for m, t in zip(TOKENS, guess.time_s, strict=True):
        assert t == pytest.approx(1.5 * peak.reference_s(m, 6144, 3000))
    assert times.covers(6144, 3000)
    assert not times.covers(6144, 64)


def test_experts_share_the_tokens() -> None:
    assert used_experts(1, 8, 2) == pytest.approx(2)
    assert used_experts(1000, 8, 2) == pytest.approx(8)
    mixtral = shipped("a100-80gb", "mixtral-8x7b")
    one, many = (mixtral.step_s(0, 0, 0, n, 100.0 * n, n) for n in (1, 64))
    assert 2.5 < many / one < 6  # a token reads 2 of 8 experts, 64 read all


def test_experts_that_were_measured_together_are_priced_at_those_that_get_tokens() -> None:
    peak = Peak(1e-16, 1e-14, 1e-14)
    grouped = tuple((m, Curve((1.0, 8.0), (m + 1.0, m + 8.0))) for m in (1.0, 64.0))
    table = replace(a_calibration().linears[0], experts={(384, 256, 8): grouped})
    curve = LinearTimes(table, peak).grouped([(256, 256), (256, 128)], 8, 2)
    assert curve is not None
    assert curve.at(1) == pytest.approx(1 + 2)
    assert curve.at(64) == pytest.approx(64 + 8, rel=1e-6)
    assert LinearTimes(table, peak).grouped([(256, 256)], 8, 2) is None
    known = a_calibration(linears=(table,))
    assert Calibration.from_json(json.loads(json.dumps(known.to_json()))).linears[0].experts


def test_tensor_parallelism_divides_and_reduces() -> None:
    slow = CollectiveTable(2, Curve((1.0, 1e6), (1e-3, 2e-3)))
    node = Node("n", load_device("rtx-4090"), 2)
    free = MeasuredStepCost(
        replace(node, interconnect_latency_s=0.0, interconnect_bytes_per_s=1e30),
        BF16, TINY, a_calibration(collectives=(slow,)),
    )  # fmt: skip
    priced = MeasuredStepCost(node, BF16, TINY, a_calibration(collectives=(slow,)))
    batch = (0, 0.0, 0.0, 1, 64.0, 1)
    extra = 2 * 2 * slow.curve.at(256 * 2)
    assert priced.step_s(*batch) - free.step_s(*batch) == pytest.approx(extra, rel=1e-6)


# --- the choice -----------------------------------------------------------------------------------


def costs(name: str, form: str = "bf16", figures: Any = None, **options: Any) -> Any:
    node = Node("n", replace(load_device(name), **figures or {}))
    where = Cluster((node,), (Client("c"),), {"default": Site("default")}, Network.full_mesh(2))
    deployment = Deployment("d", load("llama-3.1-8b"), load_format(form), (0,))
    return Costs(where, **options).step(0, deployment, range(32))


def test_a_calibrated_device_is_priced_by_its_kernels() -> None:
    assert costs("rtx-4090").calibrated
    assert costs("rtx-4090", "fp16").calibrated  # as fast as bf16
    assert costs("l40s", "fp8").calibrated
    assert isinstance(costs("rtx-4090", source="roofline"), RooflineStepCost)


def test_measured_power_holds_unless_the_scenario_states_its_own() -> None:
    a100 = load_device("a100-80gb")
    table = power_table(a100)
    assert table is not None
    assert a100.idle_w < table.at(1) < table.at(4096) <= a100.active_w
    assert power_table(replace(a100, active_w=300.0)) is None
    assert power_table(a100, "roofline") is None
    assert power_table(load_device("rtx-4090")) is None
    assert power_table(replace(a100, name="mine")) is None


def test_another_device_takes_those_of_the_nearest_one_scaled() -> None:
    other = costs("a100-40gb")
    assert isinstance(other, MeasuredStepCost)
    assert not other.calibrated
    assert "scaled to a100-40gb" in other.source
    assert isinstance(costs("rtx-4090", "pruned50"), RooflineStepCost)
    assert isinstance(costs("p100"), RooflineStepCost)  # nothing of its family was measured
    # of the same name, but another one
    assert not costs("rtx-4090", figures={"bandwidth_bytes_per_s": 5e11}).calibrated


def test_scaling_to_itself_changes_nothing_and_to_half_doubles() -> None:
    known, device = a_calibration(), load_device("rtx-4090")
    same = scaled(known, device)
    assert (same.linears, same.attentions, same.elements) == (
        known.linears, known.attentions, known.elements,
    )  # fmt: skip
    half = replace(
        device,
        bandwidth_bytes_per_s=device.bandwidth_bytes_per_s / 2,
        peak_flops={kind: rate / 2 for kind, rate in device.peak_flops.items()},
    )
    launch = 3e-6
    for a, b in zip(known.attentions[0].decode_s, scaled(known, half).attentions[0].decode_s,
                    strict=True):  # fmt: skip
        assert b - launch == pytest.approx(2 * (a - launch))
    assert nearest(load_device("a100-40gb"), BF16, TINY, but=calibrated_devices()) is None


def test_a_file_of_coefficients_prices_the_device_that_it_names(tmp_path: Path) -> None:
    file = tmp_path / "costs.json"
    file.write_text(json.dumps(a_calibration().to_json()), encoding="utf-8")
    assert "made up" in costs("rtx-4090", source=file).source
    assert "made up" not in costs("l40s", source=file).source


# --- the file -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", calibrated_devices())
def test_what_infsim_ships_reads_back_and_states_source_and_errors(name: str) -> None:
    known = device_calibration(name)
    assert known is not None
    assert known.device == name == load_device(name).name
    assert known.source
    assert {error["what"] for error in known.errors} >= {"linear"}
    again = Calibration.from_json(json.loads(json.dumps(known.to_json())))
    assert again.to_json() == known.to_json()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda d: d.pop("linear"), "no 'linear'"),
        (lambda d: d.update(liner=[]), "unknown key 'liner'.*'linear'"),
        (lambda d: d["attention"][0]["decode"]["time_us"].pop(), "4 cells, 3 times"),
        (lambda d: d["linear"][0]["shapes"][0]["time_us"].pop(), "4 points and 3 times"),
        (lambda d: d["attention"][0]["decode"].update(contexts=[64]), "must be several"),
    ],
)
def test_a_damaged_file_says_what_is_wrong(
    tmp_path: Path, change: Callable[[Any], object], said: str
) -> None:
    data = json.loads(json.dumps(a_calibration().to_json()))
    change(data)
    file = tmp_path / "costs.json"
    file.write_text(json.dumps(data), encoding="utf-8")
    with pytest.raises(InputError, match=said) as caught:
        read_calibration(file)
    assert str(file) in str(caught.value)
    file.write_text("{", encoding="utf-8")
    with pytest.raises(InputError, match="cannot read it"):
        read_calibration(file)


def test_operators_without_matrices_are_not_covered() -> None:
    bare = Operator("a", 1e6, 1e6, 100)
    assert covers(a_calibration(), BF16, TINY)
    assert not covers(a_calibration(), BF16, [bare])
    assert not covers(a_calibration(), load_format("fp8"), TINY)


SCENARIO = """
name: one
model: llama-3.1-8b
format: bf16
costs: {costs}
cluster: {{nodes: [{{name: a, device: rtx-4090}}], clients: [{{name: c}}]}}
workload:
  arrivals: {{process: poisson, rate: 2 /s}}
  requests: 5
  lengths: {{input: 300, output: 20}}
"""


@pytest.mark.parametrize(
    ("costs_entry", "source"),
    [("calibrated", "kernels of rtx-4090"), ("roofline", "roofline of"), ("mine.json", "made up")],
)
def test_a_scenario_says_where_iteration_times_come_from(
    tmp_path: Path, costs_entry: str, source: str
) -> None:
    from infsim import run

    wide = a_calibration(
        linears=tuple(
            replace(
                t, shapes={(4096, 4096): t.shapes[256, 256], (28672, 14336): t.shapes[256, 512]}
            )
            for t in a_calibration().linears
        )
    )
    (tmp_path / "mine.json").write_text(json.dumps(wide.to_json()), encoding="utf-8")
    file = tmp_path / "s.yaml"
    file.write_text(SCENARIO.format(costs=costs_entry), encoding="utf-8")
    study = run(file)
    (one,) = study.runs
    assert any(source in text for text in one.details["costs"]["sources"])
    assert any("ncalibrated" in note for note in study.notes) == (costs_entry == "roofline")


def test_a_wrong_source_of_costs_is_told(tmp_path: Path) -> None:
    from infsim import load as load_scenario

    file = tmp_path / "s.yaml"
    file.write_text(SCENARIO.format(costs="rooflin"), encoding="utf-8")
    with pytest.raises(InputError, match=r"neither 'calibrated' nor 'roofline' nor a file.*roofl"):
        load_scenario(file)
