"""Links with a delay and a rate, between connections on one machine.

    python -m tests.fidelity.pipeline.relay '[[in_port, out_port, delay_s, bytes_per_s], ...]'

A link passes bytes on as they come, no faster than its rate, each after the delay: the last byte
of a message of b bytes that begins at s arrives at ``s + b / rate + delay``.
"""

from __future__ import annotations

import json
import socket
import sys
import threading
import time
from queue import SimpleQueue

from tests.fidelity.pipeline.wire import connect, listen

CHUNK_BYTES = 512
"""A link passes on so many bytes at a time, as packets do: a short message does not wait for
those that are sent right after it."""


class Link:
    """One direction between two processes."""

    def __init__(self, in_port: int, out_port: int, delay_s: float, bytes_per_s: float) -> None:
        self.out_port = out_port
        self.delay_s = delay_s
        self.bytes_per_s = bytes_per_s
        self._free_s = 0.0
        listen(in_port, self._carry)

    def _carry(self, source: socket.socket) -> None:
        """Carry one connection to its end; when the far side breaks, break the near one."""
        target = connect(self.out_port)
        queue: SimpleQueue[tuple[float, bytes]] = SimpleQueue()
        threading.Thread(target=self._deliver, args=(queue, source, target), daemon=True).start()
        while data := source.recv(CHUNK_BYTES):
            self._free_s = max(time.monotonic(), self._free_s) + len(data) / self.bytes_per_s
            queue.put((self._free_s + self.delay_s, data))
        queue.put((0.0, b""))

    def _deliver(
        self, queue: SimpleQueue[tuple[float, bytes]], source: socket.socket, target: socket.socket
    ) -> None:
        while True:
            due_s, data = queue.get()
            if not data:
                target.close()
                return
            time.sleep(max(0.0, due_s - time.monotonic()))
            try:
                target.sendall(data)
            except OSError:
                source.shutdown(socket.SHUT_RDWR)
                return


if __name__ == "__main__":
    links = [Link(*link) for link in json.loads(sys.argv[1])]
    threading.Event().wait()
