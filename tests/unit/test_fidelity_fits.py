"""Costs of stages fitted to measured iterations."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infsim.fidelity.pipeline_steps import GRAIN, KNOTS, TableStepCost, fit

TOKEN_S, PAIR_S, ENTRY_S, BASE_S = 1.5e-4, 2e-7, 1e-6, 1e-3


def steps(seed: int, noise: float, prompts: int = 1) -> dict[str, Any]:
    """Iterations of prompts, so many in each, and of decodes, with times that vary by chance."""
    rng = np.random.default_rng(seed)
    each = np.repeat(KNOTS, 12) // prompts
    each = each[each > 0]
    decodes = rng.integers(1, 13, 150)
    context = decodes * rng.integers(10, 150, 150)
    nothing = np.zeros(len(each))
    columns = {
        "prefill_tokens": np.concatenate([prompts * each, 0 * decodes]),
        "prefill_pairs": np.concatenate([prompts * each * (each + 1) / 2, 0 * decodes]),
        "decode_sequences": np.concatenate([nothing, decodes]),
        "decode_context": np.concatenate([nothing, context]),
    }
    tokens = columns["prefill_tokens"] + columns["decode_sequences"]
    exact_s = BASE_S + TOKEN_S * tokens + PAIR_S * columns["prefill_pairs"]
    exact_s = exact_s + ENTRY_S * columns["decode_context"]
    columns["time_us"] = 1e6 * exact_s * rng.lognormal(0, noise, len(tokens))
    return columns


def time_s(cost: TableStepCost, prompts: int, length: int) -> float:
    pairs = prompts * length * (length + 1) / 2
    return cost.step_s(prompts * length, pairs, prompts * length, 0, 0, prompts)


@pytest.mark.parametrize(("prompts", "length"), [(1, 128), (2, 64), (4, 32), (1, 48), (3, 16)])
def test_tokens_and_pairs_are_told_apart(prompts: int, length: int) -> None:
    parts = steps(0, 0.02), steps(1, 0.02, prompts=2), steps(2, 0.02, prompts=4)
    cost = fit({name: np.concatenate([part[name] for part in parts]) for name in parts[0]})
    exact_s = BASE_S + prompts * length * (TOKEN_S + PAIR_S * (length + 1) / 2)
    assert time_s(cost, prompts, length) == pytest.approx(exact_s, rel=0.05)


@given(seed=st.integers(0, 1000), prompts=st.integers(1, 8))
@settings(max_examples=25, deadline=None)
def test_several_short_prompts_take_no_longer_than_a_long_one(seed: int, prompts: int) -> None:
    """Also where all that was measured are single prompts: they have fewer pairs."""
    cost = fit(steps(seed, 0.1))
    assert 0 < time_s(cost, prompts, 128 // prompts) <= time_s(cost, 1, 128)


@given(seed=st.integers(0, 1000))
@settings(max_examples=25, deadline=None)
def test_more_work_takes_no_less_time(seed: int) -> None:
    cost = fit(steps(seed, 0.1))
    alone_s = np.array([cost.step_s(n, 0, 0, 0, 0, 1) for n in range(1, KNOTS[-1] + 1)])
    assert (np.diff(alone_s[:GRAIN]) >= 0).all()
    assert (alone_s[2 * GRAIN :] >= alone_s[GRAIN:-GRAIN]).all()
    assert cost.step_s(10, 55, 10, 0, 0, 1) <= cost.step_s(10, 100, 10, 0, 0, 1)
    base_s, slope_s, _ = cost.decode_line(4, 100)
    assert slope_s >= 0
    assert cost.step_s(0, 0, 0, 4, 400, 4) == pytest.approx(base_s + 400 * slope_s)


def test_remainders_of_the_rows_that_are_multiplied_at_a_time_are_found() -> None:
    measured = steps(0, 0.02)
    rng = np.random.default_rng(1)
    lengths = rng.integers(GRAIN + 1, KNOTS[-1], 400)
    prompts = {name: np.zeros(400) for name in measured} | {
        "prefill_tokens": lengths,
        "prefill_pairs": lengths * (lengths + 1) / 2,
        "time_us": 1e6 * (BASE_S + TOKEN_S * lengths + PAIR_S * lengths * (lengths + 1) / 2),
    }
    prompts["time_us"] = prompts["time_us"] + 700 * (lengths % GRAIN == 3)
    cost = fit({name: np.concatenate([measured[name], prompts[name]]) for name in measured})
    rounder, odd = (time_s(cost, 1, length) for length in (64, 67))
    assert odd - rounder == pytest.approx(3 * TOKEN_S + 0.7e-3, rel=0.1)
