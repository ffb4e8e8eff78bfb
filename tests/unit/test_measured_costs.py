"""Costs from measured kernels: exact where measured, lines between, never faster than physics."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from math import inf
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from infsim.cluster.device import load_device
from infsim.cluster.node import Node
from infsim.cost.attention import AttentionTime
from infsim.cost.calibration import Calibration, calibrated_devices, device_calibration
from infsim.cost.curves import Curve, total
from infsim.cost.kernels import covers
from infsim.cost.linear import LinearTimes, Peak, used_experts
from infsim.cost.measured import MeasuredStepCost
from infsim.cost.tables import CollectiveTable, LinearTable
from infsim.errors import InputError
from infsim.model.catalog import load, load_format
from tests.calibrations import BF16, TINY, TOKENS, a_calibration, a_cost

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
