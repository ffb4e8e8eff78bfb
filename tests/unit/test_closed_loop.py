"""Users of a closed loop: what they ask does not depend on who answers."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infsim.errors import InputError
from infsim.rng import Streams
from infsim.workload.closed_loop import ClosedLoop, Dialogue
from infsim.workload.lengths import Independent, Uniform

LENGTHS = Independent(Uniform(10, 50), Uniform(5, 20))
LOOP = ClosedLoop(users=4, lengths=LENGTHS, think_s=2.0, requests=100)
TALK = replace(LOOP, dialogue=Dialogue(turns=3.0, system_tokens=32, prefix_block_tokens=16))


def test_a_user_asks_and_thinks_the_same_whatever_the_others_do() -> None:
    few, many = LOOP.begin(Streams(1)), replace(LOOP, users=40).begin(Streams(1))
    for a, b in zip(few, many[:4], strict=True):
        asked = [[user.ask(True)[:2] for _ in range(150)] for user in (a, b)]
        thought = [[user.think_s() for _ in range(10)] for user in (a, b)]
        assert asked[0] == asked[1]
        assert thought[0] == thought[1]
    assert few[0].ask(True) != few[1].ask(True)


@pytest.mark.parametrize("cv", [0.0, 0.5, 2.0])
def test_think_times_have_their_mean_and_spread(cv: float) -> None:
    user = replace(LOOP, think_cv=cv).begin(Streams(0))[0]
    times = np.array([user.think_s() for _ in range(20_000)])
    assert times.mean() == pytest.approx(2.0, rel=0.06)
    assert times.std() / times.mean() == pytest.approx(cv, abs=0.06)


def test_users_are_spread_over_the_clients_by_weight() -> None:
    loop = replace(LOOP, users=10, weights=(3.0, 0.0, 2.0))
    clients = [user.ask(True).client for user in loop.begin(Streams(0))]
    assert [clients.count(i) for i in range(3)] == [6, 0, 4]


def test_they_begin_one_after_another() -> None:
    starts = [user.start_s for user in replace(LOOP, ramp_s=8.0).begin(Streams(0))]
    assert starts == [0, 2, 4, 6]


def test_a_prompt_repeats_the_dialogue() -> None:
    user = TALK.begin(Streams(3))[1]
    turns = [user.ask(True) for _ in range(60)]
    followed = 0
    for before, after in pairwise(turns):
        shared = 32 // 16
        if after.session_id == before.session_id:
            followed += 1
            assert after.input_tokens >= before.input_tokens + before.output_tokens + 10
            shared = len(before.prefix_hashes)
        else:
            assert 42 <= after.input_tokens <= 82
        assert after.prefix_hashes[:shared] == before.prefix_hashes[:shared]
        assert after.prefix_hashes[shared:] != before.prefix_hashes[shared:] or not shared
        assert len(after.prefix_hashes) == after.input_tokens // 16
    assert followed / len(turns) == pytest.approx(2 / 3, abs=0.15)


def test_without_an_answer_a_dialogue_ends() -> None:
    user = TALK.begin(Streams(3))[0]
    sessions = [user.ask(False).session_id for _ in range(20)]
    assert len(set(sessions)) == 20


@given(st.integers(0, 50), st.integers(20, 400))
def test_the_context_has_a_limit(seed: int, most: int) -> None:
    dialogue = Dialogue(turns=20.0, system_tokens=8, max_context=most, prefix_block_tokens=4)
    user = replace(LOOP, dialogue=dialogue).begin(Streams(seed))[0]
    for _ in range(30):
        turn = user.ask(True)
        assert turn.input_tokens + turn.output_tokens <= max(most, 8 + 50 + 20)


def test_sessions_of_users_do_not_mix() -> None:
    users = TALK.begin(Streams(0))
    owned = [{user.ask(True).session_id for _ in range(50)} for user in users]
    for i, a in enumerate(owned):
        for b in owned[i + 1 :]:
            assert not a & b


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"users": 0}, "users is 0"),
        ({"think_s": -1.0}, "think_s is -1.0"),
        ({"think_cv": float("nan")}, "think_cv is nan"),
        ({"requests": None}, "never stop"),
        ({"requests": None, "duration_s": 5.0, "think_s": 0.0}, "number of requests"),
    ],
)
def test_what_makes_no_sense_is_refused(change: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        replace(LOOP, **change)
