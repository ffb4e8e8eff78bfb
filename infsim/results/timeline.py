"""A run as a Chrome trace: open it at https://ui.perfetto.dev or chrome://tracing.

One process per node with one track per stage, and one process with the requests, each a slice
from arrival to end with its queueing, prefill and decode inside. The format is Google's "Trace
Event Format"; times in it are microseconds.
"""

from __future__ import annotations

import gzip
import io
import json
import math
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from infsim.results.recorder import INCIDENT_KINDS, STATUS_NAMES, Columns, RunRecord

Event = dict[str, Any]

# Tracks of a node besides its stages, which count from 0.
_STATE_TRACK = 1_000_000


@dataclass(frozen=True, slots=True)
class Span:
    """Time that a node spent down, or loading its weights."""

    node: int
    state: Literal["down", "loading"]
    start_s: float
    end_s: float


def node_spans(record: RunRecord) -> list[Span]:
    """Return when nodes were down or loading, from the incidents, in order of their ends."""
    spans: list[Span] = []
    since: dict[int, tuple[Literal["down", "loading"], float]] = {}
    incidents = record.incidents
    for time_s, node, code in zip(
        incidents["time_s"].tolist(),
        incidents["node"].tolist(),
        incidents["kind"].tolist(),
        strict=True,
    ):
        kind = INCIDENT_KINDS[code]
        if kind not in ("down", "up", "ready"):
            continue
        if node in since:
            state, start_s = since.pop(node)
            spans.append(Span(node, state, start_s, time_s))
        if kind == "down":
            since[node] = ("down", time_s)
        elif kind == "up":
            since[node] = ("loading", time_s)
    rest = [Span(node, state, start_s, record.end_s) for node, (state, start_s) in since.items()]
    return [span for span in spans + rest if span.end_s > span.start_s]


def events(record: RunRecord) -> Iterator[Event]:
    """Yield the events of the trace."""
    names = record.text(record.nodes["name"])
    for node, name in zip(record.nodes["node"].tolist(), names, strict=True):
        yield _named("process_name", node, name)
        yield _named("thread_name", node, "state", _STATE_TRACK)
    for node, stage in sorted({*_pairs(record.segments, "node", "stage")}):
        yield _named("thread_name", node, f"stage {stage}", stage)
    yield from _segments(record.segments)
    for span in node_spans(record):
        yield _slice(span.state, span.node, _STATE_TRACK, span.start_s, span.end_s, {})
    yield from _incidents(record)
    requests_process = len(names)
    yield _named("process_name", requests_process, "requests")
    for row in _rows(record.requests):
        yield from _request(row, requests_process, record)


def write_timeline(record: RunRecord, path: Path) -> None:
    """Write the trace as JSON; compressed if the name ends in ``.gz``."""
    with ExitStack() as stack:
        raw = stack.enter_context(path.open("wb"))
        binary: Any = raw
        if path.suffix == ".gz":
            # no name and no time inside: the same run gives the same bytes
            binary = stack.enter_context(gzip.GzipFile("", "wb", fileobj=raw, mtime=0))
        out = stack.enter_context(io.TextIOWrapper(binary, encoding="utf-8"))
        out.write('{"displayTimeUnit":"ms","traceEvents":[\n')
        separator = ""
        for event in events(record):
            out.write(separator + json.dumps(event, separators=(",", ":"), allow_nan=False))
            separator = ",\n"
        out.write("\n]}\n")


def _pairs(columns: Columns, first: str, second: str) -> Iterator[tuple[int, int]]:
    return zip(columns[first].tolist(), columns[second].tolist(), strict=True)


def _rows(columns: Columns) -> Iterator[Event]:
    lists = [column.tolist() for column in columns.values()]
    return (dict(zip(columns, row, strict=True)) for row in zip(*lists, strict=True))


def _us(time_s: float) -> float:
    return round(time_s * 1e6, 3)


def _named(kind: str, process: int, name: str, track: int = 0) -> Event:
    return {"ph": "M", "name": kind, "pid": process, "tid": track, "args": {"name": name}}


def _slice(
    name: str, process: int, track: int, start_s: float, end_s: float, args: dict[str, Any]
) -> Event:
    return {
        "ph": "X",
        "name": name,
        "pid": process,
        "tid": track,
        "ts": _us(start_s),
        "dur": _us(end_s - start_s),
        "args": args,
    }


def _segments(segments: Columns) -> Iterator[Event]:
    for row in _rows(segments):
        node, stage = row.pop("node"), row.pop("stage")
        start_s, end_s = row.pop("start_s"), row.pop("end_s")
        if row["prefill_tokens"] and row["decode_sequences"]:
            name = "prefill + decode"
        else:
            name = "prefill" if row["prefill_tokens"] else "decode"
        yield _slice(name, node, stage, start_s, end_s, row)


def _incidents(record: RunRecord) -> Iterator[Event]:
    for row in _rows(record.incidents):
        args = {"detail": record.texts[row["detail"]]}
        if row["request_id"] >= 0:
            args["request_id"] = row["request_id"]
        yield {
            "ph": "i",
            "name": INCIDENT_KINDS[row["kind"]],
            "pid": max(row["node"], 0),
            "tid": _STATE_TRACK,
            "ts": _us(row["time_s"]),
            "s": "p" if row["node"] >= 0 else "g",
            "args": args,
        }


def _request(row: Event, process: int, record: RunRecord) -> Iterator[Event]:
    """Yield one request: a slice from arrival to end, with its phases nested in it."""
    identity = row["request_id"]
    end_s = record.end_s if math.isnan(row["end_s"]) else row["end_s"]
    counts = ("session_id", "input_tokens", "generated_tokens", "cached_tokens", "attempts")
    args = {name: row[name] for name in counts}
    args |= {"status": STATUS_NAMES[row["status"]], "error": record.texts[row["error"]]}
    moments = [row["arrival_s"], row["start_s"], row["first_token_s"], end_s]
    phases = [(f"request {identity}", row["arrival_s"], end_s, args)]
    for name, at in (("queue", 0), ("prefill", 1), ("decode", 2)):
        if not math.isnan(moments[at]):
            later = [moment for moment in moments[at + 1 :] if not math.isnan(moment)]
            phases.append((name, moments[at], later[0], {}))
    for name, start_s, stop_s, details in phases:
        common = {"cat": "request", "id": identity, "pid": process, "tid": 0, "name": name}
        yield common | {"ph": "b", "ts": _us(start_s), "args": details}
        yield common | {"ph": "e", "ts": _us(stop_s)}
