"""The model of TCP against messages over real sockets, see `measure_tcp.py`."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from infsim.cluster.networks.tcp import SEGMENT_BYTES, Tcp

FRAME_BYTES = 1500
"""What passes the link for each segment."""


def measured(connection: str) -> list[dict[str, float]]:
    """Rows of a kind; the least of their times, as other work of the machine only adds to it."""
    with (Path(__file__).parent / "tcp_messages.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(line for line in file if not line.startswith("#")))
    return [
        {name: float(value) for name, value in row.items() if name != "connection"}
        for row in rows
        if row["connection"] == connection
    ]


def modelled_ms(row: dict[str, float], tcp: Tcp) -> float:
    delay_s = row["delay_ms"] / 1e3
    rate = row["rate_mbit_per_s"] * 1e6 / 8 * SEGMENT_BYTES / FRAME_BYTES
    extra_s = tcp.extra_s(row["size_bytes"], 2 * delay_s, rate)
    return 1e3 * (delay_s + row["size_bytes"] / rate + extra_s)


@pytest.mark.parametrize(("connection", "within"), [("kept", 0.03), ("fresh", 0.06)])
def test_messages_take_as_long_as_on_real_sockets(connection: str, within: float) -> None:
    rows = measured(connection)
    tcp = Tcp(connection)  # type: ignore[arg-type]
    ratio = np.array([modelled_ms(row, tcp) / row["least_ms"] for row in rows])
    assert len(ratio) >= 50
    assert abs(np.median(ratio) - 1) < 0.025
    # the machine had other work: a message in twenty may have been held up in each of its runs
    assert np.quantile(np.abs(ratio - 1), 0.95) < within
    assert np.abs(ratio - 1).max() < 0.25


def test_without_slow_start_fresh_connections_would_be_far_off() -> None:
    rows = [row for row in measured("fresh") if row["size_bytes"] >= 64_000]
    ratio = [
        row["least_ms"] / (2 * row["delay_ms"] + row["size_bytes"] * 8e-3 / row["rate_mbit_per_s"])
        for row in rows
    ]
    # a round trip and the bytes over the rate are enough for long messages only
    assert 1.0 < min(ratio) < 1.1
    assert max(ratio) > 3
