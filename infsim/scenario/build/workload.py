"""The workload that a scenario describes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from infsim.errors import InputError, Where
from infsim.paths import data_file
from infsim.scenario.alternatives import Alternative
from infsim.scenario.build.blame import blame
from infsim.scenario.build.lengths import build_lengths
from infsim.scenario.schema import workload as schema
from infsim.units import format_quantity
from infsim.workload import arrivals
from infsim.workload.closed_loop import ClosedLoop, Dialogue
from infsim.workload.lengths import Lengths
from infsim.workload.profile import Profile, load_profile
from infsim.workload.readers.trace import (
    guess_format,
    header_names,
    open_trace,
    refuse_plain_options,
)
from infsim.workload.requests import Workload
from infsim.workload.servegen import open_servegen
from infsim.workload.sessions import Sessions
from infsim.workload.synthetic import Synthetic
from infsim.workload.transform import AssignClients, AssignSamples, Cut, Limit, NotEmpty, Rescale


class _Source(NamedTuple):
    """Requests as they come, and what is known about them beforehand."""

    workload: Workload
    has_clients: bool = False
    rate_per_s: float | None = None


def build_workload(
    alternative: Alternative,
    clients: Sequence[str],
    weights: Sequence[float],
    samples: int | None = None,
) -> Workload | ClosedLoop:
    """Build the workload: its source, cut, stretched, limited, and spread over the clients.

    Parameters
    ----------
    alternative : Alternative
    clients : sequence of str
        Names of the clients, for traces that name them.
    weights : sequence of float
        Share of each client, for traces that do not.
    samples : int, optional
        Rows of the accuracy table: each request asks one of them.

    Raises
    ------
    InputError
        With the place in the scenario, for files that are absent or of an unknown format.
    """
    part = alternative.spec.workload
    if part.closed_loop is not None:
        return _closed_loop(alternative, part.closed_loop, weights, samples)
    if part.trace is None:
        source = _synthetic(alternative)
    else:
        with blame(alternative, "workload", "trace"):
            source = _trace(as_file(part.trace), part, clients)
    with blame(alternative, "workload"):
        workload = _shaped(source, part, alternative.where("workload", "start"))
        if len(clients) > 1 and not source.has_clients:
            workload = AssignClients(workload, weights)
        return workload if samples is None else AssignSamples(workload, samples)


def _shaped(source: _Source, part: schema.WorkloadPart, start: Where | None) -> Workload:
    """Apply start, requests, rate and duration, in this order."""
    workload = source.workload
    if part.start:
        nothing = f"no request arrives after {format_quantity(part.start, 'time')}"
        workload = NotEmpty(Cut(workload, part.start), InputError(nothing, where=start))
    if part.requests is not None:
        workload = Limit(workload, requests=part.requests)
    if part.rate is not None and source.rate_per_s is not None:
        workload = Rescale(workload, time_factor=source.rate_per_s / part.rate)
    elif part.rate is not None:
        workload = Rescale(workload, rate_per_s=part.rate)
    if part.duration is not None:
        workload = Limit(workload, duration_s=part.duration)
    return workload


# --- traces ---------------------------------------------------------------------------------


def as_file(entry: str | schema.TraceFile) -> schema.TraceFile:
    """Return the long form of the entry of a trace."""
    # a name was checked when the scenario was read, relative to its folder
    return schema.TraceFile.model_construct(file=entry) if isinstance(entry, str) else entry


def open_entry(entry: schema.TraceFile, clients: Sequence[str] = ()) -> Workload:
    """Open a trace that is a file of requests or ServeGen data, not a profile."""
    path = trace_path(entry)
    if _format(entry) == "servegen":
        refuse_plain_options("servegen", entry.columns, entry.time_unit)
        return open_servegen(path)
    return open_trace(
        path,
        entry.format,
        columns=entry.columns or None,
        time_unit_s=entry.time_unit,
        clients=clients,
    )


def open_profile(entry: schema.TraceFile) -> Profile | None:
    """Open a trace that is a profile; None if it is something else."""
    if _format(entry) != "profile":
        return None
    refuse_plain_options("profile", entry.columns, entry.time_unit)
    return load_profile(trace_path(entry))


def _format(entry: schema.TraceFile) -> str:
    """Return the format, as far as the name of the file says it; ``auto`` if it does not."""
    path = trace_path(entry)
    if entry.format != "auto":
        return entry.format
    if path.is_dir() or path.name.endswith((".tar", ".tar.gz", ".tgz", ".tar.xz")):
        return "servegen"
    return "profile" if path.suffix == ".yaml" else "auto"


def trace_path(entry: schema.TraceFile) -> Path:
    """Return the file of a trace: the user's own, or one that infsim ships."""
    path = Path(entry.file)
    return path if path.is_absolute() else data_file("traces", entry.file, schema.TRACE_SUFFIXES)


