"""The simulator, with kernels measured one by one, against an engine made of such kernels."""

from __future__ import annotations

from dataclasses import replace

import pytest

from infsim.calibrate.llama_cpp.library import Piece
from infsim.model.catalog import load_architecture


def small_engine(sequences: int = 4):  # type: ignore[no-untyped-def]
    torch = pytest.importorskip("torch", reason="needs torch: pip install infsim[calibrate]")
    from infsim.calibrate.measure.torch_model import forms
    from tests.fidelity.torch_engine.engine import TorchEngine

    torch.manual_seed(0)
    model = replace(
        load_architecture("smollm2-135m"),
        layers=2, hidden=128, heads=4, kv_heads=2, head_dim=32, ffn=256, vocabulary=200,
    )  # fmt: skip
    return TorchEngine(model, forms("cpu")[0], sequences, longest=64)


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
        return engine.step(pieces)  # type: ignore[no-any-return]

    alone = {place: decode([place])[0] for place in (3, 1, 2)}
    assert decode([3, 1, 2]) == list(alone.values())
    assert decode([1, 3]) == [alone[1], alone[3]]
    assert len(set(first.values()) | set(alone.values())) > 3
