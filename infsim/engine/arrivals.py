"""Requests come in: at times known beforehand, or from users who wait for their answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from infsim.engine.clock import LIMIT, Call
from infsim.errors import InputError
from infsim.policy.interface import Request

if TYPE_CHECKING:
    from infsim.engine.core import Engine
    from infsim.engine.dispatch import Dispatcher
    from infsim.workload.closed_loop import ClosedLoop
    from infsim.workload.requests import Requests, Workload


class OpenArrivals:
    """Requests that arrive at given times; one arrival is awaited at a time.

    Attributes
    ----------
    over : bool
        All have arrived.
    """

    def __init__(self, engine: Engine, desk: Dispatcher, workload: Workload) -> None:
        self.over = False
        self._engine = engine
        self._desk = desk
        self._blocks = workload.blocks(engine.experiment.streams)
        self._next_id = 0

    def start(self) -> None:
        """Await the first one."""
        self._load_block()

    def ended(self, request: Request, end_s: float, answered: bool) -> None:
        """A request has ended; these do not care."""

    def _load_block(self) -> None:
        for block in self._blocks:
            if len(block) > 0:
                self._rows(block)
                self._await(0)
                return
        self._finish()

    def _await(self, i: int) -> None:
        horizon_s = self._engine.settings.horizon_s
        if horizon_s is not None and self._arrivals[i] >= horizon_s:
            self._finish()
        else:
            self._engine.clock.at(self._arrivals[i], self._arrive, i)

    def _finish(self) -> None:
        self.over = True
        if self._desk.open:
            self._desk.stop_at(self._engine.clock.now + self._engine.settings.drain_s)
        else:
            self._engine.clock.stopped = True

    def _rows(self, block: Requests) -> None:
        if block.prefix_hashes is not None:
            check_prefix_blocks(self._engine, block.prefix_block_tokens)
        self._block = block
        self._arrivals: list[float] = block.arrival_s.tolist()
        self._inputs: list[int] = block.input_tokens.tolist()
        self._outputs: list[int] = block.output_tokens.tolist()
        self._clients: list[int] = block.client.tolist()
        self._sessions: list[int] = block.session_id.tolist()
        self._samples: list[int] = block.sample_id.tolist()

    def _hashes(self, i: int) -> tuple[int, ...]:
        offsets, hashes = self._block.prefix_offsets, self._block.prefix_hashes
        if offsets is None or hashes is None:
            return ()
        return tuple(hashes[offsets[i] : offsets[i + 1]].tolist())

    def _arrive(self, call: Call) -> None:
        i: int = call.argument
        request = Request(
            self._next_id,
            self._arrivals[i],
            self._inputs[i],
            self._clients[i],
            self._sessions[i],
            self._samples[i],
            self._hashes(i),
            self._block.prefix_block_tokens,
        )
        ticket = self._desk.take(request, self._outputs[i])
        self._next_id += 1
        if i + 1 < len(self._arrivals):
            self._await(i + 1)
        else:
            self._load_block()
        self._desk.decide(ticket)


class ClosedArrivals:
    """Users who ask, wait for the end of their request, think, and ask again.

    Attributes
    ----------
    over : bool
        No request will come, unless one that is open ends.
    """

    def __init__(self, engine: Engine, desk: Dispatcher, loop: ClosedLoop) -> None:
        if loop.dialogue is not None:
            check_prefix_blocks(engine, loop.dialogue.prefix_block_tokens)
        self._engine = engine
        self._desk = desk
        self._loop = loop
        self._users = loop.begin(engine.experiment.streams)
        self._user_of: dict[int, int] = {}
        self._answered = [False] * len(self._users)
        self._thinking = 0
        self._arrived = 0
        self._last_s = 0.0
        self._limited = False

    @property
    def over(self) -> bool:
        return self._thinking == 0 or self._full

    def start(self) -> None:
        """Let all users think for the first time."""
        for number, user in enumerate(self._users):
            self._think(number, user.start_s)
        if self.over:
            self._engine.clock.stopped = True

    def ended(self, request: Request, end_s: float, answered: bool) -> None:
        """Let the user of a request think about the next one."""
        number = self._user_of.pop(request.request_id)
        self._answered[number] = answered
        self._think(number, end_s)

    def _think(self, number: int, since_s: float) -> None:
        if self._full:
            return
        time_s = since_s + self._users[number].think_s()
        for limit_s in (self._loop.duration_s, self._engine.settings.horizon_s):
            if limit_s is not None and time_s >= limit_s:
                return
        self._thinking += 1
        self._engine.clock.at(time_s, self._arrive, (number, time_s))

    @property
    def _full(self) -> bool:
        return self._loop.requests is not None and self._arrived >= self._loop.requests

    def _arrive(self, call: Call) -> None:
        number, time_s = call.argument
        self._thinking -= 1
        if self._full:
            return
        turn = self._users[number].ask(self._answered[number])
        size = 512 if self._loop.dialogue is None else self._loop.dialogue.prefix_block_tokens
        request = Request(
            self._arrived,
            time_s,
            turn.input_tokens,
            turn.client,
            turn.session_id,
            turn.sample_id,
            turn.prefix_hashes,
            size,
        )
        self._user_of[self._arrived] = number
        self._arrived += 1
        self._last_s = time_s
        ticket = self._desk.take(request, turn.output_tokens)
        self._await_limit()
        self._desk.decide(ticket)

    def _await_limit(self) -> None:
        """End the run if nothing arrives for so long; one such event is pending at the most."""
        if not self._limited:
            self._limited = True
            limit_s = self._last_s + self._engine.settings.drain_s
            self._engine.clock.at(limit_s, self._limit, self._last_s, LIMIT)

    def _limit(self, call: Call) -> None:
        self._limited = False
        if call.argument != self._last_s:
            self._await_limit()
        elif self.over:
            self._engine.clock.stopped = True


def check_prefix_blocks(engine: Engine, size: int) -> None:
    """Raise `InputError` if the hashed blocks of prompts are not made of whole KV blocks."""
    if engine.settings.prefix_cache and size % engine.settings.block_tokens:
        raise InputError(
            f"prefix blocks of {size} tokens are no multiple of the KV blocks of"
            f" {engine.settings.block_tokens} tokens"
        )
