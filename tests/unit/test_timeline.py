"""The Chrome trace says what the record says."""

import gzip
import json
import math
from pathlib import Path
from typing import Any

import pytest

from infsim.results.recorder import Status
from infsim.results.timeline import Span, events, node_spans, write_timeline
from tests.records import record

RUN = record(
    [
        {},
        {
            "status": Status.UNFINISHED,
            "arrival_s": 5.0,
            "end_s": math.nan,
            "start_s": math.nan,
            "first_token_s": math.nan,
        },
    ],
    ({}, {}),
    [(0, 0, 1.0, 2.0, 1, 100, 0, 0), (0, 0, 2.0, 4.0, 4, 0, 1, 100), (1, 2, 2.0, 3.0, 1, 8, 1, 9)],
    [(3.0, 1, "down"), (5.0, 1, "up"), (6.0, 1, "ready"), (6.5, 0, "preempt", 1, "KV full")],
)


def of_phase(phase: str, **wanted: Any) -> list[dict[str, Any]]:
    found = [event for event in events(RUN) if event["ph"] == phase]
    return [event for event in found if wanted.items() <= event.items()]


def test_nodes_are_processes_and_stages_tracks() -> None:
    names = {(e["name"], e["pid"], e["tid"]): e["args"]["name"] for e in of_phase("M")}
    assert names["process_name", 0, 0] == "node-0"
    assert names["process_name", 1, 0] == "node-1"
    assert names["process_name", 2, 0] == "requests"
    assert names["thread_name", 1, 2] == "stage 2"


def test_segments_are_slices_in_microseconds() -> None:
    (prefill,) = of_phase("X", name="prefill")
    assert (prefill["ts"], prefill["dur"], prefill["pid"], prefill["tid"]) == (1e6, 1e6, 0, 0)
    (decode,) = of_phase("X", name="decode")
    assert decode["args"]["iterations"] == 4
    assert len(of_phase("X", name="prefill + decode")) == 1


def test_outages_are_slices_and_incidents_instants() -> None:
    (down,) = of_phase("X", name="down")
    (loading,) = of_phase("X", name="loading")
    assert (down["pid"], down["ts"], down["dur"]) == (1, 3e6, 2e6)
    assert (loading["ts"], loading["dur"]) == (5e6, 1e6)
    (preempt,) = of_phase("i", name="preempt")
    assert preempt["args"] == {"detail": "KV full", "request_id": 1}


def test_requests_are_nested_and_every_slice_is_closed() -> None:
    opened = [(e["id"], e["name"]) for e in of_phase("b")]
    closed = [(e["id"], e["name"]) for e in of_phase("e")]
    assert sorted(opened) == sorted(closed)
    assert [name for number, name in opened if number == 0] == [
        "request 0",
        "queue",
        "prefill",
        "decode",
    ]
    (queue,) = of_phase("b", id=0, name="queue")
    assert queue["ts"] == 0
    assert [e["ts"] for e in of_phase("e", id=0)] == [4e6, 1e6, 2e6, 4e6]


def test_an_unfinished_request_lasts_to_the_end_of_the_run() -> None:
    (whole,) = of_phase("e", id=1, name="request 1")
    assert whole["ts"] == RUN.end_s * 1e6
    (start,) = of_phase("b", id=1, name="request 1")
    assert start["args"]["status"] == "unfinished"


def test_states_of_nodes() -> None:
    still_down = record(incidents=[(1.0, 0, "down"), (2.0, 0, "up"), (3.0, 0, "down")], end_s=9.0)
    assert node_spans(still_down) == [
        Span(0, "down", 1.0, 2.0),
        Span(0, "loading", 2.0, 3.0),  # failed again before it was ready
        Span(0, "down", 3.0, 9.0),
    ]


@pytest.mark.parametrize("name", ["t.json", "t.json.gz"])
def test_the_file_is_json_and_its_bytes_are_reproducible(tmp_path: Path, name: str) -> None:
    first, second = tmp_path / name, tmp_path / f"again-{name}"
    write_timeline(RUN, first)
    write_timeline(RUN, second)
    raw = first.read_bytes()
    assert raw == second.read_bytes()
    trace = json.loads(gzip.decompress(raw) if name.endswith("gz") else raw)
    assert trace["traceEvents"] == list(events(RUN))
