"""The laws of a run, as functions that yield what breaks them.

L1 each request ends exactly once and tokens are conserved; L2 times are causal; L3 memory is never
exceeded and bytes sent are received, lost, or on their way; L5 the same seed gives the same bytes;
L6 a policy cannot see output that has not been made; L7 scaling all times scales the results;
L8 names carry no meaning; L9 energy is the integral of power; L10 the fast engine equals the
reference engine.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infsim.engine.experiment import Experiment
from infsim.results.recorder import STATUS_NAMES, RunRecord, Status
from infsim.testing.watch import Watch
from infsim.workload.given import Given
from infsim.workload.requests import Requests

TOLERANCE_S = 1e-9

LAWS = {
    "L1": "each request ends exactly once, tokens are conserved",
    "L2": "times are causal",
    "L3": "memory is never exceeded, bytes are conserved",
    "L5": "the same seed gives the same bytes",
    "L6": "a policy cannot see output that has not been made",
    "L7": "scaling all times scales the results",
    "L8": "names of nodes carry no meaning",
    "L9": "energy is the integral of power",
    "L10": "the fast engine equals the reference engine",
}

CODES = {("requests", "error"), ("nodes", "name")}
"""Columns that number the texts of a run, in whatever order they came up."""

TIMES = ("arrival_s", "start_s", "first_token_s", "end_s")


# --- one run --------------------------------------------------------------------------------


def conserved(record: RunRecord, experiment: Experiment) -> Iterator[str]:
    """L1: every request is there once, has ended, and has all its tokens if it is completed."""
    assert isinstance(experiment.workload, Given)
    given, rows = experiment.workload.requests, record.requests
    ids = rows["request_id"].tolist()
    if ids != list(range(len(given))):
        yield f"requests 0 to {len(given) - 1} came in, and {ids} are in the results"
        return
    for i, status in enumerate(rows["status"].tolist()):
        if status == Status.UNFINISHED:
            yield f"request {i} never ended, although every node that fails comes back"
    wanted = _tokens_wanted(given, rows["deployment"].tolist(), experiment)
    for i, (status, made) in enumerate(
        zip(rows["status"].tolist(), rows["generated_tokens"].tolist(), strict=True)
    ):
        if made > wanted[i] or (status == Status.COMPLETED and made != wanted[i]):
            yield f"request {i} is {STATUS_NAMES[status]} with {made} of {wanted[i]} tokens"
    for name in ("wasted_tokens", "cached_tokens", "preemptions", "attempts", "forwards"):
        for row in np.flatnonzero(rows[name] < 0).tolist():
            yield f"request {row} has {rows[name][row]} {name}"


def _tokens_wanted(
    given: Requests, deployments: Sequence[int], experiment: Experiment
) -> list[int]:
    wanted = []
    for i, deployment in enumerate(deployments):
        model = experiment.deployments[deployment].model
        tokens = int(given.output_tokens[i]) if model.generative else 1
        if model.max_context is not None:
            tokens = min(tokens, model.max_context - int(given.input_tokens[i]))
        wanted.append(max(tokens, 0))
    return wanted


def causal(record: RunRecord) -> Iterator[str]:
    """L2: a request arrives, starts, has its first token, and ends, in this order."""
    columns = [record.requests[name] for name in TIMES]
    for i, times in enumerate(zip(*(column.tolist() for column in columns), strict=True)):
        known = [(t, name) for t, name in zip(times, TIMES, strict=True) if t == t]
        for (t, name), (later, next_name) in pairwise(known):
            if later < t - TOLERANCE_S:
                yield f"request {i}: {next_name} = {later!r} is before {name} = {t!r}"
        if record.requests["status"][i] == Status.COMPLETED and len(known) < len(TIMES):
            missing = [name for t, name in zip(times, TIMES, strict=True) if t != t]
            yield f"request {i} is completed, but has no {', '.join(missing)}"


def bounded(record: RunRecord) -> Iterator[str]:
    """L3: the KV memory of every node suffices, and no bytes vanish."""
    rows = record.nodes
    for i in np.flatnonzero(rows["peak_kv_bytes"] > rows["kv_capacity_bytes"]):
        used, capacity = rows["peak_kv_bytes"][i], rows["kv_capacity_bytes"][i]
        yield f"node {i} holds {used:.0f} bytes of KV cache in {capacity:.0f} bytes"
    counters = record.counters
    sent = counters["bytes_sent"]
    ends = [counters[f"bytes_{end}"] for end in ("received", "lost", "in_flight")]
    if abs(sent - sum(ends)) > 1e-9 * max(sent, 1.0):
        yield f"{sent} bytes were sent; received, lost and in flight are {ends}"


def powered(record: RunRecord, experiment: Experiment) -> Iterator[str]:
    """L9: a node draws the power of its load while a segment lasts, and else idle power while up.

    What a stopped iteration would have computed is not in the record: it drew at least the power of
    a single token, and at most the most that was measured.
    """
    segments, rows = record.segments, record.nodes
    cluster = experiment.cluster
    for i, node in enumerate(cluster.nodes):
        mine = segments["node"] == i
        lasted_s = segments["end_s"][mine] - segments["start_s"][mine]
        tokens = segments["prefill_tokens"][mine] + segments["decode_sequences"][mine]
        table = experiment.costs.power(i)
        low_w = high_w = np.full(len(tokens), node.device.active_w)
        if table is not None:
            low_w = high_w = np.array([table.at(count) for count in tokens])
            stopped = segments["iterations"][mine] == 0
            low_w = np.where(stopped, min(table.power_w), low_w)
            high_w = np.where(stopped, max(table.power_w), high_w)
        idle_j = node.device.idle_w * (record.end_s - float(rows["down_s"][i]) - lasted_s.sum())
        scale = node.count * cluster.sites[node.site].pue
        low, high = (scale * (idle_j + float((w * lasted_s).sum())) for w in (low_w, high_w))
        found = float(rows["energy_j"][i])
        if not low - 1e-6 * max(low, 1.0) <= found <= high + 1e-6 * max(high, 1.0):
            yield f"node {i} took {found} J, its power over time gives {low} to {high} J"


# --- two runs -------------------------------------------------------------------------------


def same_bytes(one: RunRecord, other: RunRecord) -> Iterator[str]:
    """L5: two runs with the same seed are equal to the last bit."""
    for table in ("requests", "nodes", "segments", "incidents"):
        a, b = getattr(one, table), getattr(other, table)
        for name in a:
            if not _equal(a[name], b[name]):
                yield _difference(table, name, (a[name], b[name]), ("at first", "again"))


def same_results(
    one: RunRecord, other: RunRecord, whose: tuple[str, str], factor: float = 1.0
) -> Iterator[str]:
    """L7, L8, L10: same fates, and times that are ``factor`` times as long."""
    errors = [record.text(record.requests["error"]) for record in (one, other)]
    for i, (first, second) in enumerate(zip(*errors, strict=False)):
        if first != second:
            yield f"request {i}: error is {first!r} {whose[0]}, {second!r} {whose[1]}"
            break
    for table in ("requests", "nodes"):
        a, b = getattr(one, table), getattr(other, table)
        # who served comes first: a difference there explains the others
        for name in sorted(a, key=lambda name: name not in ("status", "deployment", "replica")):
            if (table, name) in CODES:
                continue
            timed = name.endswith("_s") or name in ("energy_j", "carbon_g", "energy_cost")
            expected = a[name] * factor if timed else a[name]
            if not _close(expected, b[name]):
                yield _difference(table, name, (expected, b[name]), whose)


def _equal(a: NDArray[Any], b: NDArray[Any]) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def _close(a: NDArray[Any], b: NDArray[Any]) -> bool:
    return a.shape == b.shape and np.allclose(
        a, b, rtol=TOLERANCE_S, atol=TOLERANCE_S, equal_nan=True
    )


def _difference(
    table: str, name: str, columns: tuple[NDArray[Any], NDArray[Any]], whose: tuple[str, str]
) -> str:
    """Say where two columns differ first."""
    a, b = columns
    if a.shape != b.shape:
        return f"{table} has {len(a)} rows {whose[0]}, {len(b)} rows {whose[1]}"
    differs = ~np.isclose(a, b, rtol=TOLERANCE_S, atol=TOLERANCE_S, equal_nan=True)
    rows = np.flatnonzero(differs if differs.any() else a != b)
    i = int(rows[0]) if len(rows) else 0
    what = {"requests": "request", "nodes": "node"}.get(table, f"{table} row")
    first, second = a[i].item(), b[i].item()
    return f"{what} {i}: {name} is {first!r} {whose[0]}, {second!r} {whose[1]}"


# --- decisions ------------------------------------------------------------------------------


def same_decisions(one: Watch, other: Watch, until_s: float) -> Iterator[str]:
    """L6: runs that differ only in outputs made later have the same decisions until then."""
    a, b = one.before(until_s), other.before(until_s)
    for (time_s, content), (other_s, other_content) in zip(a, b, strict=False):
        if (time_s, content) != (other_s, other_content):
            yield (
                f"at {time_s!r} s it answers {_text(content)}; at {other_s!r} s"
                f" {_text(other_content)} if outputs made after {until_s:.4g} s are longer"
            )
            return
    if len(a) != len(b):
        yield (
            f"it is asked {len(a)} times before {until_s:.4g} s, and {len(b)} times if outputs"
            " made after that are longer"
        )


def _text(content: tuple[Any, ...]) -> str:
    question, *rest = content
    return f"{question}({', '.join(map(repr, rest))})"


def unpeeked(watch: Watch) -> Iterator[str]:
    """L6: a policy reads only what its view declares."""
    for what in dict.fromkeys(watch.peeks):
        yield f"it reads {what}, which is not part of the view"
