"""Number formats and the memory they take."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infsim.cost.memory import activation_bytes, kv_bytes_per_token, size_bytes, weight_bytes
from infsim.errors import InputError
from infsim.model.catalog import FORMATS, load, load_format
from infsim.model.formats import COMPUTE_TYPES, SKIPPED, Format, compute_type
from infsim.model.graph import Operator

BITS = {"fp32": 32, "bf16": 16, "fp16": 16, "fp8": 8, "int8": 8, "int4": 4}


@pytest.mark.parametrize("name", FORMATS.names())
def test_every_format_of_the_catalogue_is_consistent(name: str) -> None:
    form = load_format(name)
    assert form.source != "unspecified"
    assert (form.density < 1) == (form.pattern != "")
    if not form.pattern:  # stored in no more bits than are multiplied
        assert form.weight_bits <= BITS[form.compute]


@pytest.mark.parametrize("name", [n for n in FORMATS.names() if load_format(n).pattern in SKIPPED])
def test_weights_without_their_zeros_take_their_values_and_places(name: str) -> None:
    form = load_format(name)
    places = {"csr": 32, "block-32": 32 / 32**2}[form.pattern]
    assert form.weight_bits == pytest.approx(form.density * (BITS[form.compute] + places))
    assert f"{100 * (1 - form.density):.0f} %" in form.source
    assert name.endswith(f"{100 * (1 - form.density):.0f}")


def test_a_misspelt_pattern_is_told_the_nearest_one() -> None:
    with pytest.raises(InputError, match="unknown pattern 'block32'; did you mean 'block-32'"):
        Format("mine", 4, density=0.5, pattern="block32")


def test_a_misspelt_format_is_told_the_nearest_one() -> None:
    with pytest.raises(InputError, match="unknown format 'w4a61'; did you mean 'w4a16'"):
        load_format("w4a61")


@settings(deadline=None)
@given(st.integers(0, 10**12), st.decimals("0.1", 64, places=4))
def test_sizes_are_exact_and_rounded_up(values: int, bits: Decimal) -> None:
    exact = values * Fraction(bits) / 8
    assert exact <= size_bytes(values, float(bits)) < exact + 1


@pytest.mark.parametrize("model", ["llama-3.1-8b", "bloom-176b", "mixtral-8x7b"])
@pytest.mark.parametrize("name", FORMATS.names())
def test_stages_hold_what_the_model_holds(model: str, name: str) -> None:
    """Cutting a chain anywhere conserves bytes (but for tied embeddings, held at both ends)."""
    operators, form = load(model).graph.operators, load_format(name)
    whole = weight_bytes(operators, form)
    tied = size_bytes(operators[-1].tied_parameters, form.embedding_bits)
    for cut in (1, 7, len(operators) - 1):
        parts = operators[:cut], operators[cut:]
        assert sum(weight_bytes(part, form) for part in parts) == whole + tied
        assert sum(kv_bytes_per_token(part, form) for part in parts) == kv_bytes_per_token(
            operators, form
        )


def test_embeddings_stay_in_16_bits_where_weights_do_not() -> None:
    op = Operator("op", 1000, 1000, 4, head_parameters=100, extra_parameters=100)
    assert weight_bytes([op], load_format("fp16")) == 2400
    assert weight_bytes([op], load_format("w8a16")) == 1000 + 400
    assert weight_bytes([op], load_format("w4a16-g32")) == 1000 * 4.5 / 8 + 400 + 0.5


def test_activations_pass_in_16_bits() -> None:
    assert activation_bytes(8192, load_format("fp16")) == 16384
    assert activation_bytes(8192, load_format("w8a8")) == 16384
    assert activation_bytes(8192, load_format("fp32")) == 32768


def test_every_missing_type_has_a_wider_stand_in() -> None:
    """Nothing is computed in fewer bits than asked for, and fp32 alone is always enough."""
    for wanted in COMPUTE_TYPES:
        assert compute_type(wanted, frozenset(COMPUTE_TYPES)) == wanted
        for size in range(len(COMPUTE_TYPES)):
            for others in combinations(COMPUTE_TYPES, size):
                found = compute_type(wanted, frozenset({*others, "fp32"}))
                assert BITS[found] >= BITS[wanted]
    assert compute_type("fp8", frozenset({"fp32", "fp16", "int8"})) == "fp16"
    assert compute_type("int4", frozenset({"fp32", "fp16", "int8"})) == "int8"


def test_no_stand_in_is_an_error() -> None:
    with pytest.raises(InputError, match=r"\['int8'\] can stand in for fp16"):
        compute_type("fp16", frozenset({"int8"}))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weight_bits": 0}, r"weight_bits must be in \(0, 64\], got 0"),
        ({"kv_bits": float("nan")}, "kv_bits must be in"),
        ({"density": 1.5}, "density must be in"),
        ({"compute": "fp61"}, "got 'fp61'; did you mean 'fp16'"),
    ],
)
def test_impossible_formats_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Format("x", **{"weight_bits": 16, **change})  # type: ignore[arg-type]
