"""What TCP adds to delay and serialization: handshake, slow start, window, cost of a message."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from infsim.errors import InputError

SEGMENT_BYTES = 1448.0
"""Payload of a segment: an Ethernet frame less the headers of IP and TCP, with timestamps."""


@dataclass(frozen=True, slots=True)
class Tcp:
    """Time that a message takes over TCP, beyond its delay and its bytes over the rate.

    A fresh connection costs one round trip for the handshake. Then the sender may have an initial
    window under way, and twice as much in each round trip, until the window fills the path;
    before that it waits for acknowledgements (slow start). A kept connection has opened its
    window with earlier messages and waits for nothing. On both, no more than the receive window
    is under way in a round trip, which caps the rate.

    Attributes
    ----------
    connection : {"kept", "fresh"}
        Whether messages use a connection that is there, or open one each.
    window_bytes : float
        Receive window. The default is half of the largest buffer that Linux gives by itself
        (6 MiB in ``net.ipv4.tcp_rmem``), as the other half pays for bookkeeping.
    initial_window_bytes : float
        Window of a new connection, ten segments (RFC 6928).
    message_overhead_s : float
        Time of each message in the sender, the receiver and their system calls; .1 ms was measured
        on Linux between two idle processes.

    Notes
    -----
    The rounds of slow start follow Cardwell, Savage and Anderson, "Modeling TCP latency"
    (INFOCOM 2000), with a window that doubles, as Linux acknowledges each of the first segments
    and counts bytes (RFC 3465), and a round trip that includes the first segment. Losses are not
    modelled, nor is the restart of a connection that was idle (RFC 5681). Held to real sockets in
    ``tests/fidelity/test_tcp.py``.
    """

    connection: Literal["kept", "fresh"] = "kept"
    window_bytes: float = 3 * 2.0**20
    initial_window_bytes: float = 10 * SEGMENT_BYTES
    message_overhead_s: float = 1e-4

    def __post_init__(self) -> None:
        for name in ("window_bytes", "initial_window_bytes"):
            if not 0 < getattr(self, name) < inf:
                raise InputError(f"TCP {name} must be positive, got {getattr(self, name)!r}")
        if not 0 <= self.message_overhead_s < inf:
            raise InputError(
                f"TCP message_overhead_s must not be negative, got {self.message_overhead_s!r}"
            )
        if self.connection not in ("kept", "fresh"):
            raise InputError(f"a TCP connection is kept or fresh, not {self.connection!r}")

    def extra_s(self, size_bytes: float, rtt_s: float, rate_bytes_per_s: float) -> float:
        """Return the time that a message takes beyond ``delay + bytes / rate``.

        Parameters
        ----------
        size_bytes : float
        rtt_s : float
            Round-trip time without load.
        rate_bytes_per_s : float
            Narrowest rate of the path, ``inf`` for no limit.
        """
        if self.connection == "kept":
            return self.message_overhead_s
        extra_s = self.message_overhead_s + rtt_s
        round_s = rtt_s + SEGMENT_BYTES / rate_bytes_per_s
        under_way = self.initial_window_bytes
        left = size_bytes - under_way
        while left > 0.0:
            stall_s = round_s - under_way / rate_bytes_per_s
            if stall_s <= 0.0 or under_way >= self.window_bytes:
                break
            extra_s += stall_s
            under_way *= 2.0
            left -= under_way
        return extra_s

    def most_bytes_per_s(self, rtt_s: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the rates at which the window allows a connection to send, by round-trip time."""
        with np.errstate(divide="ignore"):
            return np.asarray(self.window_bytes / rtt_s)
