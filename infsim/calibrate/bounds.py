"""The least time that physics allows a kernel: no row of a table can be faster.

A kernel must do its arithmetic at no more than the device's peak of its number type, and must move
through the memory at least once what it reads and writes, less what the cache may still hold from
the run before (benchmarks repeat a kernel on the same tensors). Both are bounds from below:

- weights are read once, activations at their narrowest (8 bits where the arithmetic has 8);
- each key and value of each sequence is read once; no sequences share them;
- causal attention computes only the pairs of a query and a key that it may see;
- a layer of experts computes each token for at least one expert, and reads the experts that got
  some;
- links between devices are not considered, only that each rank reads and writes its buffer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from infsim.calibrate.table import KernelTable
from infsim.cluster.device import Device
from infsim.model.catalog import MODELS, load, load_format
from infsim.model.formats import Format, compute_type

MIB = 2.0**20
CACHE_BYTES: Mapping[str, float] = {
    "a10": 6 * MIB,
    "a100-40gb": 40 * MIB,
    "a100-80gb": 40 * MIB,
    "a100-pcie-80gb": 40 * MIB,
    "a30": 24 * MIB,
    "a40": 6 * MIB,
    "a800": 40 * MIB,
    "b200": 126 * MIB,
    "h100-pcie": 50 * MIB,
    "h100-sxm": 50 * MIB,
    "h20": 60 * MIB,
    "h200": 50 * MIB,
    "l4": 48 * MIB,
    "l40s": 96 * MIB,
    "rtx-3060": 3 * MIB,
    "rtx-3070": 4 * MIB,
    "rtx-3080": 5 * MIB,
    "rtx-3090": 6 * MIB,
    "rtx-4070": 36 * MIB,
    "rtx-4070-ti": 48 * MIB,
    "rtx-4080": 64 * MIB,
    "rtx-4090": 72 * MIB,
    "rtx-5090": 96 * MIB,
    "rtx-6000-ada": 96 * MIB,
    "rtx-a4000": 4 * MIB,
    "rtx-pro-6000": 128 * MIB,
    "rtx-a6000": 6 * MIB,
    "t4": 4 * MIB,
    "v100-16gb": 6 * MIB,
    "v100-32gb": 6 * MIB,
}
"""Last-level caches (NVIDIA datasheets and architecture whitepapers)."""
_LARGEST_CACHE_BYTES = 512 * MIB

Columns = dict[str, NDArray[np.float64]]
Amounts = tuple[NDArray[np.float64], NDArray[np.float64]]
"""FLOPs, and bytes moved."""


def least_time_s(table: KernelTable, device: Device) -> NDArray[np.float64]:
    """Return for each row the least time that a device can take.

    Parameters
    ----------
    table : KernelTable
        Its rows say what is done; their times are not looked at.
    device : Device
        With peak rates and bandwidth of its datasheet.

    Returns
    -------
    array of float64
        Seconds; 0 where nothing is known of the work.
    """
    cache = CACHE_BYTES.get(device.name, _LARGEST_CACHE_BYTES)
    least = np.zeros(len(table))
    keys = table["kernel"] + "|" + table["format"] + "|" + table["kv_format"]
    for key in set(keys):
        rows = np.flatnonzero(keys == key)
        kernel, form, kv_form = key.split("|")
        part = table.take(rows)
        flops, moved = _amounts(part, kernel, load_format(form or "fp16"), kv_form)
        rate = device.peak_flops[_compute(form, device)]
        transfer = np.maximum(moved - cache, 0) / device.bandwidth_bytes_per_s
        least[rows] = np.maximum(flops / rate, transfer)
    return least


def _compute(form: str, device: Device) -> str:
    """Return the number type of the arithmetic; the fastest the device has if it is unknown."""
    if not form:
        return max(device.peak_flops, key=lambda name: device.peak_flops[name])
    return compute_type(load_format(form).compute, frozenset(device.peak_flops))


def _amounts(table: KernelTable, kernel: str, form: Format, kv_form: str) -> Amounts:
    if kernel == "attention":
        kv_bytes = (load_format(kv_form).weight_bits if kv_form else form.kv_bits) / 8
        return _attention(table, kv_bytes)
    if kernel == "step":
        return _step(table, form)
    c = {name: table[name].astype(np.float64) for name in ("tokens", "n", "k", "bytes")}
    if kernel in ("linear", "head"):
        c["experts"] = table["active_experts"].astype(np.float64)
        c["density"] = np.nan_to_num(table["density"], nan=1.0)
        return _linear(c, form)
    nothing = np.zeros(len(table))
    return nothing, _MOVED[kernel](c) if kernel in _MOVED else nothing


def _linear(c: Columns, form: Format) -> Amounts:
    narrow = 1 if form.compute in ("fp8", "int8", "int4") else 2
    wide = 4 if form.compute == "fp32" else 2
    kept = c["density"] * form.density
    weights = c["n"] * c["k"] * np.maximum(c["experts"], 1)
    # stored bits of the catalogue's pruned formats count the density already
    stored = form.weight_bits / 8 * c["density"]
    activations = np.where(c["experts"] > 0, 2 * c["k"] * wide, c["k"] * narrow + c["n"] * wide)
    flops = 2 * c["tokens"] * c["n"] * c["k"] * kept
    return flops, weights * stored + c["tokens"] * activations


def _attention(table: KernelTable, kv_bytes: float) -> Amounts:
    names = ("heads", "kv_heads", "head_dim", "window", "prefills", "chunk", "prefix",
             "decodes", "context")  # fmt: skip
    c = {name: table[name].astype(np.float64) for name in names}
    window = np.where(c["window"] > 0, c["window"], np.inf)
    pairs = c["prefills"] * _causal_pairs(c["chunk"], c["prefix"], window)
    seen = np.minimum(c["context"], window)
    pairs += c["decodes"] * seen
    flops = 4 * c["heads"] * c["head_dim"] * pairs
    # the window of the first query of a chunk and all that follows
    read = c["prefills"] * np.minimum(c["prefix"] + c["chunk"], window + c["chunk"])
    read += c["decodes"] * seen
    queries = c["prefills"] * c["chunk"] + c["decodes"]
    kv = 2 * c["kv_heads"] * c["head_dim"] * kv_bytes * read
    return flops, kv + 2 * queries * c["heads"] * c["head_dim"] * 2


def _causal_pairs(
    chunk: NDArray[np.float64], prefix: NDArray[np.float64], window: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Pairs of a query and a key at most ``window`` back: query i sees min(prefix + i, window)."""
    full = np.clip(window - prefix, 0, chunk)  # queries that see all there is
    pairs = full * prefix + full * (full + 1) / 2
    with np.errstate(invalid="ignore"):
        return pairs + np.where(chunk > full, (chunk - full) * window, 0)


