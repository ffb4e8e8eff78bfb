"""Readers of public availability traces; what is damaged is refused with its place.

``avt``: uptimes of peers, a node per line, ``id n s1 e1 s2 e2 …`` with ``n`` uptimes in seconds.
``spot``: JSON of the SkyPilot spot traces, ``gap_seconds`` and the number of nodes that a zone had
(availability), or kept (preemption), at each tick. For outages of nodes by name see
`infsim.cluster.outages`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np

from infsim.cluster.churn.trace import ChurnTrace, NodeTrace, merge_traces
from infsim.errors import InputError, Where, did_you_mean

FORMATS = {"avt": ".avt", "spot": ".json"}
"""Formats, and the suffix of a file by which each is known."""

MOST_NODES = 10_000
"""More nodes in one zone than this are taken for a damaged number."""

_REGION = re.compile(r"^([a-z]+(?:-[a-z]+)*-?\d+)-?[a-z]$")  # us-east-1a, us-central1-c


def read_churn(
    paths: Sequence[Path], kind: str | None = None, duration_s: float | None = None
) -> ChurnTrace:
    """Read one or several files of the same observation.

    Parameters
    ----------
    paths : sequence of Path
        Several are taken for different nodes at the same time.
    kind : str, optional
        ``avt`` or ``spot``; by default told by the suffix.
    duration_s : float, optional
        Length of the observation where the file does not say (``avt``): by default the last time
        in it.

    Raises
    ------
    InputError
        With file, line and value; also for unknown formats and files that cannot be read.
    """
    traces = []
    formats = [kind or _format_of(path) for path in paths]
    for path, format_ in zip(paths, formats, strict=True):
        if format_ not in FORMATS:
            raise InputError(
                f"unknown format {format_!r}{did_you_mean(format_, FORMATS)}",
                hint=f"known: {', '.join(FORMATS)}",
            )
        if format_ != formats[0]:
            raise InputError(
                f"{str(path)!r} is of the format {format_}, {str(paths[0])!r} of {formats[0]}",
                hint="files that are read together are of one observation",
            )
        traces.append(read_avt(path, duration_s) if format_ == "avt" else read_spot(path))
    if not traces:
        raise InputError("no trace given")
    if len(traces) == 1:
        return traces[0]
    return merge_traces(traces, f"{traces[0].name} and {len(traces) - 1} more")


def _format_of(path: Path) -> str:
    for kind, suffix in FORMATS.items():
        if path.suffix.lower() == suffix:
            return kind
    raise InputError(
        f"cannot tell the format of {str(path)!r}",
        hint=f"known: {', '.join(f'{kind} ({suffix})' for kind, suffix in FORMATS.items())}",
    )


def _text(path: Path) -> str:
    where = Where(str(path))
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"cannot read it: {error.strerror}", where=where) from error
    except UnicodeDecodeError as error:
        raise InputError(f"not UTF-8 text: {error.reason}", where=where) from error


# --- avt ------------------------------------------------------------------------------------


def read_avt(path: Path, duration_s: float | None = None) -> ChurnTrace:
    """Read uptimes of nodes, a node per line: ``id n s1 e1 s2 e2 …`` in seconds.

    Raises
    ------
    InputError
        With file, line and value: for another number of times than announced, what is no number,
        times that go backwards, names that occur twice, uptimes after the end.
    """
    rows: dict[str, Any] = {}
    last_s = 0.0
    for number, line in enumerate(_text(path).splitlines(), 1):
        words = line.split()
        if not words:
            continue
        where = Where(str(path), number)
        name, up = words[0], _avt_row(words, where)
        if name in rows:
            raise InputError(f"node {name!r} has a line already", where=where)
        if duration_s is not None and len(up) and up[-1, 1] > duration_s:
            raise InputError(
                f"up until {up[-1, 1]:g} s, after the end ({duration_s:g} s)", where=where
            )
        rows[name] = up
        last_s = max(last_s, *up.ravel(), 0.0)
    if not rows or not (duration_s or last_s):
        raise InputError("no uptime in it", where=Where(str(path)))
    nodes = tuple(NodeTrace(name, up) for name, up in rows.items())
    return ChurnTrace(nodes, duration_s or float(last_s), path.stem)


def _avt_row(words: Sequence[str], where: Where) -> Any:
    given = words[1] if len(words) > 1 else ""
    if not (given.isascii() and given.isdigit() and len(given) < 10):
        raise InputError(f"{given!r} is no number of uptimes", where=where)
    announced, given_times = int(given), words[2:]
    if len(given_times) != 2 * announced:
        raise InputError(
            f"{words[0]!r} announces {announced} uptimes, that is {2 * announced} times,"
            f" and has {len(given_times)}",
            where=where,
        )
    before = 0.0
    times = []
    for word in given_times:
        time_s = _number(word, where)
        if time_s < before:
            raise InputError(f"time {word} s comes after {before:g} s", where=where)
        before = time_s
        times.append(time_s)
    up = np.array(times, dtype=np.float64).reshape(-1, 2)
    for start, end in up:
        if start == end:
            raise InputError(f"uptime from {start:g} s to {end:g} s is empty", where=where)
    return _joined(up)


def _number(word: str, where: Where) -> float:
    try:
        value = float(word)
    except ValueError:
        raise InputError(f"{word!r} is no time in seconds", where=where) from None
    if not isfinite(value) or value < 0 or "_" in word:
        raise InputError(f"{word!r} is no time in seconds", where=where)
    return value


def _joined(up: Any) -> Any:
    """Return uptimes with those that touch made one."""
    if len(up) < 2:
        return up
    apart = up[1:, 0] > up[:-1, 1]
    starts = up[np.concatenate([[True], apart]), 0]
    ends = up[np.concatenate([apart, [True]]), 1]
    return np.column_stack([starts, ends])


# --- spot -----------------------------------------------------------------------------------


def read_spot(path: Path) -> ChurnTrace:
    """Read how many nodes a zone had at each tick, and make nodes of it.

    The file is named after its zone, as in ``us-east-1a_v100_1.json``. Of a zone with n nodes at
    most, node k is up at ticks with more than k nodes: the last come goes first.

    Raises
    ------
    InputError
        With file, tick and value: for what is no JSON of this kind, counts that are no natural
        numbers, gaps that are not positive.
    """
    where = Where(str(path))
    try:
        found = json.loads(_text(path))
    except (ValueError, RecursionError) as error:  # ValueError also for numbers of 5000 digits
        line = getattr(error, "lineno", None)
        message = getattr(error, "msg", "nested too deeply, or with too long numbers")
        raise InputError(f"no JSON: {message}", where=Where(str(path), line)) from error
    metadata = found.get("metadata") if isinstance(found, dict) else None
    gap_s = metadata.get("gap_seconds") if isinstance(metadata, dict) else None
    if isinstance(gap_s, bool) or not isinstance(gap_s, int | float) or not 0 < gap_s < 1e9:
        raise InputError(f"metadata.gap_seconds is {gap_s!r}, not a number of seconds", where=where)
    counts = found.get("data")
    if not isinstance(counts, list) or not counts:
        raise InputError("'data' is not a list of numbers of nodes", where=where)
    for tick, count in enumerate(counts):
        if isinstance(count, bool) or not isinstance(count, int) or not 0 <= count <= MOST_NODES:
            raise InputError(
                f"{count!r} is no number of nodes",
                where=Where(str(path), path=f"data[{tick}]"),
            )
    zone = path.name.removesuffix(".json").split("_")[0]
    return _spot_trace(zone, np.array(counts), float(gap_s))


def _spot_trace(zone: str, counts: Any, gap_s: float) -> ChurnTrace:
    match = _REGION.match(zone)
    region = match[1] if match else zone
    nodes = []
    for k in range(max(int(counts.max()), 1)):
        padded = np.concatenate([[False], counts > k, [False]])
        edges = np.flatnonzero(padded[1:] != padded[:-1]).reshape(-1, 2)
        nodes.append(NodeTrace(f"{zone}-{k}", (edges * gap_s).astype(np.float64), zone, region))
    return ChurnTrace(tuple(nodes), len(counts) * gap_s, zone)
