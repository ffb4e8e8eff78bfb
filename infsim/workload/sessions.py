"""Dialogues: turns with think time, each prompt the whole dialogue so far."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from infsim.errors import InputError
from infsim.rng import Streams
from infsim.workload.arrivals import Arrivals
from infsim.workload.blocks import (
    BLOCK,
    block,
    concatenate,
    empty,
    ragged,
    resize,
    take,
    with_prefixes,
)
from infsim.workload.hashing import mix
from infsim.workload.lengths import Lengths
from infsim.workload.requests import Requests

_SESSIONS = 1024
"""Sessions drawn at a time; part of what a seed means, not a parameter."""

SYSTEM_PROMPT = -1
"""Stands for a session id in the hashes of what all sessions share."""


@dataclass(frozen=True)
class Sessions:
    """Dialogues that begin at random and go on at their own pace (an open loop).

    The prompt of a turn is the system prompt, all earlier prompts and answers, and the new text
    of the user; so it shares its beginning with the turn before, which a router that goes
    after cached prefixes can use. A turn arrives a think time after the answer to the one before
    would have been read: the pace does not depend on the system under test, so that all
    policies see the same requests.

    Attributes
    ----------
    arrivals : Arrivals
        When sessions begin.
    lengths : Lengths
        New tokens of the user, and of the answer, in each turn.
    turns : float
        Mean number of turns of a session, at least 1 (geometric).
    think_s : float
        Mean think time (exponential).
    answer_s_per_token : float
        Time that the answer is taken to last, per token.
    system_tokens : int
        Leading tokens that all sessions share.
    max_context : int
        A session ends before prompt and answer together exceed this.
    prefix_block_tokens : int
        Tokens of one hashed block.
    block : int
        Requests of a block; what is drawn does not depend on it.
    """

    arrivals: Arrivals
    lengths: Lengths
    turns: float = 4.0
    think_s: float = 30.0
    answer_s_per_token: float = 0.03
    system_tokens: int = 0
    max_context: int = 32768
    prefix_block_tokens: int = 128
    block: int = BLOCK

    def __post_init__(self) -> None:
        for name, least in (
            ("turns", 1),
            ("think_s", 0),
            ("answer_s_per_token", 0),
            ("system_tokens", 0),
            ("max_context", self.system_tokens + 2),
            ("prefix_block_tokens", 1),
        ):
            value = getattr(self, name)
            if not least <= value < math.inf:
                raise InputError(f"{name} is {value}, must be at least {least}", key=name)

    def blocks(self, streams: Streams) -> Iterator[Requests]:
        return resize(self._parts(streams), self.block)

    def _parts(self, streams: Streams) -> Iterator[Requests]:
        """Yield the turns that no session still to come can precede."""
        turns = _Turns(self, streams)
        pending = empty()
        for starts_s in self.arrivals.times(streams, _SESSIONS):
            pending = concatenate([pending, turns.draw(starts_s)])
            pending = take(pending, np.argsort(pending.arrival_s, kind="stable"))
            known = int(np.searchsorted(pending.arrival_s, starts_s[-1]))
            yield take(pending, slice(0, known))
            pending = take(pending, slice(known, None))
        yield pending


class _Turns:
    """Draws whole sessions."""

    def __init__(self, sessions: Sessions, streams: Streams) -> None:
        self._of = sessions
        self._count = 0
        self._lengths = sessions.lengths.sampler(streams)
        self._turns = streams.stream("workload", "sessions", "turns")
        self._think = streams.stream("workload", "sessions", "think")

    def draw(self, starts_s: NDArray[np.float64]) -> Requests:
        """Return all turns of sessions that begin at these times, session by session."""
        of = self._of
        turns = self._turns.geometric(1 / of.turns, len(starts_s)).astype(np.int64)
        total = int(turns.sum())
        begin_s = np.repeat(starts_s, turns)
        user, output = self._lengths(begin_s)
        think_s = self._think.exponential(of.think_s, total)
        context = _earlier((user + output).astype(np.float64), turns).astype(np.int64)
        input_tokens = of.system_tokens + context + user
        arrival_s = begin_s + _earlier(output * of.answer_s_per_token + think_s, turns)
        ids = np.arange(self._count, self._count + len(starts_s))
        self._count += len(starts_s)
        requests = block(arrival_s, input_tokens, output, session_id=np.repeat(ids, turns))
        # prompts only grow, so what is left of a session is its beginning
        fitting = np.flatnonzero(input_tokens + output <= of.max_context)
        return self._with_prefixes(take(requests, fitting))

    def _with_prefixes(self, requests: Requests) -> Requests:
        size = self._of.prefix_block_tokens
        lengths = requests.input_tokens // size
        position = ragged(np.zeros(len(requests), dtype=np.int64), lengths)
        owner = np.repeat(requests.session_id, lengths)
        owner[position < self._of.system_tokens // size] = SYSTEM_PROMPT
        return with_prefixes(requests, lengths, mix(owner, position), size)


def _earlier(values: NDArray[np.float64], runs: NDArray[np.int64]) -> NDArray[np.float64]:
    """Sum what comes earlier in the same run: values (n,) in runs of these lengths."""
    before = np.cumsum(values) - values
    first = np.cumsum(runs) - runs
    earlier: NDArray[np.float64] = before - np.repeat(before[first], runs)
    return earlier
