"""Attention of a batch, as fast as it is looked up in a simulation: equal to the obvious way."""

from __future__ import annotations

from math import prod

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infsim.cost.attention import AttentionTime
from infsim.cost.calibration import calibrated_devices, device_calibration
from infsim.cost.grids import Layers, Plane
from infsim.cost.tables import AttentionTable
from tests.attention_times import attention_s, interpolated

AXES = ((16.0, 64.0, 256.0), (0.0, 128.0), (1.0, 8.0, 32.0), (64.0, 256.0, 4096.0))

times = st.floats(1e-6, 1.0)
places = st.tuples(
    st.floats(1, 600), st.floats(0, 400), st.floats(0.5, 90), st.floats(1, 9000)
)  # fmt: skip


def cells(count: int) -> st.SearchStrategy[list[float]]:
    return st.lists(times, min_size=count, max_size=count)


@given(data=st.data(), place=places)
def test_a_plane_and_layers_are_linear_along_each_axis(
    data: st.DataObject, place: tuple[float, float, float, float]
) -> None:
    flat = data.draw(cells(6))
    slow = interpolated(AXES[:2], flat, place[:2])
    scale = 100 * max(flat)  # beyond the axes, lines go far
    assert Plane(*AXES[:2], flat).at(*place[:2]) == pytest.approx(slow, rel=0, abs=1e-14 * scale)
    deep = data.draw(cells(prod(len(axis) for axis in AXES)))
    slow = interpolated(AXES, deep, place)
    found = Layers(*AXES, deep).at(place[2]).at(place[0], place[1], place[3])
    assert found == pytest.approx(slow, rel=0, abs=1e-13 * 100 * max(deep))


@given(data=st.data())
def test_grids_are_exact_at_their_points(data: st.DataObject) -> None:
    deep = data.draw(cells(prod(len(axis) for axis in AXES)))
    layers, flat = Layers(*AXES, deep), iter(deep)
    for x in AXES[0]:
        for y in AXES[1]:
            for held in AXES[2]:
                for z in AXES[3]:
                    assert layers.at(held).at(x, y, z) == pytest.approx(next(flat), rel=1e-14)


SHIPPED = [
    pytest.param(table, id=f"{name}-{table.format}-{table.heads}-{table.kv_heads}")
    for name in calibrated_devices()
    for known in [device_calibration(name)]
    for table in (known.attentions if known else ())
    if table.heads in (14, 32)
]


@pytest.mark.parametrize("table", SHIPPED)
@settings(deadline=None, max_examples=60)
@given(
    prompts=st.lists(
        st.tuples(st.integers(1, 3000), st.integers(0, 20_000)), min_size=1, max_size=4
    ),
    sequences=st.integers(1, 300), mean=st.integers(1, 20_000),
    ratio=st.sampled_from([0.25, 1.0, 2.0]),
)  # fmt: skip
def test_batches_cost_what_the_obvious_way_says(
    table: AttentionTable, prompts: list[tuple[int, int]], sequences: int, mean: int, ratio: float
) -> None:
    entry_s = 1e-12
    cost = AttentionTime(table, ratio, ratio, 0.0, entry_s)
    tokens = sum(t for t, _ in prompts)
    pairs = sum(t * p + t * (t + 1) / 2 for t, p in prompts)
    slow = attention_s(table, ratio, entry_s, tokens, pairs, 0, 0.0)
    assert cost.prefill_s(tokens, pairs) == pytest.approx(slow, rel=1e-12)
    if cost.is_joint:
        context = float(sequences * mean)
        slow = attention_s(table, ratio, entry_s, tokens, pairs, sequences, context)
        slow = max(slow, context * entry_s)
        assert cost.mixed_s(tokens, pairs, sequences, context) == pytest.approx(slow, rel=1e-12)
