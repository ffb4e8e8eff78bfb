"""A process that holds a third of the model.

    python -m tests.fidelity.pipeline.stage '{"stage": 0, ...}'

It says that it is up, loads its weights from the store, says that it is ready, and then computes
what comes, everything that has arrived in one iteration. The first stage decides what
enters an iteration, as `infsim.policy.batching.continuous.Continuous` does it; the last one
chooses the tokens.
"""

from __future__ import annotations

import json
import socket
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from math import ceil
from queue import SimpleQueue
from typing import Any

import numpy as np

from tests.fidelity.pipeline.model import HIDDEN, STAGES, Piece, Stage
from tests.fidelity.pipeline.wire import (
    BATCH,
    PROMPT,
    TOKENS,
    Message,
    Sender,
    connect,
    decode,
    encode,
    listen,
    read,
    totals,
)

TOKEN_BUDGET = 128
MAX_SEQUENCES = 16
HEARTBEAT_S = 0.02

Command = dict[str, Any]


@dataclass
class Sequence:
    """A prompt at the first stage, and the tokens made of it."""

    number: int
    tokens: list[int]
    wanted: int
    order: int
    prompt: int
    computed: int = 0


@dataclass
class Entry:
    """What the first stage knows: waiting prompts, and tokens that have come back."""

    waiting: list[Sequence] = field(default_factory=list)
    running: dict[int, Sequence] = field(default_factory=dict)
    prefilling: list[Sequence] = field(default_factory=list)
    ready: list[Sequence] = field(default_factory=list)
    orders: int = 0

    def take(self, message: Message) -> None:
        """Note a prompt, or tokens that came back."""
        for i, piece in enumerate(message.pieces):
            if message.kind == PROMPT:
                tokens = list(message.tokens)
                self.waiting.append(Sequence(piece.sequence, tokens, piece.start, 0, len(tokens)))
            elif piece.last:
                del self.running[piece.sequence]
            else:
                sequence = self.running[piece.sequence]
                sequence.tokens.append(message.tokens[i])
                self.ready.append(sequence)

    def plan(self) -> list[tuple[Piece, list[int]]]:
        """Fill an iteration: decodes that came back first, unfinished prompts, waiting ones."""
        limit = ceil(len(self.running) / STAGES)
        decodes, self.ready = self.ready[:limit], self.ready[limit:]
        left = TOKEN_BUDGET - len(decodes)
        plan = [self._decode(sequence) for sequence in sorted(decodes, key=lambda s: s.order)]
        while left and self.prefilling:
            plan.append(self._chunk(self.prefilling[0], left))
            left -= plan[-1][0].size
            if plan[-1][0].wants_token:
                self.prefilling.pop(0)
        while left and self.waiting and len(self.running) < MAX_SEQUENCES:
            sequence = self.waiting.pop(0)
            self.orders += 1
            sequence.order = self.orders
            self.running[sequence.number] = sequence
            plan.append(self._chunk(sequence, left))
            left -= plan[-1][0].size
            if not plan[-1][0].wants_token:
                self.prefilling.append(sequence)
        return plan

    def _decode(self, sequence: Sequence) -> tuple[Piece, list[int]]:
        start = len(sequence.tokens) - 1
        last = len(sequence.tokens) + 1 == sequence.prompt + sequence.wanted
        return Piece(sequence.number, start, 1, True, last), sequence.tokens[-1:]

    def _chunk(self, sequence: Sequence, room: int) -> tuple[Piece, list[int]]:
        start = sequence.computed
        tokens = sequence.tokens[start : start + room]
        sequence.computed += len(tokens)
        final = sequence.computed == sequence.prompt
        piece = Piece(sequence.number, start, len(tokens), final, final and sequence.wanted == 1)
        return piece, tokens


