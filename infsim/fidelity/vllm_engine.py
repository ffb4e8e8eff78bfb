"""How a recorded vLLM engine was set up: ``meta.json``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from infsim.cluster.cluster import Cluster
from infsim.cluster.device import DEVICES, load_device
from infsim.cluster.network import Network
from infsim.cluster.node import Client, Node, Site
from infsim.cost.costs import Costs
from infsim.errors import InputError
from infsim.fidelity.recorded import Serving
from infsim.model.catalog import FORMATS, MODELS, load, load_format
from infsim.model.deployment import Deployment

_DTYPES = {"bfloat16": "bf16", "float16": "fp16", "float32": "fp32", "half": "fp16"}

QUANTIZATIONS = {
    **dict.fromkeys(("awq", "awq_marlin", "gptq", "gptq_marlin"), "w4a16"),
    **dict.fromkeys(("fbgemm_fp8", "modelopt", "ptpc_fp8"), "fp8"),
    "experts_int8": "w8a16",
}
"""Formats by what vLLM calls them; of AWQ and GPTQ, the usual 4 bits."""

ALIKE = {
    "llama-3-8b": "llama-3.1-8b",
    "llama-3-70b": "llama-3.1-70b",
    "llama-3.3-70b": "llama-3.1-70b",
}
"""Models with the figures of another one."""

ASYNC_SINCE = (0, 14)
"""Version from which on vLLM plans iterations ahead unless it is told otherwise."""

UTILIZATION = 0.9
"""Share of the memory that vLLM uses unless it is told otherwise."""

BLOCK = 16


def serving_of(
    meta: Mapping[str, Any],
    device: str | None = None,
    model: str | None = None,
    form: str | None = None,
) -> tuple[Serving, tuple[str, ...]]:
    """Return how the engine served, and notes on what had to be assumed.

    Parameters
    ----------
    meta : mapping
        Content of ``meta.json``.
    device, model, form : str, optional
        Names of the catalogue; by default they are found from what the engine called them.

    Raises
    ------
    InputError
        If something is missing that cannot be assumed, or cannot be simulated.
    """
    engine = _part(meta, "engine_kwargs")
    resolved = meta.get("resolved_config") or {}
    scheduler = resolved.get("scheduler_config") or {}
    cache = meta.get("kv_cache") or {}
    if int(engine.get("pipeline_parallel_size") or 1) > 1:
        raise InputError(
            f"pipeline_parallel_size = {engine['pipeline_parallel_size']} is not simulated, only 1"
        )
    if resolved.get("speculative_config"):
        raise InputError("speculative decoding is not simulated")
    notes = []
    served = MODELS.resolve(model) if model else _model(str(meta.get("model", "")))
    form = FORMATS.resolve(form) if form else _format(engine, resolved)
    on = load_device(device).name if device else _device(_part(meta, "hardware"))
    devices = int(engine.get("tensor_parallel_size") or 1)
    replicas = int(engine.get("data_parallel_size") or 1)
    if cache:
        # of several engines vLLM tells the blocks of all together
        kv_tokens = _whole(cache, "num_kv_tokens") // replicas
    else:
        share = float(engine.get("gpu_memory_utilization") or UTILIZATION)
        kv_tokens = _room(on, devices, served, form, share)
        notes.append(
            f"no 'kv_cache' in it: what {share:.0%} of the memory leave, {kv_tokens} tokens"
        )
    version = _version(str(meta.get("vllm_version", "")))
    budget = engine.get("max_num_batched_tokens") or scheduler.get("max_num_batched_tokens")
    serving = Serving(
        model=served,
        format=form,
        device=on,
        devices=devices,
        kv_tokens=kv_tokens,
        block_tokens=_whole(cache, "block_size") if cache else BLOCK,
        token_budget=int(budget or 2048),
        max_sequences=int(engine.get("max_num_seqs") or scheduler.get("max_num_seqs") or 256),
        plan_ahead=bool(scheduler.get("async_scheduling", version >= ASYNC_SINCE)),
        prefix_cache=bool(cache.get("enable_prefix_caching", True)),
        replicas=replicas,
    )
    return serving, tuple(notes)


def _room(device: str, devices: int, model: str, form: str, share: float) -> int:
    """Tokens of KV cache beside the weights in a share of the memory."""
    node = Node("engine", load_device(device), devices)
    client, network = (Client("client"),), Network.full_mesh(2)
    costs = Costs(Cluster((node,), client, {"default": Site("default")}, network))
    deployment = Deployment("recorded", load(model), load_format(form), (0,))
    operators = range(len(deployment.model.graph.operators))
    left = share * devices * node.device.memory_bytes - costs.weight_bytes(deployment, operators)
    tokens = int(left // costs.kv_bytes_per_token(deployment, operators))
    if tokens < BLOCK:
        raise InputError(f"{model} in {form} does not fit on {devices} x {device}")
    return tokens // BLOCK * BLOCK


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", text)[:2])


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
    plain = called.rsplit("/", 1)[-1].lower().removeprefix("meta-")
    for other, same in ALIKE.items():
        if plain.startswith(other):
            return same
    known = [name for name in MODELS.names() if plain == name or plain.startswith(f"{name}-")]
    if not known:
        raise InputError(f"model {called!r} is not in the catalogue", hint="name one with --model")
    return max(known, key=len)


def _format(engine: Mapping[str, Any], resolved: Mapping[str, Any]) -> str:
    """The format: of the quantization, if there is one, else of the data type."""
    model = resolved.get("model_config") or {}
    narrow = str(engine.get("kv_cache_dtype") or "auto").startswith("fp8")
    quantization = str(engine.get("quantization") or model.get("quantization") or "").lower()
    if quantization:
        known = QUANTIZATIONS.get(quantization, quantization)
        if known not in FORMATS.names():
            raise InputError(
                f"quantization {quantization!r} is no format that is known",
                hint="name one with --format",
            )
        return f"{known}-kv8" if narrow and f"{known}-kv8" in FORMATS.names() else known
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
