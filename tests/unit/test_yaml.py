"""Strict YAML: no surprises, and every value knows its place."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from infsim.errors import InputError
from infsim.scenario.yaml import dump, parse

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(10**18), 10**18)
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=("Cs", "Cc")) | st.just("\n"), max_size=12)
)
DATA = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.text(st.characters(categories=("L", "N")), max_size=6), inner, max_size=3
        )
    ),
    max_leaves=12,
)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e3", 1000.0),
        ("1", 1),
        ("-1.5", -1.5),
        (".5", 0.5),
        (".inf", math.inf),
        ("true", True),
        ("null", None),
        ("", None),
        ("no", "no"),
        ("yes", "yes"),
        ("on", "on"),
        ("True", "True"),
        ("1:30", "1:30"),
        ("010", "010"),
        ("0x1f", "0x1f"),
        ("1_000", "1_000"),
        ("2024-01-31", "2024-01-31"),
        ("'1e3'", "1e3"),
        ('"true"', "true"),
        ("40 ms", "40 ms"),
    ],
)
def test_scalars_mean_what_they_look_like(text: str, value: Any) -> None:
    found = parse(f"a: {text}", "f")[0]["a"]
    assert found == value
    assert type(found) is type(value)


def test_keys_are_text() -> None:
    assert parse("no: 1\n2: b\n1e3: c\n", "f")[0] == {"no": 1, "2": "b", "1e3": "c"}


def test_every_value_and_key_has_its_place() -> None:
    text = "a:\n  b: [1, {c: 2}]\n"
    places = parse(text, "f.yaml")[1]
    assert str(places["a", "b", 1, "c"].key) == "f.yaml:2:11: a.b[1].c"
    assert str(places["a", "b", 1, "c"].value) == "f.yaml:2:14: a.b[1].c"
    assert str(places["a", "b"].value) == "f.yaml:2:6: a.b"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: 1\nb:\n  c: 1\n  c: 2\n", r"f\.yaml:4:3: b\.c: key 'c' is given twice .*line 3"),
        ("a: [1, 2\nb: 3\n", r"f\.yaml:2:2: not valid YAML: .*expected ',' or '\]'"),
        ("a: {b: 1\n", r"f\.yaml:\d:\d: not valid YAML"),
        ("a: b: c\n", r"f\.yaml:1:5: not valid YAML"),
        ("a: *none\n", r"f\.yaml:1:4: not valid YAML: .*alias"),
        ("a: &x [1, *x]\n", r"f\.yaml:1:4: a.*an alias refers to something around it"),
        ("[1, 2]: 3\n", r"f\.yaml:1:1: a key must be plain text"),
        ("a: !thing 3\n", r"f\.yaml:1:4: a: tags such as !thing"),
        ("a: 1\n---\nb: 2\n", r"not valid YAML: .*another document"),
        ("a:\n\tb: 1\n", r"f\.yaml:2:1: not valid YAML"),
    ],
)
def test_bad_yaml_is_refused_with_its_place(text: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        parse(text, "f.yaml")


def test_anchors_repeat_a_value() -> None:
    value, places = parse("a: &x {b: 1}\nc: *x\n", "f")
    assert value["c"] == {"b": 1}
    assert places["c", "b"].value.line == 1


@given(DATA)
@example(1e-05)
@example([1e20, 5e-324])
def test_dump_is_undone_by_parse(data: Any) -> None:
    again = parse(dump({"x": data}), "f")[0]["x"]
    assert again == data
    assert repr(again) == repr(data)


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        parse(text, "f")
    except InputError as error:
        assert str(error).startswith("f:")  # noqa: PT017 - not raising is fine too


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("{<<: *x, b: 3}", {"a": 1, "b": 3}),
        ("{b: 3, <<: *x}", {"a": 1, "b": 3}),
        ("{<<: [*x, *y]}", {"a": 1, "b": 2, "c": 5}),
        ("{<<: {<<: *y, b: 7}}", {"b": 7, "a": 4, "c": 5}),
        ("{'<<': 1}", {"<<": 1}),
    ],
)
def test_keys_are_taken_over_unless_written_anew(text: str, value: Any) -> None:
    data, places = parse(f"x: &x {{a: 1, b: 2}}\ny: &y {{a: 4, c: 5}}\nz: {text}", "f")
    assert data["z"] == value
    assert all(("z", key) in places for key in value)


def test_the_place_of_a_key_that_was_taken_over_is_where_it_is_written() -> None:
    _, places = parse("x: &x\n  a: 1\nz:\n  <<: *x", "f")
    assert places["z", "a"].value.line == 2


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("z: {<<: 3}", "takes over the keys of a mapping"),
        ("z: &z {<<: *z}", "something around it"),
        ("x: &x {a: 1, a: 2}\nz: {<<: *x}", "given twice"),
        ("z: {b: 1, b: 2, <<: {a: 1}}", "given twice"),
    ],
)
def test_bad_merges(text: str, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        parse(text, "f")
