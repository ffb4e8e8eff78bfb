"""Ranks that compute sequences of their own and share experts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infsim.cluster.device import load_device
from infsim.cluster.node import Node
from infsim.cost.calibration import Calibration, device_calibration
from infsim.cost.curves import Curve
from infsim.cost.interface import StepCost
from infsim.cost.sources import step_cost
from infsim.cost.tables import ALL_GATHER, REDUCE_SCATTER
from infsim.errors import InputError
from infsim.fidelity.ranks import RankStepCost
from infsim.fidelity.recorded import Recorded
from infsim.fidelity.replay import cold_start_s, replay
from infsim.model.catalog import load, load_format
from tests.fakes import LinearStepCost
from tests.unit.test_fidelity import recorded

DEVICES = ("l40s", "h200")  # measured kernels, and those of another device scaled
FREE = 1e30


def cost(model: str, device: str, count: int, ranks: int, source: str = "calibrated") -> StepCost:
    node = Node("n", load_device(device), count, data_parallel=ranks)
    node = replace(node, interconnect_bytes_per_s=FREE, interconnect_latency_s=0.0)
    return step_cost(node, load_format("bf16"), load(model).graph.operators, source)


def decode_s(step: StepCost, sequences: int) -> float:
    return step.step_s(0, 0, 0, sequences, 500 * sequences, sequences)


@pytest.mark.parametrize("source", ["calibrated", "roofline"])
@pytest.mark.parametrize("device", DEVICES)
def test_ranks_of_a_dense_model_are_engines_of_their_own(device: str, source: str) -> None:
    one, four = (cost("llama-3.1-8b", device, n, n, source) for n in (1, 4))
    for sequences in (1, 7, 64):
        assert decode_s(four, sequences) == pytest.approx(decode_s(one, sequences), rel=1e-12)
    assert four.step_s(300, 3e4, 300, 5, 900, 6) == one.step_s(300, 3e4, 300, 5, 900, 6)


@pytest.mark.parametrize("source", ["calibrated", "roofline"])
@pytest.mark.parametrize("device", DEVICES)
def test_shared_experts_are_read_once(device: str, source: str) -> None:
    """With a free interconnect: cheaper than alone, dearer than if the others had nothing to do."""
    one, four = (cost("qwen3-30b-a3b", device, n, n, source) for n in (1, 4))
    assert decode_s(four, 64) < decode_s(one, 64)
    # each rank has a fourth of the experts, of which four times the tokens use more
    assert decode_s(four, 64) > decode_s(one, 64) / 4


def test_an_exchange_takes_time() -> None:
    node = Node("n", load_device("l40s"), 4, data_parallel=4)
    slow = replace(node, interconnect_bytes_per_s=1e9)
    operators = load("qwen3-30b-a3b").graph.operators
    for source in ("calibrated", "roofline"):
        times = [
            decode_s(step_cost(n, load_format("bf16"), operators, source), 64) for n in (node, slow)
        ]
        assert times[1] > times[0]


def test_measured_exchanges_are_gathers_and_scatters() -> None:
    """Each twice as slow: as much more as it takes for the bytes of a rank, in every layer."""
    known = device_calibration("rtx-pro-6000")
    assert known is not None
    node = Node("n", load_device("rtx-pro-6000"), 2, data_parallel=2)
    model = load("qwen3-30b-a3b")
    operators = model.graph.operators
    layers = sum(op.experts > 1 for op in operators)

    def of(calibration: Calibration) -> float:
        return decode_s(step_cost(node, load_format("bf16"), operators, calibration), 64)

    for name in (ALL_GATHER, REDUCE_SCATTER):
        (table,) = (t for t in known.collectives if (t.name, t.devices) == (name, 2))
        slow = replace(table, curve=Curve(table.curve.x, tuple(2 * t for t in table.curve.time_s)))
        slower = tuple(slow if t is table else t for t in known.collectives)
        once_s = table.curve.at(64 * 2048 * 2)  # 64 tokens of 2,048 values in 16 bits
        more_s = of(replace(known, collectives=slower)) - of(known)
        assert more_s == pytest.approx(layers * once_s)


def test_ranks_have_to_be_equal() -> None:
    with pytest.raises(InputError, match="3 devices do not make 2 equal ranks"):
        Node("n", load_device("l40s"), 3, data_parallel=2)


COST = LinearStepCost(2e-3, 4e-4, 1e-7, 1e-6, 4e-4, 1.1e-6, 1e-4)


@given(st.integers(1, 64), st.floats(1, 1e5), st.integers(1, 4))
def test_decodes_of_all_ranks_lie_on_a_line(sequences: int, context: float, ranks: int) -> None:
    step = RankStepCost(COST, ranks)
    base_s, slope_s, limit = step.decode_line(sequences, context)
    assert limit >= context
    expected = step.step_s(0, 0, 0, sequences, context, sequences)
    assert base_s + slope_s * context == pytest.approx(expected, rel=1e-12)


@given(st.integers(1, 2000), st.integers(0, 64))
def test_one_rank_is_the_engine(prefill: int, decodes: int) -> None:
    batch = prefill, prefill * (prefill + 1) / 2, prefill, decodes, 300 * decodes, decodes + 1
    assert RankStepCost(COST, 1).step_s(*batch) == COST.step_s(*batch)


def test_two_prompts_are_on_a_rank_each() -> None:
    """As long as one of them; one alone, or three, leave a rank with more."""

    def of(prompts: int, ranks: int) -> float:
        pairs = prompts * 512 * 513 / 2
        return RankStepCost(COST, ranks).step_s(512 * prompts, pairs, 512 * prompts, 0, 0, prompts)

    assert of(2, 2) == pytest.approx(of(1, 1))
    assert of(1, 2) == pytest.approx(of(1, 1))
    assert of(3, 2) == pytest.approx(of(2, 1))


def test_two_engines_of_a_dense_model_serve_twice_as_much() -> None:
    run = recorded()
    all_at_once = replace(run, arrival_s=np.zeros(len(run)))
    ends = []
    for engines in (1, 2):
        serving = replace(run.serving, replicas=engines)
        ends.append(replay(replace(all_at_once, serving=serving)).requests["end_s"].max())
    assert ends[1] == pytest.approx(ends[0] / 2, rel=0.15)


def test_a_mixture_of_experts_on_two_ranks_is_met_by_itself() -> None:
    run = recorded(model="qwen3-30b-a3b", device="h200", replicas=2)
    again = replay(run).requests
    np.testing.assert_allclose(again["end_s"], run.end_s)


@pytest.mark.parametrize("late_s", [0.0, 0.7])
def test_a_cold_start_is_found(late_s: float) -> None:
    warm: Recorded = recorded()
    cold = replay(warm, late_s=late_s).requests
    run = replace(warm, first_token_s=cold["first_token_s"], end_s=cold["end_s"])
    found_s = cold_start_s(run)
    assert found_s == pytest.approx(late_s, abs=0.02)
    assert replay(run, late_s=found_s).requests["first_token_s"][0] == pytest.approx(
        run.first_token_s[0], abs=0.02
    )
