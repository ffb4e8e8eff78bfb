"""Recorded runs of vLLM, as folders with ``meta.json`` and ``requests.jsonl``.

``requests.jsonl`` has one object a request: ``input_toks``, ``output_toks``, and the engine's own
times ``queued_ts``, ``first_token_ts``, ``last_token_ts`` in seconds of a monotonic clock;
``meta.json`` the arguments of the engine, its configuration as resolved, the size of the KV
cache, and the checksum of the data set that was sent. This is what LLMServingSim's ``bench`` writes
(casys-kaist/LLMServingSim, MIT).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infsim.errors import InputError, Where
from infsim.fidelity.files import read_json, read_json_lines
from infsim.fidelity.prompts import known_prompts, read_prompts
from infsim.fidelity.recorded import Recorded, Serving
from infsim.fidelity.vllm_engine import serving_of

_NUMBERS = ("input_toks", "output_toks", "queued_ts", "first_token_ts", "last_token_ts")
_ANY_OBJECT: dict[str, object] = {}


def is_vllm(folder: Path) -> bool:
    """Whether a folder holds such a run."""
    return (folder / "meta.json").is_file() and (folder / "requests.jsonl").is_file()


def read_vllm(
    folder: Path,
    device: str | None = None,
    model: str | None = None,
    form: str | None = None,
    prompts: Path | None = None,
) -> Recorded:
    """Read a recorded run.

    Parameters
    ----------
    folder : Path
    device, model, form : str, optional
        Names of the catalogue; by default they are found from what the engine called them.
    prompts : Path, optional
        The data set that was sent, see `infsim.fidelity.prompts`. Without it prompts begin alike
        if infsim knows the data set, by the checksum in ``meta.json``.

    Raises
    ------
    InputError
        With file and line, for damaged files, and for set-ups that are not simulated (pipeline
        parallelism, speculative decoding).
    """
    path = folder / "meta.json"
    try:
        meta = read_json(path, _ANY_OBJECT)
        serving, notes = serving_of(meta, device, model, form)
    except InputError as error:
        raise (error if error.where else error.at(Where(str(path)))) from None
    rows = _rows(folder / "requests.jsonl")
    hashes = _hashes(rows, serving, str(meta.get("dataset_hash", "")), prompts)
    order = np.argsort(rows["queued_ts"], kind="stable")
    start_s = float(rows["queued_ts"].min())
    times = {name: rows[f"{name}_ts"][order] - start_s for name in ("queued", "first_token")}
    try:
        return Recorded(
            name=folder.name,
            serving=serving,
            input_tokens=rows["input_toks"][order].astype(np.int64),
            output_tokens=rows["output_toks"][order].astype(np.int64),
            arrival_s=times["queued"],
            first_token_s=times["first_token"],
            end_s=rows["last_token_ts"][order] - start_s,
            hashes=None if hashes is None else [hashes[i] for i in order.tolist()],
            notes=notes,
        )
    except InputError as error:
        raise error.at(Where(str(folder / "requests.jsonl"))) from None


# --- the requests ---------------------------------------------------------------------------


def _rows(path: Path) -> dict[str, Any]:
    columns: dict[str, list[float]] = {name: [] for name in _NUMBERS}
    for where, row in read_json_lines(path):
        if not isinstance(row, dict):
            raise InputError("no object", where=where)
        for name, values in columns.items():
            values.append(_number(row.get(name), name, where))
    if not columns["queued_ts"]:
        raise InputError("no requests in it", where=Where(str(path)))
    return {name: np.array(values) for name, values in columns.items()}


def _hashes(
    rows: Mapping[str, Any], serving: Serving, dataset_sha256: str, prompts: Path | None
) -> list[NDArray[np.int64]] | None:
    """Hashes of the prompts, in the order of the rows: that of the data set."""
    lengths = rows["input_toks"].astype(np.int64)
    if prompts is not None:
        return read_prompts(prompts, lengths, serving.block_tokens)
    return known_prompts(dataset_sha256, lengths, serving.block_tokens)


def _number(value: object, name: str, where: Where) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not np.isfinite(value):
        raise InputError(f"{name} is {value!r}, not a number", where=where)
    return float(value)
