"""What happened in one run: written row by row by the engine, read as columns afterwards.

A row is packed into bytes the moment it is known (a segment: 0.3 µs, and 48 bytes kept), so
that a run keeps no Python object per request or segment, and the columns are numpy views of the
same layout at the end.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

Columns = Mapping[str, NDArray[Any]]


class Status(IntEnum):
    """How a request ended."""

    COMPLETED = 0
    FAILED = 1
    REJECTED = 2
    UNFINISHED = 3


STATUS_NAMES = tuple(status.name.lower() for status in Status)
INCIDENT_KINDS = ("down", "up", "ready", "loss", "recover", "preempt", "notice")

_KIND_CODES = {kind: code for code, kind in enumerate(INCIDENT_KINDS)}


class _Rows:
    """Rows of fixed layout in one growing buffer.

    ``layout`` maps each column to its `struct` code: ``d`` float64, ``q`` int64, ``i`` int32,
    ``b`` int8.
    """

    __slots__ = ("_buffer", "_dtype", "_pack")

    def __init__(self, layout: Mapping[str, str]) -> None:
        self._pack = struct.Struct("=" + "".join(layout.values())).pack
        self._dtype = np.dtype(list(layout.items()))
        self._buffer = bytearray()

    def append(self, *row: float) -> None:
        self._buffer += self._pack(*row)

    def columns(self, sort_by: str) -> Columns:
        """Return the columns as contiguous arrays, ordered (stably) by one of them."""
        rows = np.frombuffer(self._buffer, dtype=self._dtype)
        order = np.argsort(rows[sort_by], kind="stable")
        return {name: rows[name][order] for name in self._dtype.names or ()}


REQUEST_LAYOUT = {
    "request_id": "q",
    "session_id": "q",
    "client": "i",
    "arrival_s": "d",
    "start_s": "d",
    "first_token_s": "d",
    "end_s": "d",
    "input_tokens": "q",
    "output_tokens": "q",
    "generated_tokens": "q",
    "cached_tokens": "q",
    "preemptions": "i",
    "attempts": "i",
    "forwards": "i",
    "wasted_tokens": "q",
    "deployment": "i",
    "replica": "i",
    "correct": "b",
    "confidence": "d",
    "status": "b",
    "error": "i",
}
SEGMENT_LAYOUT = {
    "node": "i",
    "stage": "i",
    "start_s": "d",
    "end_s": "d",
    "iterations": "q",
    "prefill_tokens": "q",
    "decode_sequences": "q",
    "context_tokens": "q",
}
INCIDENT_LAYOUT = {"time_s": "d", "node": "i", "kind": "b", "request_id": "q", "detail": "i"}
NODE_LAYOUT = {
    "node": "i",
    "name": "i",
    "up_s": "d",
    "busy_s": "d",
    "down_s": "d",
    "loading_s": "d",
    "energy_j": "d",
    "carbon_g": "d",
    "energy_cost": "d",
    "peak_kv_bytes": "d",
    "weight_bytes": "d",
    "kv_capacity_bytes": "d",
    "tokens": "q",
    "iterations": "q",
    "failures": "q",
    "bytes_sent": "d",
    "bytes_received": "d",
}


@dataclass(frozen=True, slots=True)
class RunRecord:
    """Everything that happened in one run, as columns.

    Attributes
    ----------
    requests : mapping of str to array (n,)
        One row per request, by ``request_id``. Times in seconds since the start of the run, NaN
        for what did not happen. ``status`` is a `Status` code, ``error`` indexes `texts`,
        ``correct`` is 1, 0 or -1 (not known), ``confidence`` NaN if there is none,
        ``deployment`` and ``replica`` -1 if none served the request.
    nodes : mapping of str to array (nodes,)
        Totals per node: seconds, joules, grams of CO2e, money, bytes, counts. ``name`` indexes
        `texts`.
    segments : mapping of str to array (s,)
        Spans of equal iterations of a stage on a node, by ``start_s``.
    incidents : mapping of str to array (k,)
        What went wrong or right with the nodes, by ``time_s``. ``kind`` indexes
        `INCIDENT_KINDS`, ``detail`` indexes `texts`, ``node`` and ``request_id`` are -1 for none.
    texts : tuple of str
        Texts that columns refer to; the first is the empty one.
    counters : mapping of str to number
        Events of the engine, bytes sent, received and lost, extrapolated costs, and so on.
    interrupted : bool
        True if the run was stopped before its end.
    end_s : float
        Simulated time at the end.
    """

    requests: Columns
    nodes: Columns
    segments: Columns
    incidents: Columns
    texts: tuple[str, ...]
    counters: Mapping[str, float]
    interrupted: bool
    end_s: float

    def text(self, codes: NDArray[Any]) -> list[str]:
        """Return the texts that a column of codes stands for."""
        return [self.texts[code] for code in codes.tolist()]


class Recorder:
    """Takes down one run. The engine calls it; `finish` gives the record.

    ``segment(row)`` takes a tuple in the order of `SEGMENT_LAYOUT`: node, stage, start_s, end_s,
    iterations, prefill_tokens, decode_sequences, context_tokens (counts are integers).

    Attributes
    ----------
    counters : dict of str to number
        Free for the engine to count in.
    """

    __slots__ = ("_incidents", "_nodes", "_requests", "_segments", "_texts", "counters")

    def __init__(self) -> None:
        self.counters: dict[str, float] = {}
        self._texts = {"": 0}
        self._requests = _Rows(REQUEST_LAYOUT)
        self._segments = _Rows(SEGMENT_LAYOUT)
        self._incidents = _Rows(INCIDENT_LAYOUT)
        self._nodes = _Rows(NODE_LAYOUT)

    def _code(self, text: str) -> int:
        return self._texts.setdefault(text, len(self._texts))

    def request(
        self,
        request_id: int,
        session_id: int,
        client: int,
        arrival_s: float,
        start_s: float,
        first_token_s: float,
        end_s: float,
        input_tokens: int,
        output_tokens: int,
        generated_tokens: int,
        cached_tokens: int,
        preemptions: int,
        attempts: int,
        forwards: int,
        wasted_tokens: int,
        deployment: int,
        replica: int,
        correct: int,
        confidence: float,
        status: int,
        error: str = "",
    ) -> None:
        """Take down a request that has ended, once; see `RunRecord` for the values."""
        self._requests.append(
            request_id,
            session_id,
            client,
            arrival_s,
            start_s,
            first_token_s,
            end_s,
            input_tokens,
            output_tokens,
            generated_tokens,
            cached_tokens,
            preemptions,
            attempts,
            forwards,
            wasted_tokens,
            deployment,
            replica,
            correct,
            confidence,
            status,
            self._code(error),
        )

    def segment(self, row: tuple[int, int, float, float, int, int, int, int]) -> None:
        """Take down equal iterations of a stage, in the order of `SEGMENT_LAYOUT`."""
        self._segments.append(*row)

    def incident(
        self, time_s: float, node: int, kind: str, request_id: int = -1, detail: str = ""
    ) -> None:
        """Take down what happened to a node or a request; `kind` is one of `INCIDENT_KINDS`."""
        self._incidents.append(time_s, node, _KIND_CODES[kind], request_id, self._code(detail))

    def node(
        self,
        *,
        node: int,
        name: str,
        up_s: float,
        busy_s: float,
        down_s: float,
        loading_s: float,
        energy_j: float,
        carbon_g: float,
        energy_cost: float,
        peak_kv_bytes: float,
        weight_bytes: float,
        kv_capacity_bytes: float,
        tokens: int,
        iterations: int,
        failures: int,
        bytes_sent: float,
        bytes_received: float,
    ) -> None:
        """Take down the totals of one node, once, at the end of the run."""
        self._nodes.append(
            node,
            self._code(name),
            up_s,
            busy_s,
            down_s,
            loading_s,
            energy_j,
            carbon_g,
            energy_cost,
            peak_kv_bytes,
            weight_bytes,
            kv_capacity_bytes,
            tokens,
            iterations,
            failures,
            bytes_sent,
            bytes_received,
        )

    def finish(self, end_s: float, interrupted: bool = False) -> RunRecord:
        """Return the record of the run, its rows in order of id and of time."""
        return RunRecord(
            requests=self._requests.columns("request_id"),
            nodes=self._nodes.columns("node"),
            segments=self._segments.columns("start_s"),
            incidents=self._incidents.columns("time_s"),
            texts=tuple(self._texts),
            counters=dict(self.counters),
            interrupted=interrupted,
            end_s=end_s,
        )
