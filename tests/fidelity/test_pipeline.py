"""The simulator against a real pipeline of three processes, with links and a kill."""

from __future__ import annotations

import socket

import numpy as np
import pytest

from infsim.fidelity.comparison import Row
from infsim.fidelity.pipeline import Recording, compare_pipeline
from infsim.paths import data_folder
from tests.fidelity.pipeline.model import HIDDEN, STAGES, Piece, Stage, stage_weights
from tests.fidelity.pipeline.wire import BATCH, VALUE_BITS, Message, decode, encode, totals

RECORDED = data_folder("calibration/recorded") / "pipeline"


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    """All figures, with the name of their run."""
    found = compare_pipeline(RECORDED)
    return [row._replace(name=f"{run.name} {row.name}") for run in found for row in run.rows]


@pytest.mark.parametrize("form", VALUE_BITS)
@pytest.mark.parametrize("run", ["alone", "together", "undisturbed"])
def test_latencies_are_within_3_percent(rows: list[Row], form: str, run: str) -> None:
    own = [row for row in rows if row.name.startswith(f"pipeline {form} {run} ")]
    assert len(own) == 18
    assert {row.name: row.error for row in own if abs(row.error) > 0.03} == {}


@pytest.mark.parametrize(("form", "bound"), [("fp32", 0.02), ("fp16", 0.04), ("int8", 0.02)])
def test_capacity_is_met(rows: list[Row], form: str, bound: float) -> None:
    """In fp16, a wave of decodes goes round together or one round later, by chance: 3 percent."""
    (row,) = (row for row in rows if row.name == f"pipeline {form} capacity (requests/s)")
    assert row.error == pytest.approx(0, abs=bound)


@pytest.mark.parametrize("form", VALUE_BITS)
def test_failures_are_within_5_percent(rows: list[Row], form: str) -> None:
    own = [row for row in rows if row.name.startswith(f"pipeline {form}") and "killed" in row.name]
    assert len(own) == 23
    assert {row.name: row.error for row in own if abs(row.error) > 0.05} == {}


@pytest.mark.parametrize("form", VALUE_BITS)
def test_tokens_after_the_recovery_are_those_of_the_undisturbed_run(form: str) -> None:
    recording = Recording.load(RECORDED)
    undisturbed, kills = (recording.of(form)[name] for name in ("undisturbed", "killed"))
    tokens = [request["tokens"] for request in undisturbed[0]["requests"]]
    for killed in kills:
        assert [request["tokens"] for request in killed["requests"]] == tokens
    assert len({token for answer in tokens for token in answer}) > 20


def test_formats_of_activations_have_the_bytes_that_the_simulator_counts() -> None:
    recording = Recording.load(RECORDED)
    whole, halved = (
        recording.simulated(recording.of(form)["alone"][0]).counters["bytes_sent"]
        for form in ("fp32", "fp16")
    )
    assert whole == pytest.approx(2 * halved, rel=0.02)
    values = np.ones((7, HIDDEN), np.float32)
    for form, bits in VALUE_BITS.items():
        size = len(encode(values, form)) - (4 * 7 if form == "int8" else 0)
        assert size == 7 * HIDDEN * bits / 8


@pytest.mark.parametrize(("form", "error"), [("fp32", 0.0), ("fp16", 1e-3), ("int8", 1 / 127)])
def test_activations_survive_the_wire(form: str, error: float) -> None:
    values = np.random.default_rng(0).standard_normal((5, HIDDEN), dtype=np.float32)
    again = decode(encode(values, form), form, 5)
    assert np.abs(again - values).max() <= error * np.abs(values).max()


def test_messages_survive_the_wire() -> None:
    pieces = [Piece(3, 0, 7, wants_token=True), Piece(4, 9, 1, wants_token=True, last=True)]
    message = Message(BATCH, 5, pieces, [1, 2], b"values")
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.sendall(message.packed())
        assert Message.receive(theirs) == message
    assert totals(pieces) == (7, 28, 7, 1, 10, 2)


def test_a_prompt_in_pieces_makes_the_tokens_of_the_whole() -> None:
    """KV cache, positions and mask are right, and so is the cut into stages."""
    stages = [Stage(i, stage_weights(i)) for i in range(STAGES)]
    prompt = list(range(20, 40))

    def token(pieces: list[tuple[int, int]], sequence: int) -> int:
        made: list[int] = []
        for start, end in pieces:
            piece = Piece(sequence, start, end - start, wants_token=end == len(prompt))
            values = stages[0].embed(prompt[start:end])
            for stage in stages:
                values = stage.forward([piece], values)
            made = stages[-1].tokens([piece], values)
        return made[0]

    whole = token([(0, 20)], 0)
    assert token([(0, 7), (7, 8), (8, 20)], 1) == whole
    assert token([(i, i + 1) for i in range(20)], 2) == whole
