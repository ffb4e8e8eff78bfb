"""Decodes of unequal contexts: between those of the mean context and those of the longest."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infsim.cost.attention import AttentionTime
from infsim.cost.calibration import Calibration, device_calibration
from infsim.cost.unequal import for_unequal
from infsim.fidelity.replay import longest_context, replay, simulated
from tests.unit.test_fidelity import recorded


def calibration(unequal: float) -> Calibration:
    known = device_calibration("rtx-4090")
    assert known is not None
    return replace(known, attentions=tuple(replace(t, unequal=unequal) for t in known.attentions))


def decodes_s(known: Calibration, sequences: int) -> np.ndarray:
    return np.array(AttentionTime(known.attentions[0]).decode_s(sequences))


@given(unequal=st.floats(0, 1), longest=st.floats(1, 5), sequences=st.integers(1, 128))
def test_never_faster_than_equal_ones_nor_slower_than_the_longest(
    unequal: float, longest: float, sequences: int
) -> None:
    equal = calibration(0.0)
    found = decodes_s(for_unequal(calibration(unequal), longest), sequences)
    worst = decodes_s(for_unequal(calibration(1.0), longest), sequences)
    assert (found >= decodes_s(equal, sequences) * (1 - 1e-9)).all()
    assert (found <= worst * (1 + 1e-9)).all()


@pytest.mark.parametrize(("unequal", "longest"), [(0.0, 3.0), (0.5, 1.0)])
def test_equal_contexts_and_kernels_that_do_not_mind_change_nothing(
    unequal: float, longest: float
) -> None:
    known = calibration(unequal)
    assert for_unequal(known, longest) == known


def test_all_the_way_is_the_time_of_the_longest_context() -> None:
    known = calibration(1.0)
    (table,), (slow,) = known.attentions, for_unequal(known, 2.0).attentions
    width = len(table.contexts)
    i, j = table.contexts.index(1024), table.contexts.index(2048)
    assert slow.decode_s[i::width] == table.decode_s[j::width]


def test_a_share_goes_with_the_file() -> None:
    known = calibration(0.07)
    assert Calibration.from_json(known.to_json()).attentions[0].unequal == 0.07


def test_contexts_of_a_run_are_compared() -> None:
    run = recorded()
    assert longest_context(replay(run)) > 1.2
    alike = replace(run, input_tokens=np.full(len(run), 10_000), output_tokens=run.output_tokens)
    serving = replace(run.serving, kv_tokens=10**7)
    assert longest_context(replay(replace(alike, serving=serving))) == pytest.approx(1, abs=0.01)


def test_a_run_is_simulated_with_its_unequal_contexts() -> None:
    run = recorded()
    equal, unequal = (simulated(run, calibration(share)) for share in (0.0, 0.3))
    assert equal.longest == 1
    assert unequal.longest > 1.2
    assert unequal.record.requests["end_s"].mean() > equal.record.requests["end_s"].mean()
