"""The files of a recorded pipeline, and what in them cannot be."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from infsim.errors import InputError, Where, did_you_mean
from infsim.fidelity.files import check, read_columns, read_json
from infsim.fidelity.pipeline_steps import KNOTS

RUNS_FILE = "runs.json.gz"
STEPS_FILE = "steps.parquet"
VALUE_BITS = {"fp32": 32, "fp16": 16, "int8": 8}
"""Bits of an activation by format."""
SATURATED = "saturated"
"""The run whose requests all come at once."""
UNDISTURBED = "undisturbed"
"""The run with the requests of the one in which a stage was killed."""

_RUNS = {
    "meta": {
        "recorded": str,
        "links": {"delay_s": float, "bytes_per_s": float},
        "timeout_s": float,
        "heartbeat_s": float,
        "token_budget": int,
        "max_sequences": int,
        "hidden": int,
        "stage_bytes": [float],
    },
    "hops_s": {str: float},
    "starts": [{"format": str, "stage": int, "boot_s": float, "load_s": float}],
    "runs": [
        {
            "format": str,
            "name": str,
            "requests": [
                {"arrival_s": float, "input_tokens": int, "tokens": [int], "times_s": [float]}
            ],
        }
    ],
}
_FAILURE = {"stage": int, "killed_s": float, "up_s": float, "detected_s": float, "ready_s": float}
_NUMBERS = ("stage", "prefill_tokens", "prefill_pairs", "decode_sequences", "decode_context")

Object = Mapping[str, Any]


class Files(NamedTuple):
    """What the files hold, see `infsim.fidelity.pipeline.Recording`."""

    meta: Object
    hops_s: Mapping[str, float]
    starts: list[Object]
    runs: list[Object]
    steps: Mapping[str, NDArray[Any]]


def read_files(folder: Path) -> Files:
    """Read a recorded pipeline.

    Raises
    ------
    InputError
        With file and path of what is damaged or cannot be.
    """
    where = Where(str(folder / RUNS_FILE))
    found = read_json(folder / RUNS_FILE, _RUNS)
    steps = read_columns(folder / STEPS_FILE, (*_NUMBERS, "time_us"), ("format",))
    files = Files(**{name: found[name] for name in _RUNS}, steps=steps)
    _check_setup(files, where)
    for number, run in enumerate(files.runs):
        _check_run(run, files, Where(where.file, path=f"runs[{number}]"))
    _check_steps(files, Where(str(folder / STEPS_FILE)))
    return files


def sending_s(meta: Object, form: str) -> float:
    """Return the seconds in which a link sends the activations of a token."""
    size_bytes = meta["hidden"] * VALUE_BITS[form] / 8
    return float(size_bytes / meta["links"]["bytes_per_s"])


def _check_setup(files: Files, where: Where) -> None:
    meta, links = files.meta, files.meta["links"]
    for form in files.hops_s:
        if form not in VALUE_BITS:
            raise InputError(f"format {form!r}{did_you_mean(form, list(VALUE_BITS))}", where=where)
    amounts = {
        "links.bytes_per_s": links["bytes_per_s"],
        "max_sequences": meta["max_sequences"],
        "hidden": meta["hidden"],
        "stages": len(meta["stage_bytes"]),
        "stage_bytes": min(meta["stage_bytes"], default=0),
        "the time-out less half a heartbeat": meta["timeout_s"] - meta["heartbeat_s"] / 2,
        **{f"boot_s of starts[{i}]": start["boot_s"] for i, start in enumerate(files.starts)},
        **{f"load_s of starts[{i}]": start["load_s"] for i, start in enumerate(files.starts)},
    }
    for name, amount in amounts.items():
        if amount <= 0:
            raise InputError(f"{name} is {amount:g}, not above 0", where=where)
    if not 1 <= meta["token_budget"] <= KNOTS[-1]:
        raise InputError(
            f"token_budget is {meta['token_budget']}, not 1 to {KNOTS[-1]}", where=where
        )
    came_up = {(start["format"], start["stage"]) for start in files.starts}
    ran = {run["format"] for run in files.runs}
    for form, hop_s in files.hops_s.items():
        if hop_s < sending_s(meta, form):
            raise InputError(
                f"hops_s of {form} is {hop_s:g}, less than its bytes take", where=where
            )
        if form not in ran:
            raise InputError(f"no runs in {form}", where=where)
        for stage in range(len(meta["stage_bytes"])):
            if (form, stage) not in came_up:
                raise InputError(f"no start of stage {stage} in {form}", where=where)


def _check_run(run: Object, files: Files, where: Where) -> None:
    if run["format"] not in files.hops_s:
        raise InputError(f"format {run['format']!r} has no hops_s", where=where)
    if not run["requests"]:
        raise InputError("no requests in it", where=where)
    first = next(r for r in files.runs if (r["format"], r["name"]) == (run["format"], run["name"]))
    if [_asked(r) for r in run["requests"]] != [_asked(r) for r in first["requests"]]:
        raise InputError(f"other requests than in the run {run['name']!r} before", where=where)
    before_s = 0.0
    for number, request in enumerate(run["requests"]):
        said = _wrong_with(request, before_s)
        if said:
            path = f"{where.path}.requests[{number}]"
            raise InputError(said, where=Where(where.file, path=path))
        before_s = request["arrival_s"]
    if "failure" in run:
        _check_failure(run, files, Where(where.file, path=f"{where.path}.failure"))


def _asked(request: Object) -> tuple[float, int, int]:
    return request["arrival_s"], request["input_tokens"], len(request["tokens"])


def _wrong_with(request: Object, before_s: float) -> str | None:
    times_s = request["times_s"]
    if request["arrival_s"] < before_s:
        return "arrivals go backwards"
    if request["input_tokens"] < 1:
        return "a prompt without tokens"
    if not times_s or len(times_s) != len(request["tokens"]):
        return f"{len(request['tokens'])} tokens at {len(times_s)} times"
    if any(b < a for a, b in pairwise([request["arrival_s"], *times_s])):
        return "times go backwards"
    return None


def _check_failure(run: Object, files: Files, where: Where) -> None:
    failure = run["failure"]
    check(failure, _FAILURE, where)
    if not 0 <= failure["stage"] < len(files.meta["stage_bytes"]):
        raise InputError(f"there is no stage {failure['stage']}", where=where)
    killed_s, up_s, ready_s = (failure[f"{name}_s"] for name in ("killed", "up", "ready"))
    if not 0 <= killed_s < up_s < ready_s or failure["detected_s"] <= killed_s:
        raise InputError("its times go backwards", where=where)
    if not any(t > ready_s for r in run["requests"] for t in r["times_s"]):
        raise InputError("no token was made after it", where=where)
    others = [r for r in files.runs if (r["format"], r["name"]) == (run["format"], UNDISTURBED)]
    if not others or len(others[0]["requests"]) != len(run["requests"]):
        raise InputError(f"no run {UNDISTURBED!r} of the same requests", where=where)


def _check_steps(files: Files, where: Where) -> None:
    steps = files.steps
    for name, least in (("time_us", steps["time_us"]), ("tokens", _tokens(steps))):
        if least.min() < 1:
            raise InputError(f"{name} is 0 in row {int(np.argmin(least)) + 1}", where=where)
    for form in files.hops_s:
        for stage in range(len(files.meta["stage_bytes"])):
            if not ((steps["format"] == form) & (steps["stage"] == stage)).any():
                raise InputError(f"no iterations of stage {stage} in {form}", where=where)


def _tokens(steps: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
    tokens: NDArray[Any] = steps["prefill_tokens"] + steps["decode_sequences"]
    return tokens
