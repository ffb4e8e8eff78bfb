"""Servers of one file on this machine: good ones and broken ones."""

from __future__ import annotations

import hashlib
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from infsim.workload.download import RemoteFile, download

CONTENT = bytes(range(256)) * 2000  # 512 kB: several reads
FILE = RemoteFile("trace.csv", len(CONTENT), hashlib.sha256(CONTENT).hexdigest())
HALF = len(CONTENT) // 2


@dataclass
class Server:
    """A server on this machine, and what it was asked for."""

    url: str
    asked: list[dict[str, str]] = field(default_factory=list)


Answer = Callable[[BaseHTTPRequestHandler, int], None]
"""Answers a request, the how manieth it is."""


@contextmanager
def serving(answer: Answer) -> Iterator[Server]:
    found: list[dict[str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found.append(dict(self.headers))
            with suppress(BrokenPipeError, ConnectionResetError):  # who asked has gone
                answer(self, len(found))

        def log_message(self, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield Server(f"http://127.0.0.1:{server.server_address[1]}/trace.csv", found)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def send(
    handler: BaseHTTPRequestHandler,
    body: bytes,
    status: int = 200,
    length: int | None = None,
    **headers: str,
) -> None:
    handler.send_response(status)
    handler.send_header("Content-Length", str(len(body) if length is None else length))
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    handler.wfile.write(body)


def asked_from(handler: BaseHTTPRequestHandler) -> int:
    span = handler.headers.get("Range", "")
    return int(span.removeprefix("bytes=").removesuffix("-")) if span else 0


def good(handler: BaseHTTPRequestHandler, number: int, tag: str = '"v1"') -> None:
    """A server that knows ranges and entity tags."""
    start = asked_from(handler)
    if start and handler.headers.get("If-Range", tag) == tag:
        span = f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}"
        send(handler, CONTENT[start:], 206, ETag=tag, Content_Range=span)
    else:
        send(handler, CONTENT, ETag=tag)


def breaks_off(handler: BaseHTTPRequestHandler, number: int) -> None:
    """Half of the file the first time, and the line is cut; the rest when it is asked for."""
    if number == 1:
        send(handler, CONTENT[:HALF], length=len(CONTENT), ETag='"v1"')
    else:
        good(handler, number)


def status(code: int) -> Answer:
    return lambda handler, number: send(handler, b"no", code)


def get(folder: Path, *urls: str, timeout_s: float = 5.0, **options: Any) -> Path:
    return download(FILE, urls, folder, timeout_s=timeout_s, **options)


def left_in(folder: Path) -> set[str]:
    """Return the files in the folder, but for the lock, which stays."""
    return {p.name for p in folder.iterdir() if not p.name.endswith(".lock")}


def unused_url() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}/trace.csv"
