"""Messages between the processes, and the formats of the activations in them."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from tests.fidelity.pipeline.model import HIDDEN, Array, Piece

VALUE_BITS = {"fp32": 32, "fp16": 16, "int8": 8}
"""Bits of one value by format; int8 adds a scale per token."""

_HEADER = struct.Struct("<IBIHI")
_PIECE = struct.Struct("<iii??")
PROMPT, BATCH, TOKENS = range(3)


def encode(values: Array, form: str) -> bytes:
    """Return activations as bytes."""
    if form == "fp32":
        return bytes(values.tobytes())
    if form == "fp16":
        return bytes(values.astype(np.float16).tobytes())
    scale = np.abs(values).max(axis=1, keepdims=True) / np.float32(127)
    scale[scale == 0] = 1
    return bytes(scale.tobytes() + np.rint(values / scale).astype(np.int8).tobytes())


def decode(data: bytes, form: str, rows: int) -> Array:
    """Return the activations of so many tokens from bytes."""
    if form == "int8":
        scale = np.frombuffer(data, np.float32, rows).reshape(rows, 1)
        quantized = np.frombuffer(data, np.int8, offset=4 * rows).reshape(rows, HIDDEN)
        return quantized.astype(np.float32) * scale
    kind = np.float32 if form == "fp32" else np.float16
    return np.frombuffer(data, kind).reshape(rows, HIDDEN).astype(np.float32)


@dataclass
class Message:
    """A prompt, a batch with its activations, or the tokens that a batch has made.

    Attributes
    ----------
    kind : int
        `PROMPT`, `BATCH` or `TOKENS`.
    epoch : int
        Raised by every recovery: older messages are void.
    pieces : list of Piece
        What is computed. A prompt is one piece whose ``start`` is the number of tokens wanted.
    tokens : list of int
        Those of a prompt, or those made, one for each piece.
    data : bytes
        Encoded activations.
    """

    kind: int
    epoch: int
    pieces: list[Piece]
    tokens: list[int] = field(default_factory=list)
    data: bytes = b""

    def packed(self) -> bytes:
        """Return the message as bytes."""
        parts = [_PIECE.pack(*piece) for piece in self.pieces]
        parts.append(np.array(self.tokens, np.int32).tobytes())
        parts.append(self.data)
        body = b"".join(parts)
        header = _HEADER.pack(len(body), self.kind, self.epoch, len(self.pieces), len(self.tokens))
        return header + body

    @staticmethod
    def receive(connection: socket.socket) -> Message:
        """Read one message; raises ConnectionError at the end of the stream."""
        size, kind, epoch, pieces, tokens = _HEADER.unpack(read(connection, _HEADER.size))
        body = read(connection, size)
        rows = [Piece(*row) for row in _PIECE.iter_unpack(body[: pieces * _PIECE.size])]
        at = pieces * _PIECE.size
        made = np.frombuffer(body, np.int32, tokens, offset=at).tolist()
        return Message(kind, epoch, rows, made, bytes(body[at + 4 * tokens :]))


def read(connection: socket.socket, size: int) -> bytearray:
    """Read so many bytes."""
    data = bytearray(size)
    view = memoryview(data)
    while view:
        count = connection.recv_into(view)
        if not count:
            raise ConnectionError("closed by the other side")
        view = view[count:]
    return data


class Sender:
    """A connection to a port here that is made anew when it breaks; what was on it is lost."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._connection: socket.socket | None = None

    def send(self, message: Message) -> None:
        """Send a message, or lose it."""
        try:
            if self._connection is None:
                self._connection = connect(self.port)
            self._connection.sendall(message.packed())
        except OSError:
            self._close()

    def reset(self) -> None:
        """Make the connection anew, so that the next message does not wait for one."""
        self._close()
        self._connection = connect(self.port)

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def connect(port: int, patience_s: float = 10.0) -> socket.socket:
    """Connect to a port here, which may not be open yet."""
    end_s = time.monotonic() + patience_s
    while True:
        try:
            connection = socket.create_connection(("127.0.0.1", port))
        except OSError:
            if time.monotonic() > end_s:
                raise
            time.sleep(0.005)
        else:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return connection


def listen(port: int, handle: Callable[[socket.socket], None]) -> socket.socket:
    """Handle every connection to a port in a thread of its own until it breaks."""
    server = socket.create_server(("127.0.0.1", port), reuse_port=True)

    def serve(connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            handle(connection)
        except OSError:
            connection.close()

    def accept() -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(connection,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    return server


def totals(pieces: Sequence[Piece]) -> tuple[int, int, int, int, int, int]:
    """Return what `StepCost.step_s` asks about a batch; a piece of one token later on decodes."""
    chunks = [p for p in pieces if p.size > 1 or p.start == 0]
    decodes = [p for p in pieces if p.size == 1 and p.start > 0]
    return (
        sum(p.size for p in chunks),
        sum(p.size * p.start + p.size * (p.size + 1) // 2 for p in chunks),
        sum(p.start + p.size for p in chunks),
        len(decodes),
        sum(p.start + 1 for p in decodes),
        sum(p.wants_token for p in pieces),
    )