def _trace(entry: schema.TraceFile, part: schema.WorkloadPart, clients: Sequence[str]) -> _Source:
    profile = open_profile(entry)
    if profile is not None:
        limited = part.requests is not None or part.duration is not None
        # as long as is asked for, else once
        workload = profile.workload(cycles=None if limited else 1)
        return _Source(workload, rate_per_s=profile.requests / profile.duration_s)
    has_clients = entry.columns.get("client", "client") in _columns(trace_path(entry), entry)
    return _Source(open_entry(entry, clients if has_clients else ()), has_clients)


def _columns(path: Path, entry: schema.TraceFile) -> Sequence[str]:
    """Return the columns of a table; none for formats that have no columns of ours."""
    name = _format(entry)
    name = guess_format(path) if name == "auto" else name
    if name == "csv":
        return header_names(path)
    if name == "parquet":
        from pyarrow.parquet import read_schema

        names: list[str] = read_schema(path).names
        return names
    return ()


# --- synthetic ------------------------------------------------------------------------------


def _synthetic(alternative: Alternative) -> _Source:
    part = alternative.spec.workload
    assert part.arrivals is not None  # the schema wants a trace or arrivals
    with blame(alternative, "workload", "arrivals"):
        times = _arrivals(part.arrivals)
    with blame(alternative, "workload", "lengths"):
        sizes = build_lengths(part.lengths)
    if part.sessions is None:
        return _Source(Synthetic(times, sizes))
    with blame(alternative, "workload", "sessions"):
        return _Source(_sessions(part.sessions, times, sizes))


def _sessions(part: schema.Sessions, times: arrivals.Arrivals, sizes: Lengths) -> Sessions:
    return Sessions(
        times,
        sizes,
        turns=part.turns,
        think_s=part.think_time,
        answer_s_per_token=part.answer_time,
        system_tokens=part.system_tokens,
        max_context=part.max_context,
        prefix_block_tokens=part.prefix_block_tokens,
    )


def _arrivals(part: schema.Arrivals) -> arrivals.Arrivals:
    if part.process == "poisson":
        return arrivals.Poisson(part.rate)
    if part.process == "deterministic":
        return arrivals.Deterministic(part.rate)
    assert part.cv is not None  # the schema wants it for gamma
    return arrivals.Gamma(part.rate, part.cv)


def _closed_loop(
    alternative: Alternative,
    loop: schema.ClosedLoop,
    weights: Sequence[float],
    samples: int | None,
) -> ClosedLoop:
    part = alternative.spec.workload
    with blame(alternative, "workload", "lengths"):
        sizes = build_lengths(part.lengths)
    dialogue = None
    if part.sessions is not None:
        with blame(alternative, "workload", "sessions"):
            dialogue = Dialogue(
                turns=part.sessions.turns,
                system_tokens=part.sessions.system_tokens,
                max_context=part.sessions.max_context,
                prefix_block_tokens=part.sessions.prefix_block_tokens,
            )
    with blame(alternative, "workload", "closed_loop"):
        return ClosedLoop(
            users=loop.users,
            lengths=sizes,
            think_s=loop.think_time,
            think_cv=loop.think_cv,
            ramp_s=loop.ramp,
            dialogue=dialogue,
            requests=part.requests,
            duration_s=part.duration,
            weights=weights,
            samples=samples,
        )
