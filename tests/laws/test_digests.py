"""Equal results have equal digests, different results different ones (part of law L5)."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infsim.results.digests import digest_all, digest_columns, digest_json
from infsim.results.recorder import Recorder
from infsim.results.runs import digests
from tests.records import REQUEST, queue, record

floats = st.lists(st.floats(allow_nan=False), max_size=5)
texts = st.lists(st.text(), max_size=5)


@given(floats, floats)
def test_numbers_are_equal_if_and_only_if_their_digests_are(
    one: list[float], two: list[float]
) -> None:
    same = np.array_equal(np.array(one), np.array(two))
    assert (digest({"x": one}) == digest({"x": two})) == same


@given(texts, texts)
def test_texts_are_equal_if_and_only_if_their_digests_are(one: list[str], two: list[str]) -> None:
    assert (digest_columns({"x": one}) == digest_columns({"x": two})) == (one == two)


def digest(columns: dict[str, Any]) -> str:
    return digest_columns({name: np.asarray(values) for name, values in columns.items()})


def test_how_a_number_is_stored_does_not_matter() -> None:
    little, big = np.array([1.5, 2.5], "<f8"), np.array([1.5, 2.5], ">f8")
    assert digest_columns({"x": little}) == digest_columns({"x": big})
    strided = np.array([1.5, 0.0, 2.5, 0.0])[::2]
    assert digest_columns({"x": little}) == digest_columns({"x": strided})
    other_nan = np.array([0x7FF8000000000001], "u8").view("f8")
    assert digest({"x": [math.nan]}) == digest_columns({"x": other_nan})
    assert digest({"x": [0.0]}) == digest({"x": [-0.0]})


def test_names_types_order_and_boundaries_matter() -> None:
    columns: list[dict[str, Any]] = [
        {"x": [1, 2]},
        {"y": [1, 2]},
        {"x": [1.0, 2.0]},
        {"x": [2, 1]},
        {"x": [1], "y": [2]},
        {"x": [True, False]},
    ]
    assert len({digest(found) for found in columns}) == len(columns)
    assert digest_columns({"x": ["ab", "c"]}) != digest_columns({"x": ["a", "bc"]})


@pytest.mark.parametrize("name", sorted(REQUEST))
def test_each_column_of_a_request_is_in_the_digest(name: str) -> None:
    other = "lost" if name == "error" else 3
    before, after = digests(record()), digests(record([{name: other}]))
    assert before["requests"] != after["requests"]
    assert {k: v for k, v in before.items() if k != "requests"} == {
        k: v for k, v in after.items() if k != "requests"
    }


@given(st.integers(0, 10**6))
def test_the_same_seed_gives_the_same_digests(seed: int) -> None:
    assert digests(queue(5, seed)) == digests(queue(5, seed))
    assert digests(queue(5, seed)) != digests(queue(5, seed + 1))


def test_the_order_in_which_requests_end_does_not_matter() -> None:
    def run(order: list[int]) -> dict[str, str]:
        recorder = Recorder()
        for number in order:
            # the codes of texts depend on the order, the texts do not
            error = f"error {number}"
            recorder.request(request_id=number, **{**REQUEST, "error": error})
        return digests(recorder.finish(1.0))

    assert run([0, 1, 2]) == run([2, 0, 1])


def test_json_data_is_digested_by_value() -> None:
    assert digest_json({"a": 1, "b": [2.5, None]}) == digest_json({"b": [2.5, None], "a": 1})
    assert digest_json({"a": 1}) != digest_json({"a": "1"})
    assert digest_all(["a", "b"]) != digest_all(["b", "a"])
