"""Measure messages over real TCP sockets with a delay and a rate between them.

Two network namespaces, each with a TUN device, and a relay in user space that holds every packet
back: the kernel's own TCP (handshake, slow start, windows, acknowledgements) sees a path of the
delay and the rate, whose queue never overflows. Needs root, and Linux::

    sudo python tests/fidelity/measure_tcp.py tests/fidelity/tcp_messages.csv
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import platform
import select
import signal
import socket
import statistics
import struct
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

SPACES = ("infsim-a", "infsim-b")
ADDRESSES = ("10.199.7.1", "10.199.7.2")
PORT = 7070
FRAME_BYTES = 1500
RUNS = 9
WARM_UP = 8
DELAYS_MS = (5, 10, 20)
RATES_MBIT = (20, 100, 200)
SIZES = (1_000, 10_000, 64_000, 256_000, 1_000_000, 4_000_000)

_TUNSETIFF, _IFF_TUN, _IFF_NO_PI, _CLONE_NEWNET = 0x400454CA, 0x1, 0x1000, 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


@contextmanager
def inside(space: str) -> Iterator[None]:
    """Open sockets and devices in a network namespace."""
    home, there = (os.open(p, os.O_RDONLY) for p in ("/proc/self/ns/net", f"/run/netns/{space}"))
    try:
        if _libc.setns(there, _CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "setns")
        yield
    finally:
        _libc.setns(home, _CLONE_NEWNET)
        os.close(home)
        os.close(there)


def tunnel(space: str, address: str) -> int:
    """A TUN device in a new namespace, up and with an address."""
    subprocess.run(["ip", "netns", "add", space], check=True)
    with inside(space):
        device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        fcntl.ioctl(device, _TUNSETIFF, struct.pack("16sH22x", b"tun0", _IFF_TUN | _IFF_NO_PI))
        for command in (
            f"ip address add {address}/24 dev tun0",
            f"ip link set tun0 mtu {FRAME_BYTES} txqueuelen 20000 up",
            "sysctl -qw net.ipv4.tcp_no_metrics_save=1",
        ):
            subprocess.run(command.split(), check=True)
        buffers = "net.ipv4.tcp_rmem=4096 131072 6291456"  # the default of Linux
        subprocess.run(["sysctl", "-qw", buffers], check=True)
    return device


def relay(devices: tuple[int, int], delay_s: float, bytes_per_s: float) -> None:
    """Pass packets on: one after the other at the rate, and the delay later."""
    waiting: tuple[deque[tuple[float, bytes]], ...] = (deque(), deque())
    free = [0.0, 0.0]
    while True:
        now = time.monotonic()
        due = min((queue[0][0] for queue in waiting if queue), default=now + 1.0)
        ready = select.select(devices, (), (), max(due - now, 0.0))[0]
        for way, device in enumerate(devices):
            while device in ready:
                try:
                    packet = os.read(device, 2 * FRAME_BYTES)
                except BlockingIOError:
                    break
                free[way] = max(free[way], time.monotonic()) + len(packet) / bytes_per_s
                waiting[way].append((free[way] + delay_s, packet))
            queue, other = waiting[way], devices[1 - way]
            while queue and queue[0][0] <= time.monotonic():
                os.write(other, queue.popleft()[1])


def receive(pipe: int, listening: socket.socket) -> None:
    """Read messages, each with its size in front, and report when they are complete."""
    while True:
        connection = listening.accept()[0]
        while head := connection.recv(8, socket.MSG_WAITALL):
            left = struct.unpack("!q", head)[0] - len(head)
            while left > 0:
                left -= len(connection.recv(min(left, 1 << 20)))
            os.write(pipe, struct.pack("d", time.monotonic()))


def child(work: Callable[[], None]) -> int:
    """Do something in a process of its own."""
    process = os.fork()
    if not process:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        work()
        os._exit(0)
    return process


def fresh_socket() -> socket.socket:
    """A socket that is not connected yet; to change the namespace takes milliseconds."""
    with inside(SPACES[0]):
        connection = socket.socket()
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, b"cubic")
    return connection


def message_s(size: int, pipe: int, connection: socket.socket, *, fresh: bool) -> float:
    """Time from the beginning of a message, of its handshake on a fresh connection, to its end."""
    content = struct.pack("!q", size) + bytes(size - 8)
    start = time.monotonic()
    if fresh:
        connection.connect((ADDRESSES[1], PORT))
    connection.sendall(content)
    end: float = struct.unpack("d", os.read(pipe, 8))[0]
    return end - start


def measure(size: int, fresh: bool, pipe: int) -> list[float]:
    """Times of some messages; on a kept connection after others of their size."""
    times = []
    for run in range(RUNS if fresh else RUNS + WARM_UP):
        if fresh or run == 0:
            connection = fresh_socket()
        times.append(message_s(size, pipe, connection, fresh=fresh or run == 0))
        if fresh:
            connection.close()
    connection.close()
    return times[-RUNS:]


def main(path: Path) -> None:
    devices = (tunnel(SPACES[0], ADDRESSES[0]), tunnel(SPACES[1], ADDRESSES[1]))
    with inside(SPACES[1]):
        listening = socket.socket()
    listening.bind((ADDRESSES[1], PORT))
    listening.listen()
    reading, writing = os.pipe()
    receiver = child(partial(receive, writing, listening))
    lines = [
        f"# Linux {platform.release()}, Python {platform.python_version()}, cubic, {RUNS} runs",
        "delay_ms,rate_mbit_per_s,size_bytes,connection,time_ms,least_ms,most_ms",
    ]
    try:
        for delay_ms in DELAYS_MS:
            for rate in RATES_MBIT:
                path_s, bytes_per_s = delay_ms / 1e3, rate * 1e6 / 8
                process = child(partial(relay, devices, path_s, bytes_per_s))
                for size in SIZES:
                    for connection in ("fresh", "kept"):
                        times = [t * 1e3 for t in measure(size, connection == "fresh", reading)]
                        figures = statistics.median(times), min(times), max(times)
                        shown = ",".join(f"{figure:.2f}" for figure in figures)
                        lines.append(f"{delay_ms},{rate},{size},{connection},{shown}")
                        sys.stderr.write(f"{lines[-1]}\n")
                os.kill(process, signal.SIGTERM)
                os.waitpid(process, 0)
    finally:
        os.kill(receiver, signal.SIGTERM)
        for space in SPACES:
            subprocess.run(["ip", "netns", "delete", space], check=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
