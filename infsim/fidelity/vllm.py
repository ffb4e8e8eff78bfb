"""Recorded runs of vLLM, as folders with ``meta.json`` and ``requests.jsonl``.

``requests.jsonl`` has one object a request: ``input_toks``, ``output_toks``, and the engine's own
times ``queued_ts``, ``first_token_ts``, ``last_token_ts`` in seconds of a monotonic clock;
``meta.json`` the arguments of the engine, its configuration as resolved, the size of the KV
cache, and the checksum of the data set that was sent. This is what LLMServingSim's ``bench`` writes
(casys-kaist/LLMServingSim, MIT).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infsim.cluster.device import DEVICES, load_device
from infsim.errors import InputError, Where
from infsim.fidelity.prompts import known_prompts, read_prompts
from infsim.fidelity.recorded import Recorded, Serving
from infsim.model.catalog import FORMATS, MODELS

_NUMBERS = ("input_toks", "output_toks", "queued_ts", "first_token_ts", "last_token_ts")

_DTYPES = {"bfloat16": "bf16", "float16": "fp16", "float32": "fp32", "half": "fp16"}


def is_vllm(folder: Path) -> bool:
    """Whether a folder holds such a run."""
    return (folder / "meta.json").is_file() and (folder / "requests.jsonl").is_file()


def read_vllm(
    folder: Path,
    device: str | None = None,
    model: str | None = None,
    prompts: Path | None = None,
) -> Recorded:
    """Read a recorded run.

    Parameters
    ----------
    folder : Path
    device, model : str, optional
        Names of the catalogue; by default they are found from what the engine called them.
    prompts : Path, optional
        The data set that was sent, see `infsim.fidelity.prompts`. Without it prompts begin alike
        if infsim knows the data set, by the checksum in ``meta.json``.

    Raises
    ------
    InputError
        With file and line, for damaged files, and for set-ups that are not simulated (data
        parallelism, speculative decoding).
    """
    path = folder / "meta.json"
    try:
        meta = _meta(path)
        serving = _serving(meta, device, model)
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
        )
    except InputError as error:
        raise error.at(Where(str(folder / "requests.jsonl"))) from None


# --- the requests ---------------------------------------------------------------------------


def _rows(path: Path) -> dict[str, Any]:
    columns: dict[str, list[float]] = {name: [] for name in _NUMBERS}
    for number, line in enumerate(_lines(path), start=1):
        if not line.strip():
            continue
        where = Where(str(path), number)
        try:
            row = json.loads(line)
        except ValueError as error:
            raise InputError(f"not JSON: {error}", where=where) from None
        if not isinstance(row, dict):
            raise InputError(f"not an object: {line[:40]!r}", where=where)
        for name, values in columns.items():
            values.append(_number(row.get(name), name, where))
    if not columns["queued_ts"]:
        raise InputError("no requests in it", where=Where(str(path)))
    return {name: np.array(values) for name, values in columns.items()}


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot be read: {error}", where=Where(str(path))) from None


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


# --- the engine -----------------------------------------------------------------------------


def _meta(path: Path) -> Mapping[str, Any]:
    try:
        found = json.loads("\n".join(_lines(path)))
    except ValueError as error:
        raise InputError(f"not JSON: {error}", where=Where(str(path))) from None
    if not isinstance(found, dict):
        raise InputError("no object in it", where=Where(str(path)))
    return found


def _serving(meta: Mapping[str, Any], device: str | None, model: str | None) -> Serving:
    engine = _part(meta, "engine_kwargs")
    cache = _part(meta, "kv_cache")
    hardware = _part(meta, "hardware")
    resolved = meta.get("resolved_config") or {}
    scheduler = resolved.get("scheduler_config") or {}
    replicas = int(engine.get("data_parallel_size") or 1)
    if int(engine.get("pipeline_parallel_size") or 1) > 1:
        raise InputError(
            f"pipeline_parallel_size = {engine['pipeline_parallel_size']} is not simulated, only 1"
        )
    if resolved.get("speculative_config"):
        raise InputError("speculative decoding is not simulated")
    budget = engine.get("max_num_batched_tokens") or scheduler.get("max_num_batched_tokens")
    return Serving(
        model=_model(str(meta.get("model", ""))) if model is None else MODELS.resolve(model),
        format=_format(engine, resolved),
        device=_device(hardware) if device is None else load_device(device).name,
        devices=int(engine.get("tensor_parallel_size") or 1),
        kv_tokens=_whole(cache, "num_kv_tokens") // replicas,  # vLLM tells that of all together
        block_tokens=_whole(cache, "block_size"),
        token_budget=int(budget or 2048),
        max_sequences=int(engine.get("max_num_seqs") or scheduler.get("max_num_seqs") or 256),
        plan_ahead=bool(scheduler.get("async_scheduling", False)),
        prefix_cache=bool(cache.get("enable_prefix_caching", False)),
        replicas=replicas,
    )


def _part(meta: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = meta.get(key)
    if not isinstance(found, dict):
        raise InputError(f"no {key!r} in it")
    return found


def _whole(part: Mapping[str, Any], key: str) -> int:
    value = part.get(key)
    if not isinstance(value, int) or value < 1:
        raise InputError(f"{key} is {value!r}, not a whole number above 0")
    return value


def _model(called: str) -> str:
    """The model of the catalogue whose name is the longest beginning of the engine's."""
    plain = called.rsplit("/", 1)[-1].lower()
    known = [name for name in MODELS.names() if plain == name or plain.startswith(f"{name}-")]
    if not known:
        raise InputError(f"model {called!r} is not in the catalogue", hint="name one with --model")
    return max(known, key=len)


def _format(engine: Mapping[str, Any], resolved: Mapping[str, Any]) -> str:
    """The format: of the quantization, if there is one, else of the data type."""
    model = resolved.get("model_config") or {}
    quantization = engine.get("quantization") or model.get("quantization")
    if quantization:
        return FORMATS.resolve(str(quantization).lower())
    dtype = str(engine.get("dtype") or model.get("dtype") or "bfloat16").removeprefix("torch.")
    return FORMATS.resolve(_DTYPES.get(dtype, "bf16" if dtype == "auto" else dtype))


def _device(hardware: Mapping[str, Any]) -> str:
    """The device of the catalogue all of whose words are in the engine's name for it.

    But for its memory, and SXM, which names may leave out. Of several, one with the most
    words in common, then the nearest memory.
    """
    called = str(hardware.get("device_name", ""))
    words = set(re.findall(r"[a-z0-9]+", called.lower()))
    memory = float(hardware.get("device_total_memory_bytes") or 0)
    found = []
    for name in DEVICES.names():
        own = set(name.split("-"))
        if all(word == "sxm" or word.endswith("gb") for word in own - words):
            miss = abs(load_device(name).memory_bytes - memory)
            found.append((-len(own & words), miss, name))
    if not found or min(found)[0] == 0:
        raise InputError(
            f"device {called!r} is not in the catalogue", hint="name one with --device"
        )
    return min(found)[2]