class Worker:
    """The process: connections, and the loop of iterations."""

    def __init__(self, settings: Command) -> None:
        self.stage: int = settings["stage"]
        self.form: str = settings["format"]
        self.epoch: int = settings["epoch"]
        self.next = Sender(settings["next"])
        self.client = Sender(settings["client"])
        self.queue: SimpleQueue[Message | Command] = SimpleQueue()
        self.entry = Entry()
        self.log: list[tuple[float, ...]] = []
        self._control = connect(settings["control"])
        self._lock = threading.Lock()
        self._say("up")
        store = connect(settings["store"])
        store.sendall(bytes([self.stage]))
        size = int.from_bytes(read(store, 8), "little")
        self.model = Stage(self.stage, read(store, size))
        self._warm_up()
        listen(settings["port"], self._receive)
        threading.Thread(target=self._commands, daemon=True).start()
        threading.Thread(target=self._beat, daemon=True).start()
        self._say("ready")

    def _warm_up(self) -> None:
        for count in (1, TOKEN_BUDGET):
            values = np.ones((count, HIDDEN), np.float32)
            self.model.forward([Piece(0, 0, count, False)], values)
        self.model.forget()

    def _say(self, what: str, **more: Any) -> None:
        line = json.dumps({"stage": self.stage, "what": what, "time_s": time.monotonic(), **more})
        with self._lock:
            self._control.sendall(line.encode() + b"\n")

    def _beat(self) -> None:
        while True:
            time.sleep(HEARTBEAT_S)
            self._say("beat")

    def _commands(self) -> None:
        for line in self._control.makefile():
            self.queue.put(json.loads(line))

    def _receive(self, connection: socket.socket) -> None:
        while True:
            self.queue.put(Message.receive(connection))

    # --- iterations

    def run(self) -> None:
        """Compute what comes, until told to stop."""
        pending: list[Message] = []
        while True:
            # wait only if there is nothing to do
            while not self.queue.empty() or not (pending or self._has_work()):
                item = self.queue.get()
                if isinstance(item, Message):
                    if item.epoch == self.epoch:
                        pending.append(item)
                elif not self._obey(item, pending):
                    return
            if self.stage == 0:
                for message in pending:
                    self.entry.take(message)
                pending.clear()
                self._first()
            else:
                self._later(list(_merged(pending)))

    def _has_work(self) -> bool:
        entry = self.entry
        return bool(
            entry.ready
            or entry.prefilling
            or (entry.waiting and len(entry.running) < MAX_SEQUENCES)
        )

    def _obey(self, command: Command, pending: list[Message]) -> bool:
        if command["what"] == "quit":
            return False
        if command["what"] == "reset":
            self.epoch = command["epoch"]
            pending.clear()
            self.entry = Entry()
            self.model.forget()
            self.next.reset()
            self.client.reset()
            self._say("reset", epoch=self.epoch)
        else:
            self._say("log", rows=self.log)
            self.log = []
        return True

    def _first(self) -> None:
        began_s = time.monotonic()
        plan = self.entry.plan()
        if not plan:
            return
        pieces = [piece for piece, _ in plan]
        values = self.model.embed([token for _, tokens in plan for token in tokens])
        values = self.model.forward(pieces, values)
        message = Message(BATCH, self.epoch, pieces, data=encode(values, self.form))
        self._note(began_s, pieces)
        self.next.send(message)

    def _later(self, batches: list[Message]) -> None:
        began_s = time.monotonic()
        pieces = [piece for batch in batches for piece in batch.pieces]
        counts = [sum(piece.size for piece in batch.pieces) for batch in batches]
        values = np.concatenate(
            [decode(b.data, self.form, n) for b, n in zip(batches, counts, strict=True)]
        )
        values = self.model.forward(pieces, values)
        if self.stage < STAGES - 1:
            parts = np.split(values, np.cumsum(counts)[:-1])
            messages = [
                Message(BATCH, self.epoch, batch.pieces, data=encode(part, self.form))
                for batch, part in zip(batches, parts, strict=True)
            ]
        else:
            made = iter(self.model.tokens(pieces, values))
            messages = []
            for batch in batches:
                wanting = [piece for piece in batch.pieces if piece.wants_token]
                tokens = [next(made) for _ in wanting]
                messages.append(Message(TOKENS, self.epoch, wanting, tokens))
        self._note(began_s, pieces)
        for message in messages:
            if message.pieces:
                self.next.send(message)
                if message.kind == TOKENS:
                    self.client.send(message)

    def _note(self, began_s: float, pieces: list[Piece]) -> None:
        self.log.append((began_s, time.monotonic(), *totals(pieces)))


def _merged(pending: list[Message]) -> Iterator[Message]:
    """Take batches from the front while they fit into the budget, at least one."""
    left = TOKEN_BUDGET
    while pending:
        left -= sum(piece.size for piece in pending[0].pieces)
        yield pending.pop(0)
        if pending and sum(piece.size for piece in pending[0].pieces) > left:
            return


if __name__ == "__main__":
    Worker(json.loads(sys.argv[1])).run()
