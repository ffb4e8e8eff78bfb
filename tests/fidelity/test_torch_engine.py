"""The simulator, with kernels measured one by one, against an engine made of such kernels."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from infsim.calibrate.llama_cpp.clock import Steadiness
from infsim.calibrate.llama_cpp.library import Piece
from infsim.calibrate.llama_cpp.server import Limits, Server, trace
from infsim.calibrate.llama_cpp.table import write_table
from infsim.calibrate.measure.torch_model import forms
from infsim.fidelity.served import compare_served
from infsim.model.catalog import load_architecture
from infsim.paths import data_folder
from tests.fidelity.serving import TIMES, MadeUp, Run, request_table
from tests.fidelity.test_measured_core import cost
from tests.fidelity.torch_engine.engine import TorchEngine

DEVICE, MODEL = "epyc-7763-core", "smollm2-135m"
LIMITS = Limits(tokens=64, sequences=8)


@pytest.mark.parametrize("form", ["fp32", "w8a8"])
def test_an_engine_that_takes_as_long_as_its_kernels_is_met(tmp_path: Path, form: str) -> None:
    """No step of it is known: the kernels of the device price the recorded run."""
    runs = []
    for load, rate in ((0.0, np.inf), (0.5, 2.0)):
        given = trace(rate, 40, 1)
        engine = MadeUp(cost(form, DEVICE, MODEL))
        served = Server(engine, 100, engine, LIMITS).serve(given, 1)
        still = Steadiness(1.0, 0.0, 0.0)
        runs += [Run(load, 1, time, given, served, 1.0, still) for time in range(TIMES)]
    write_table(request_table(runs), tmp_path / "requests.parquet")
    meta = {
        "name": "exact", "format": form, "engine": "made up", "recorded": "2026-11-30 00:00",
        "kernels": {"device": DEVICE, "model": MODEL}, "machine": {"processor": "any"},
        "token_budget": LIMITS.tokens, "max_sequences": LIMITS.sequences,
        "runs": [{"load": run.load, "seed": run.seed, "time": run.time} for run in runs],
    }  # fmt: skip
    (tmp_path / "meta.json").write_text(json.dumps(meta))
    found = compare_served(tmp_path)
    assert len(found.rows) == 19
    assert found.capacity is not None
    # the engine takes the last token of a prompt for a decode where it comes alone
    assert found.capacity.error == pytest.approx(0, abs=0.01)
    latencies = [row for row in found.rows if row != found.capacity]
    assert {row.name: row.error for row in latencies if abs(row.error) > 1e-4} == {}


def small_engine() -> TorchEngine:
    torch = pytest.importorskip("torch", reason="needs torch: pip install infsim[calibrate]")
    torch.manual_seed(0)
    model = replace(
        load_architecture(MODEL),
        layers=2, hidden=128, heads=4, kv_heads=2, head_dim=32, ffn=256, vocabulary=200,
    )  # fmt: skip
    return TorchEngine(model, forms("cpu")[0], sequences=4, longest=64)


def test_a_prompt_in_pieces_makes_the_tokens_of_the_whole() -> None:
    """KV cache, positions and masks are right, whatever else is in the batch."""
    engine = small_engine()
    prompt = list(range(20, 40))
    other = Piece(2, 0, list(range(50, 59)), wants_token=True)
    (whole,) = engine.step([Piece(0, 0, prompt, wants_token=True)])
    engine.step([other])
    made = []
    for start, end in ((0, 7), (7, 8), (8, 20)):
        decode = Piece(2, 9, [60], wants_token=True)
        piece = Piece(1, start, prompt[start:end], wants_token=end == 20)
        made = engine.step([decode, piece])
    assert made[1:] == [whole]
    assert [engine.step([Piece(3, i, [t], i == 19)]) for i, t in enumerate(prompt)][-1] == [whole]


def test_decodes_together_make_what_each_makes_alone() -> None:
    engine = small_engine()
    prompts = {place: list(range(10 * place, 10 * place + 5 + 3 * place)) for place in range(4)}
    first = {
        place: engine.step([Piece(place, 0, prompt, wants_token=True)])[0]
        for place, prompt in prompts.items()
    }

    def decode(places: list[int]) -> list[int]:
        pieces = [Piece(place, len(prompts[place]), [first[place]], True) for place in places]
        return engine.step(pieces)

    alone = {place: decode([place])[0] for place in (3, 1, 2)}
    assert decode([3, 1, 2]) == list(alone.values())
    assert decode([1, 3]) == [alone[1], alone[3]]
    assert len(set(first.values()) | set(alone.values())) > 3


def test_the_sum_of_kernels_meets_what_was_served_on_a_busy_machine() -> None:
    """Nothing is fitted to the engine: it masks decodes in vain, and meets colder caches."""
    found = compare_served(data_folder("calibration/recorded") / "torch" / "fp32")
    assert found.capacity is not None
    assert abs(found.capacity.error) < 0.04
    errors = {row.name: row.error for row in found.rows}
    for load in ("0.5", "0.8"):
        assert abs(errors[f"load {load} TPOT mean"]) < 0.12
        assert abs(errors[f"load {load} E2E mean"]) < 0.12
