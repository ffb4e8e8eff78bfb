"""Named random streams: repeatable, and independent of everything else."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from infsim.rng import Streams, Uniform

NAMES = st.lists(st.text(max_size=8) | st.integers(0, 99), min_size=1, max_size=3)


@given(st.integers(0, 2**32), st.integers(0, 9), NAMES)
def test_a_stream_depends_on_seed_replication_and_name_only(
    seed: int, replication: int, names: list[str | int]
) -> None:
    first = Streams(seed, replication)
    first.stream("something", "else").random(100)
    assert (
        first.stream(*names).random(5) == Streams(seed, replication).stream(*names).random(5)
    ).all()


@given(NAMES, NAMES)
def test_different_names_give_different_streams(a: list[str | int], b: list[str | int]) -> None:
    same = [(type(x), x) for x in a] == [(type(x), x) for x in b]
    drawn = Streams(1).stream(*a).random(3), Streams(1).stream(*b).random(3)
    assert (drawn[0] == drawn[1]).all() == same


def test_names_are_not_run_together() -> None:
    drawn = {tuple(Streams(1).stream(*n).random(2)) for n in (("ab", "c"), ("a", "bc"), ("abc",))}
    assert len(drawn) == 3


def test_replications_and_seeds_differ() -> None:
    streams = [Streams(0), Streams(1), Streams(0, 1), Streams(1, 1)]
    assert len({float(s.stream("churn").random()) for s in streams}) == 4


def test_streams_are_uncorrelated() -> None:
    drawn = np.array([Streams(3).stream("node", i).random(4000) for i in range(8)])
    off_diagonal = np.corrcoef(drawn)[~np.eye(8, dtype=bool)]
    assert abs(off_diagonal).max() < 5 / np.sqrt(4000)


@given(st.integers(1, 50))
def test_uniform_draws_the_generator_s_numbers_whatever_its_block(block: int) -> None:
    draw = Uniform(Streams(5).stream("x"), block)
    expected = Streams(5).stream("x").random(120)
    assert [draw() for _ in range(120)] == expected.tolist()
