"""The client's side: starts the processes, sends prompts, kills, detects, starts again."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

from tests.fidelity.pipeline.model import STAGES, Piece, stage_weights
from tests.fidelity.pipeline.wire import PROMPT, Message, Sender, listen, read

ROOT = Path(__file__).resolve().parents[3]
TIMEOUT_S = 0.5
"""A stage is lost when its heartbeats have been missing for so long."""
SINGLE_THREADED = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


class Links(NamedTuple):
    """The network, and the store that weights come from."""

    delay_s: float
    bytes_per_s: float
    store_bytes_per_s: float


class Ask(NamedTuple):
    """A request of a run."""

    arrival_s: float
    prompt: list[int]
    output_tokens: int


class Kill(NamedTuple):
    """Kill a stage when the first request has so many tokens."""

    stage: int
    tokens: int


@dataclass
class Answer:
    """Tokens and when they came, in seconds since the start of the run."""

    tokens: list[int] = field(default_factory=list)
    times_s: list[float] = field(default_factory=list)


@dataclass
class Failure:
    """What happened after a kill, in seconds since the start of the run."""

    stage: int
    killed_s: float = float("nan")
    detected_s: float = float("nan")
    up_s: float = float("nan")
    ready_s: float = float("nan")


class Cluster:
    """Three stages, the links between them, and a client, all on this machine."""

    def __init__(self, form: str, links: Links) -> None:
        self.form = form
        self.links = links
        # how long each stage took to come up and to load its weights
        self.starts: list[dict[str, float]] = []
        self._epoch = 0
        self._store_port, self._control_port, self._inbox_port = _free_ports(3)
        self._stage_ports = _free_ports(STAGES)
        # links: client to 0, 0 to 1, 1 to 2, 2 to 0, 2 to client
        self._link_ports = _free_ports(STAGES + 2)
        self._weights = [stage_weights(stage) for stage in range(STAGES)]
        self._changed = threading.Condition()
        self._events: list[dict[str, Any]] = []
        self._beats: dict[int, float] = {}
        self._controls: dict[int, socket.socket] = {}
        self._messages: list[tuple[float, Message]] = []
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        self._started_s: dict[int, float] = {}

    def __enter__(self) -> Cluster:
        listen(self._store_port, self._serve_weights)
        listen(self._control_port, self._listen_to)
        listen(self._inbox_port, self._collect)
        targets = [*self._stage_ports, self._stage_ports[0], self._inbox_port]
        table = [
            (port, target, self.links.delay_s, self.links.bytes_per_s)
            for port, target in zip(self._link_ports, targets, strict=True)
        ]
        self._relay = _spawn("relay", table)
        for stage in range(STAGES):
            self._start(stage)
            self._await(stage, "ready", self._started_s[stage])
        self._prompts = Sender(self._link_ports[0])
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for process in (*self._processes.values(), self._relay):
            process.kill()
            process.wait()

    # --- running

    def run(self, asks: Sequence[Ask], kill: Kill | None = None) -> tuple[list[Answer], Failure]:
        """Send the requests at their times and collect their tokens."""
        self._reset()
        answers = [Answer() for _ in asks]
        failure = Failure(kill.stage if kill else -1)
        self._messages.clear()
        start_s = time.monotonic() + 0.05
        todo = sorted(range(len(asks)), key=lambda i: asks[i].arrival_s)
        while any(len(a.tokens) < q.output_tokens for a, q in zip(answers, asks, strict=True)):
            now_s = time.monotonic() - start_s
            while todo and asks[todo[0]].arrival_s <= now_s:
                self._send(todo[0], asks[todo[0]], answers[todo[0]])
                todo.pop(0)
            wake_s = asks[todo[0]].arrival_s - now_s if todo else 1.0
            self._take(answers, start_s, min(wake_s, 0.01))
            if kill and len(answers[0].tokens) >= kill.tokens:
                self._fail(kill.stage, failure, start_s)
                sent = [i for i in range(len(asks)) if i not in todo]
                self._take(answers, start_s, 0.0)
                self._messages.clear()
                for i in sent:
                    self._send(i, asks[i], answers[i])
                kill = None
        return answers, failure

    def logs(self) -> list[list[list[float]]]:
        """Return what each stage has computed since the last time: begin, end and totals."""
        since_s = time.monotonic()
        for stage in range(STAGES):
            self._tell(stage, what="log")
        return [self._await(stage, "log", since_s)["rows"] for stage in range(STAGES)]

    def _send(self, number: int, ask: Ask, answer: Answer) -> None:
        """Send what is to be computed: the prompt, and the tokens made so far."""
        tokens = ask.prompt + answer.tokens
        wanted = ask.output_tokens - len(answer.tokens)
        if wanted:
            piece = Piece(number, wanted, len(tokens), wants_token=True)
            self._prompts.send(Message(PROMPT, self._epoch, [piece], tokens))

    def _take(self, answers: list[Answer], start_s: float, patience_s: float) -> None:
        """Take the tokens that have come."""
        with self._changed:
            if not self._messages:
                self._changed.wait(max(0.0, patience_s))
            messages, self._messages = self._messages, []
        for time_s, message in messages:
            if message.epoch == self._epoch:
                for piece, token in zip(message.pieces, message.tokens, strict=True):
                    answers[piece.sequence].tokens.append(token)
                    answers[piece.sequence].times_s.append(time_s - start_s)

    # --- failures

    def rehearse(self) -> None:
        """Kill every stage once with nothing under way, to learn how long it takes to return."""
        for stage in range(STAGES):
            failure = Failure(stage)
            self._fail(stage, failure, 0.0)
            boot_s, load_s = failure.up_s - failure.killed_s, failure.ready_s - failure.up_s
            self.starts.append({"stage": stage, "boot_s": boot_s, "load_s": load_s})

    def _fail(self, stage: int, failure: Failure, start_s: float) -> None:
        """Kill a stage, notice it, start it again, and wait until it is ready."""
        killed_s = time.monotonic()
        os.kill(self._processes[stage].pid, signal.SIGKILL)
        self._processes[stage].wait()
        self._start(stage)
        while time.monotonic() - self._beats[stage] < TIMEOUT_S:
            time.sleep(0.001)
        failure.killed_s = killed_s - start_s
        failure.detected_s = time.monotonic() - start_s
        failure.up_s = self._await(stage, "up", killed_s)["time_s"] - start_s
        failure.ready_s = self._await(stage, "ready", killed_s)["time_s"] - start_s
        self._reset()

    def _reset(self) -> None:
        """Begin a new epoch: nothing that was under way counts any more."""
        self._epoch += 1
        since_s = time.monotonic()
        for stage in range(STAGES):
            self._tell(stage, what="reset", epoch=self._epoch)
        for stage in range(STAGES):
            self._await(stage, "reset", since_s)
        if self._epoch > 1:
            self._prompts.reset()

    def _start(self, stage: int) -> None:
        following = self._link_ports[stage + 1]
        settings = {
            "stage": stage,
            "format": self.form,
            "epoch": self._epoch,
            "port": self._stage_ports[stage],
            "next": following,
            "client": self._link_ports[-1],
            "control": self._control_port,
            "store": self._store_port,
        }
        self._started_s[stage] = time.monotonic()
        self._processes[stage] = _spawn("stage", settings)

    # --- connections

    def _serve_weights(self, connection: socket.socket) -> None:
        """Send the weights of a stage at the rate of the store."""
        weights = self._weights[read(connection, 1)[0]]
        connection.sendall(len(weights).to_bytes(8, "little"))
        began_s, chunk = time.monotonic(), 65536
        for at in range(0, len(weights), chunk):
            sent = min(at + chunk, len(weights))
            due_s = began_s + sent / self.links.store_bytes_per_s
            time.sleep(max(0.0, due_s - time.monotonic()))
            connection.sendall(weights[at:sent])

    def _listen_to(self, connection: socket.socket) -> None:
        """Take what a stage says."""
        for line in connection.makefile():
            event = json.loads(line)
            stage = event["stage"]
            with self._changed:
                if event["what"] == "up":
                    self._controls[stage] = connection
                if event["what"] == "beat":
                    self._beats[stage] = time.monotonic()
                else:
                    self._events.append(event)
                self._changed.notify_all()

    def _collect(self, connection: socket.socket) -> None:
        """Take tokens."""
        while True:
            message = Message.receive(connection)
            with self._changed:
                self._messages.append((time.monotonic(), message))
                self._changed.notify_all()

    def _tell(self, stage: int, **command: Any) -> None:
        self._controls[stage].sendall(json.dumps(command).encode() + b"\n")

    def _await(self, stage: int, what: str, since_s: float) -> dict[str, Any]:
        """Wait for a stage to say something, and return it."""
        with self._changed:
            while True:
                for event in self._events:
                    if (event["stage"], event["what"]) == (stage, what) and (
                        event["time_s"] >= since_s
                    ):
                        return event
                if not self._changed.wait(30.0):
                    raise TimeoutError(f"stage {stage} does not say {what!r}")


def _spawn(module: str, settings: Any) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", f"tests.fidelity.pipeline.{module}", json.dumps(settings)]
    return subprocess.Popen(command, cwd=ROOT, env=os.environ | SINGLE_THREADED)


def _free_ports(count: int) -> list[int]:
    """Return ports that nobody listens to."""
    sockets = [socket.create_server(("127.0.0.1", 0), reuse_port=True) for _ in range(count)]
    ports: list[int] = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports
