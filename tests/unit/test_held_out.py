"""Points that were drawn at random tell the error between the others, and stay in the fit."""

from __future__ import annotations

from typing import Any

import pytest

from infsim.calibrate.fit.device import fit_device
from infsim.calibrate.fit.held_out import DRAWN
from infsim.calibrate.table import KernelTable
from infsim.cost.calibration import Calibration
from tests.kernel_rows import META, attention_rows, linear_rows

KINK, EXCESS = 64, 1.25
SHAPES = [(4096, 4096), (1024, 4096)]


def fitted(rows: list[dict[str, Any]]) -> Calibration:
    return fit_device([KernelTable.from_rows(rows, META)])


def rows(*, drawn: bool) -> list[dict[str, Any]]:
    """A table in which each kernel takes 25 % longer than others tell, at one point."""
    told: list[dict[str, Any]] = linear_rows(SHAPES, (32, KINK, 96), "w4a16")
    elements = [
        {"kernel": "norm", "n": 4096, "tokens": m, "time_s": 1e-6 * m} for m in (32, KINK, 96)
    ]
    found = told + elements
    for row in found:
        if row["tokens"] == KINK:
            row["time_s"] *= EXCESS
            row["held_out"] = int(drawn)
    attention = attention_rows()
    for row in attention:
        if row.get("decodes") == 8 and row["context"] == 512:
            row["time_s"] *= EXCESS
            row["held_out"] = int(drawn)
    return found + attention


def error(known: Calibration, what: str) -> dict[str, Any]:
    (one,) = (e for e in known.errors if e["what"] == what and "shapes" not in e["held_out"])
    return dict(one)


@pytest.mark.parametrize("what", ["linear", "decode", "element-wise"])
def test_errors_are_those_at_drawn_points(what: str) -> None:
    told = error(fitted(rows(drawn=True)), what)
    assert told["held_out"] == DRAWN
    assert told["median"] == pytest.approx(1 - 1 / EXCESS, abs=0.02)
    assert told["points"] == (2 if what == "linear" else 1)


def test_without_drawn_points_each_is_left_out_in_turn() -> None:
    assert error(fitted(rows(drawn=False)), "linear")["held_out"] == "tokens"


def test_what_was_drawn_is_in_the_fit() -> None:
    drawn, known = (fitted(rows(drawn=drawn)) for drawn in (True, False))
    assert drawn.linears == known.linears
    assert drawn.attentions == known.attentions
    assert drawn.elements == known.elements
