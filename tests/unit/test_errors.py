"""Errors that say where, and that travel between processes."""

from __future__ import annotations

import pickle

import pytest

from infsim.errors import (
    CostError,
    InfeasibleError,
    InputError,
    PolicyError,
    Where,
    did_you_mean,
    nearest,
)


def test_an_input_error_says_where_what_and_what_would_be_right() -> None:
    error = InputError(
        "unknown key 'modle'", where=Where("a.yaml", 3, 5, "cluster.modle"), hint="did you mean …"
    )
    assert str(error) == "a.yaml:3:5: cluster.modle: unknown key 'modle' (did you mean …)"


def test_what_is_not_known_of_a_place_is_left_out() -> None:
    assert str(InputError("bad", where=Where("--set seed=x"))) == "--set seed=x: bad"
    assert str(InputError("bad")) == "bad"


@pytest.mark.parametrize(
    "error",
    [
        InputError("bad", where=Where("a.yaml", 3, 5), hint="better", key="k"),
        InfeasibleError("too large"),
        PolicyError("routing", "mine", 7, "it raised"),
        CostError("gpu-0", -1.5),
    ],
)
def test_errors_survive_the_way_between_processes(error: Exception) -> None:
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert str(copy) == str(error)
    assert vars(copy) == vars(error)


def test_a_policy_error_names_policy_request_and_reason() -> None:
    assert str(PolicyError("routing", "mine", 7, "no replica")) == (
        "routing policy 'mine' at request 7: no replica"
    )


def test_the_nearest_word_does_not_depend_on_case() -> None:
    assert nearest("Lest-Loaded", ["least-loaded", "random"]) == "least-loaded"
    assert nearest("zzz", ["least-loaded", "random"]) is None
    assert did_you_mean("randm", ["random"]) == "; did you mean 'random'?"
    assert did_you_mean("zzz", ["random"]) == ""