def _step(table: KernelTable, form: Format) -> Amounts:
    """A whole pass of a model of the catalogue, divided among its devices."""
    flops, moved = np.zeros(len(table)), np.zeros(len(table))
    for name in set(table["name"]) & set(MODELS.names()):
        mine = table["name"] == name
        weights, macs, kv_values = _model(name, form)
        c = {n: table[n][mine].astype(np.float64) for n in
             ("prefills", "chunk", "prefix", "decodes", "context", "devices")}  # fmt: skip
        tokens = c["prefills"] * c["chunk"] + c["decodes"]
        cached = c["prefills"] * (c["prefix"] + c["chunk"]) + c["decodes"] * c["context"]
        devices = np.maximum(c["devices"], 1)
        flops[mine] = 2 * macs * tokens / devices
        moved[mine] = (weights + cached * kv_values * form.kv_bits / 8) / devices
    return flops, moved


def _model(name: str, form: Format) -> tuple[float, float, float]:
    """Bytes of weights that any pass reads, MACs of a token, KV values of a token."""
    operators = load(name).graph.operators
    idle = sum(op.expert_parameters * (1 - op.active_experts / op.experts) for op in operators)
    weights = (sum(op.parameters for op in operators) - idle) * form.weight_bits / 8
    weights += sum(op.head_parameters for op in operators) * form.embedding_bits / 8
    macs = sum(op.macs_per_token for op in operators) * form.density
    return weights, macs, sum(op.kv_values_per_token for op in operators)


_MOVED: Mapping[str, Callable[[Columns], NDArray[np.float64]]] = {
    "norm": lambda c: 4 * c["tokens"] * c["n"],
    "activation": lambda c: 4 * c["tokens"] * c["n"],
    "residual": lambda c: 4 * c["tokens"] * c["n"],
    "rotary": lambda c: 4 * c["tokens"] * c["n"],
    "embedding": lambda c: 4 * c["tokens"] * c["n"],
    "kv_write": lambda c: 2 * c["tokens"] * c["n"],
    "quantize": lambda c: 2.5 * c["tokens"] * c["n"],
    "dequantize": lambda c: 2.5 * c["tokens"] * c["n"],
    "copy_device": lambda c: 2 * c["bytes"],
    "collective": lambda c: 2 * c["bytes"],
}
"""Bytes read and written: 16-bit values in and out, or buffers."""
