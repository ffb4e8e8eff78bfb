"""The files of traces that an engine served, and what in them cannot be."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from infsim.calibrate.fit.engine_steps import Steps
from infsim.errors import InputError, Where
from infsim.fidelity.files import check, read_columns, read_json

PARTS = ("arrival_us", "queue_us", "prefill_us", "decode_us")
"""Columns of a request: when it arrived, and how long each of what came next took."""

_META = {
    "name": str,
    "format": str,
    "engine": str,
    "machine": {"processor": str},
    "recorded": str,
    "token_budget": int,
    "max_sequences": int,
    "runs": [{"load": float, "seed": int, "time": int}],
}
_KERNELS = {"device": str, "model": str}
_REQUESTS = ("load", "seed", "time", "input_tokens", "output_tokens", *PARTS)

Object = Mapping[str, Any]
Columns = Mapping[str, NDArray[Any]]


class Files(NamedTuple):
    """What the files hold, see `infsim.fidelity.served.Recording`."""

    meta: Object
    requests: Columns
    steps: Columns | None


def read_files(folder: Path) -> Files:
    """Read recorded runs.

    Raises
    ------
    InputError
        With the file that is damaged or cannot be.
    """
    meta = read_json(folder / "meta.json", _META)
    if not meta["runs"]:
        raise InputError("no runs in it", where=Where(str(folder / "meta.json")))
    requests = read_columns(folder / "requests.parquet", _REQUESTS)
    _checked(folder / "requests.parquet", partial(_check_requests, meta, requests))
    if "kernels" in meta:
        check(meta["kernels"], _KERNELS, Where(str(folder / "meta.json"), path="kernels"))
        return Files(meta, requests, None)
    steps = read_columns(folder / "steps.parquet", (*Steps._fields[:-1], "time_us"))
    _checked(folder / "steps.parquet", partial(_check_steps, meta, steps))
    return Files(meta, requests, steps)


def _checked(path: Path, examine: Callable[[], None]) -> None:
    try:
        examine()
    except InputError as error:
        raise error.at(Where(str(path))) from None


def _check_requests(meta: Object, requests: Columns) -> None:
    for name in ("input_tokens", "output_tokens"):
        if requests[name].min() < 1:
            raise InputError(f"{name} is 0 in row {int(np.argmin(requests[name])) + 1}")
    for run in meta["runs"]:
        load, seed, time = run["load"], run["seed"], run["time"]
        place = f"at load {load:g}, seed {seed}, time {time}"
        own = np.isclose(requests["load"], load) & (requests["seed"] == seed)
        own &= requests["time"] == time
        if not own.any():
            raise InputError(f"no requests {place}")
        if (np.diff(requests["arrival_us"][own].astype(float)) < 0).any():
            raise InputError(f"arrivals go backwards {place}")


def _check_steps(meta: Object, steps: Columns) -> None:
    if steps["time_us"].min() <= 0:
        raise InputError(f"time_us is 0 in row {int(np.argmin(steps['time_us'])) + 1}")
    tokens = steps["prefill_tokens"] + steps["decode_sequences"]
    decodes = steps["prefill_tokens"] == 0
    for what, key, sizes in (
        ("tokens", "token_budget", tokens[~decodes]),
        ("decodes", "max_sequences", tokens[decodes]),
    ):
        most = int(sizes.max(initial=0))
        if not 1 <= meta[key] <= most:
            raise InputError(f"of at most {most} {what}, where {key} is {meta[key]}")
