"""No iteration is faster than physics, and more work takes no less time where kernels take none."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import accumulate, pairwise, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infsim.cluster.device import DEVICES, load_device
from infsim.cluster.node import Node
from infsim.cost.calibration import Calibration, calibrated_devices, device_calibration
from infsim.cost.curves import Curve
from infsim.cost.interface import StepCost
from infsim.cost.kernels import covers, linear_table
from infsim.cost.measured import MeasuredStepCost
from infsim.cost.sources import step_cost
from infsim.cost.tables import AttentionTable, LinearTable
from infsim.model.catalog import FORMATS, MODELS, load, load_format
from infsim.model.formats import Format
from infsim.model.graph import Operator
from tests.physics import Batch, least_s

RANKS = (1, 2, 8)
BATCHES = tuple(
    Batch(chunks, tokens, prefix, decodes, context)
    for chunks, tokens, prefix in ((0, 0, 0), (1, 1, 0), (1, 700, 0), (1, 64, 9000), (5, 900, 30))
    for decodes, context in ((0, 0), (1, 1), (17, 90), (200, 3000), (600, 20_000))
    if chunks or decodes
)


def broken(
    cost: StepCost, node: Node, form: Format, operators: Sequence[Operator]
) -> Iterator[tuple[Batch, float, float]]:
    """Yield batches that a cost model prices below the bound, with its time and the bound."""
    for batch in BATCHES:
        found, least = batch.priced(cost), least_s(node, form, operators, batch)
        if not found >= least * (1 - 1e-9):
            yield batch, found, least


def known(name: str) -> Calibration:
    found = device_calibration(name)
    assert found is not None
    return found


def measured(name: str) -> Iterator[tuple[Format, str, tuple[Operator, ...]]]:
    """Yield each format and model that the coefficients of a device price."""
    for table, model in product(known(name).linears, MODELS.names()):
        form, operators = load_format(table.format), tuple(load(model).graph.operators)
        if covers(known(name), form, operators):
            yield form, model, operators


@pytest.mark.parametrize("name", calibrated_devices())
def test_no_measured_iteration_is_faster_than_physics(name: str) -> None:
    """All formats and models, on one device and on several."""
    seen = 0
    for index, (form, model, operators) in enumerate(measured(name)):
        node = Node("n", load_device(name), RANKS[index % len(RANKS)])
        cost = MeasuredStepCost(node, form, operators, known(name))
        assert not list(broken(cost, node, form, operators)), (form.name, model, node.count)
        seen += 1
    assert seen >= 18  # transformers of the catalogue


@settings(deadline=None, max_examples=150)
@given(
    name=st.sampled_from(DEVICES.names()), form=st.sampled_from(FORMATS.names()),
    model=st.sampled_from(MODELS.names()), devices=st.sampled_from(RANKS),
)  # fmt: skip
def test_no_iteration_at_all_is_faster_than_physics(
    name: str, form: str, model: str, devices: int
) -> None:
    """Measured, scaled from another device, fitted to whole steps, or the roofline."""
    node, fmt = Node("n", load_device(name), devices), load_format(form)
    operators = load(model).graph.operators
    assert not list(broken(step_cost(node, fmt, operators), node, fmt, operators))


def test_a_model_that_is_too_fast_is_found() -> None:
    """Kernels a hundred times as fast are held back; the same without the bound are found."""
    node, form = Node("n", load_device("rtx-4090")), load_format("bf16")
    operators = load("llama-3.1-8b").graph.operators
    hurried = replace(known("rtx-4090"), linears=_faster(known("rtx-4090").linears))
    assert not list(broken(MeasuredStepCost(node, form, operators, hurried), node, form, operators))
    faster = Node(
        "n",
        replace(node.device, peak_flops={"bf16": 1e18, "fp32": 1e18}, bandwidth_bytes_per_s=1e18),
    )
    unheld = MeasuredStepCost(faster, form, operators, hurried)
    assert len(list(broken(unheld, node, form, operators))) > len(BATCHES) / 2


def _faster(tables: Sequence[LinearTable]) -> tuple[LinearTable, ...]:
    return tuple(
        replace(t, shapes={s: tuple(x / 100 for x in times) for s, times in t.shapes.items()})
        for t in tables
    )


# --- more work ------------------------------------------------------------------------------------


def monotone(calibration: Calibration) -> Calibration:
    """Return coefficients of which no kernel takes less time for more work."""
    return replace(
        calibration,
        linears=tuple(
            replace(t, shapes={s: _rising(times) for s, times in t.shapes.items()})
            for t in calibration.linears
        ),
        attentions=tuple(map(_rising_attention, calibration.attentions)),
        elements=tuple(
            replace(t, curve=Curve(t.curve.x, _rising(t.curve.time_s)))
            for t in calibration.elements
        ),
        collectives=tuple(
            replace(t, curve=Curve(t.curve.x, _rising(t.curve.time_s)))
            for t in calibration.collectives
        ),
    )


def _rising(times: Sequence[float]) -> tuple[float, ...]:
    return tuple(accumulate(times, max))


def _rising_attention(table: AttentionTable) -> AttentionTable:
    grids = {
        "prefill_s": ("chunks", "prefixes"),
        "decode_s": ("sequences", "contexts"),
        "mixed_s": ("mixed_chunks", "mixed_prefixes", "mixed_sequences", "mixed_contexts"),
    }
    changed = {}
    for times, axes in grids.items():
        cells = np.array(getattr(table, times)).reshape([len(getattr(table, a)) for a in axes])
        for i in range(cells.ndim):
            cells = np.maximum.accumulate(cells, axis=i)
        changed[times] = tuple(cells.ravel().tolist())
    return replace(table, **changed)


def falls(cost: StepCost, allowed: float = 1e-9) -> list[tuple[Batch, Batch]]:
    """Pairs of batches of which the larger one takes less time, by more than is allowed."""
    sizes = (1, 2, 3, 5, 7, 8, 9, 12, 16, 23, 32, 48, 64, 100, 128, 200, 256, 400, 512, 1000)
    ladders = [
        [Batch(1, t, 0) for t in sizes],
        [Batch(1, t, 0, 8, 1000) for t in sizes],
        [Batch(1, 64, p) for p in sizes],
        [Batch(0, 0, 0, n, 500) for n in sizes if n <= 200],
        [Batch(0, 0, 0, 16, c) for c in sizes],
        [Batch(1, 64, 0, 16, c) for c in sizes],
    ]
    return [
        (a, b)
        for ladder in ladders
        for a, b in pairwise(ladder)
        if b.priced(cost) < a.priced(cost) * (1 - allowed)
    ]


def is_known(
    calibration: Calibration, form: Format, node: Node, operators: Iterable[Operator]
) -> bool:
    """Whether the matrices of a model, and as many heads, were measured themselves."""
    table = linear_table(calibration, form)
    assert table is not None
    return all(
        matrix.shard(node.count) in table.shapes
        for op in operators
        for matrix in op.linears
        if not matrix.expert and matrix.name != "router"
    ) and all(
        any(
            (op.heads, op.kv_heads) == (t.heads * node.count, t.kv_heads * node.count)
            for t in calibration.attentions
        )
        for op in operators
    )


@pytest.mark.parametrize("name", calibrated_devices())
def test_more_work_takes_no_less_time_where_kernels_are_so(name: str) -> None:
    """To the last digit where all was measured; what lies between others wavers a little."""
    rising, exact = monotone(known(name)), 0
    for index, (form, model, operators) in enumerate(measured(name)):
        node = Node("n", load_device(name))
        is_exact = is_known(rising, form, node, operators)
        if not is_exact:
            node = replace(node, count=RANKS[index % len(RANKS)])
        cost = MeasuredStepCost(node, form, operators, rising)
        assert not falls(cost, 1e-9 if is_exact else 0.02), (form.name, model, node.count)
        exact += is_exact
    assert exact


def test_kernels_that_take_less_for_more_are_not_smoothed() -> None:
    """Steps are as they were measured: 8 decodes take less than 7 on this core."""
    cost = step_cost(
        Node("n", load_device("epyc-9655-core")),
        load_format("bf16"),
        load("qwen2.5-0.5b").graph.operators,
    )
    assert falls(cost)
