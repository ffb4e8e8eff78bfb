"""Closed-loop clients: users who wait for their answer, think, and ask again."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from infsim.errors import InputError
from infsim.rng import Streams
from infsim.workload.hashing import mix
from infsim.workload.lengths import Lengths
from infsim.workload.sessions import SYSTEM_PROMPT

_DRAWN_AT_ONCE = 64


class Turn(NamedTuple):
    """What a user asks next; the fields are those of a request."""

    input_tokens: int
    output_tokens: int
    client: int
    session_id: int
    sample_id: int
    prefix_hashes: tuple[int, ...]


@dataclass(frozen=True)
class Dialogue:
    """Prompts that repeat what was said before, see `infsim.workload.sessions.Sessions`.

    A dialogue goes on for a geometric number of turns. It ends early if its user gets no answer
    or the context would become too long; then the user begins another one.

    Attributes
    ----------
    turns : float
        Mean number of turns, at least 1.
    system_tokens : int
        Leading tokens that all prompts share.
    max_context : int
        Prompt and answer together do not exceed this, but for the first turn.
    prefix_block_tokens : int
        Tokens of one hashed block.
    """

    turns: float = 4.0
    system_tokens: int = 0
    max_context: int = 32768
    prefix_block_tokens: int = 128

    def __post_init__(self) -> None:
        for name, least in (
            ("turns", 1),
            ("system_tokens", 0),
            ("max_context", self.system_tokens + 2),
            ("prefix_block_tokens", 1),
        ):
            _require(name, getattr(self, name), least)


@dataclass(frozen=True)
class ClosedLoop:
    """A fixed number of users, each with one request at a time.

    The load follows the speed of the system: who answers sooner is asked more. The lengths of a
    user's k-th request, and how long it thinks before, are the same under all policies; when it
    asks is not.

    Attributes
    ----------
    users : int
    lengths : Lengths
        Of each request; in a dialogue, the new tokens of the user and those of the answer. Drawn
        as at time 0.
    think_s : float
        Mean time from the end of a request to the next one of its user.
    think_cv : float
        Coefficient of variation of that time (gamma): 1 is exponential, 0 constant.
    ramp_s : float
        The users begin evenly spread over this time, and after a think time.
    dialogue : Dialogue or None
        None: each request stands alone.
    requests : int or None
        No more requests than these in all.
    duration_s : float or None
        No request arrives at this time or later.
    weights : sequence of float
        Share of the users at each client.
    samples : int or None
        Rows of the accuracy table of which each request asks one.

    Raises
    ------
    InputError
        If a figure is out of its range, or neither ``requests`` nor ``duration_s`` is given.
    """

    users: int
    lengths: Lengths
    think_s: float
    think_cv: float = 1.0
    ramp_s: float = 0.0
    dialogue: Dialogue | None = None
    requests: int | None = None
    duration_s: float | None = None
    weights: Sequence[float] = (1.0,)
    samples: int | None = None

    def __post_init__(self) -> None:
        for name, least in (("users", 1), ("think_s", 0), ("think_cv", 0), ("ramp_s", 0)):
            _require(name, getattr(self, name), least)
        if self.requests is None and self.duration_s is None:
            raise InputError(
                "users who wait for answers never stop by themselves",
                hint="give 'requests' or 'duration'",
            )
        if self.think_s == 0 and self.requests is None:
            # requests that are rejected at once would come without end at one moment
            raise InputError("users who do not think need a number of requests", key="requests")

    def begin(self, streams: Streams) -> list[User]:
        """Return the users, each at the beginning of its streams."""
        shares = np.cumsum(self.weights) / np.sum(self.weights)
        places = (np.arange(self.users) + 0.5) / self.users
        clients = np.minimum(np.searchsorted(shares, places, side="right"), len(shares) - 1)
        return [
            User(self, number, int(client), streams.within("workload", "user", number))
            for number, client in enumerate(clients.tolist())
        ]


class User:
    """One user: what it asks, and how long it thinks.

    Parameters
    ----------
    loop : ClosedLoop
    number : int
        Index among the users.
    client : int
        Index of the client where it is.
    streams : Streams
        Its own.
    """

    def __init__(self, loop: ClosedLoop, number: int, client: int, streams: Streams) -> None:
        self._loop = loop
        self._number = number
        self._client = client
        self._lengths = _pairs(loop.lengths, streams)
        self._thinking = streams.stream("think")
        self._asking = streams.stream("samples")
        self._talking = streams.stream("turns")
        self._dialogues = 0
        self._turns_left = 0
        self._context = 0

    @property
    def start_s(self) -> float:
        """When it sits down, before it thinks for the first time."""
        return self._loop.ramp_s * self._number / self._loop.users

    def think_s(self) -> float:
        """Draw a think time."""
        mean_s, cv = self._loop.think_s, self._loop.think_cv
        if cv == 0 or mean_s == 0:
            return mean_s
        return mean_s * cv**2 * float(self._thinking.standard_gamma(1 / cv**2))

    def ask(self, answered: bool) -> Turn:
        """Return what it asks next.

        Parameters
        ----------
        answered : bool
            Whether the request before got its answer; of no meaning for the first one.
        """
        loop, dialogue = self._loop, self._loop.dialogue
        own, output = next(self._lengths)
        sample = -1 if loop.samples is None else int(self._asking.random() * loop.samples)
        if dialogue is None:
            return Turn(own, output, self._client, self._number, sample, ())
        ahead = dialogue.system_tokens + self._context + own + output
        if not answered or self._turns_left == 0 or ahead > dialogue.max_context:
            self._begin_dialogue(dialogue)
        tokens = dialogue.system_tokens + self._context + own
        self._turns_left -= 1
        self._context += own + output
        session = self._number + loop.users * (self._dialogues - 1)
        return Turn(
            tokens, output, self._client, session, sample, _hashes(dialogue, session, tokens)
        )

    def _begin_dialogue(self, dialogue: Dialogue) -> None:
        self._dialogues += 1
        self._context = 0
        self._turns_left = int(self._talking.geometric(1 / dialogue.turns))


def _pairs(lengths: Lengths, streams: Streams) -> Iterator[tuple[int, int]]:
    """Draw pairs of lengths without end."""
    sampler = lengths.sampler(streams)
    now = np.zeros(_DRAWN_AT_ONCE)
    while True:
        inputs, outputs = sampler(now)
        yield from zip(inputs.tolist(), outputs.tolist(), strict=True)


def _hashes(dialogue: Dialogue, session: int, tokens: int) -> tuple[int, ...]:
    size = dialogue.prefix_block_tokens
    position = np.arange(tokens // size)
    owner = np.where(position < dialogue.system_tokens // size, SYSTEM_PROMPT, session)
    return tuple(mix(owner, position).tolist())


def _require(name: str, value: float, least: float) -> None:
    if not least <= value < math.inf:
        raise InputError(f"{name} is {value}, must be at least {least}", key=name)
