"""Profiles of Vidur and of Frontier, its descendant: CSV files with ``time_stats.<operation>.*``.

``mlp.csv`` has all kernels of a layer but attention, ``attention.csv`` attention and the writing of
the KV cache, ``all_reduce.csv`` and ``send_recv.csv`` collectives. Times are milliseconds; the
median becomes the time and ``std`` the spread. Shapes are those of one shard of
``num_tensor_parallel_workers``. Vidur profiles in fp16. An operation whose times are all 0 did not
run.

Source: microsoft/vidur ``data/profiling`` and NetX-lab/Frontier, MIT.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infsim.calibrate.importers.imported import Imported, Piece
from infsim.calibrate.importers.source import Source
from infsim.calibrate.table import Meta
from infsim.errors import InputError, Where

_COLLECTIVES = ("all_reduce", "send_recv")


def profile_files(path: Path) -> list[Path]:
    """Return the CSV files of a folder, or the file itself, sorted."""
    if path.is_file():
        return [path]
    return sorted(file for file in path.rglob("*") if file.name.endswith((".csv", ".csv.gz")))


def read(path: Path, device: str) -> Imported:
    """Read a folder of profiles or one of them; ``device`` is a name of the catalogue.

    Raises
    ------
    InputError
        If a file has no ``time_stats`` or is damaged.
    """
    pieces: list[Piece] = []
    for file in profile_files(path):
        source = Source.open(file)
        operations = _operations(source)
        if not operations:
            raise InputError("no columns time_stats.<operation>.median", where=Where(str(file)))
        if operations[0] in _COLLECTIVES:
            pieces.append(_collective(source, operations[0]))
        elif "prefill_chunk_size" in source:
            pieces += _attention(source)
        else:
            pieces += _layer(source)
    meta = Meta(
        hardware=device,
        source="Vidur (microsoft/vidur) or Frontier (NetX-lab/Frontier) profiles",
        licence="MIT",
        notes=["time_s is the median, spread_s the standard deviation of the repeats"],
    )
    return Imported.of(pieces, meta)


def _operations(source: Source) -> list[str]:
    return [
        name.removeprefix("time_stats.").removesuffix(".median")
        for name in source.cells
        if name.startswith("time_stats.") and name.endswith(".median")
    ]


def _layer(source: Source) -> Iterator[Piece]:
    """Kernels whose work is a number of tokens."""
    shards = source.whole("num_tensor_parallel_workers")
    hidden, ffn = source.whole("n_embd"), source.whole("n_expanded_embd") // shards
    heads, kv_heads = source.whole("n_head"), source.whole("n_kv_head")
    head_dim = hidden // heads
    q = heads // shards * head_dim
    kv = np.maximum(kv_heads // shards, 1) * head_dim
    gated = source.text("use_gated_mlp") == "True"
    none = np.zeros_like(hidden)
    rows: dict[str, tuple[str, str, NDArray[np.int64], NDArray[np.int64]]] = {
        "emb": ("embedding", "embedding", hidden, none),
        "input_layernorm": ("norm", "input_norm", hidden, none),
        "attn_pre_proj": ("linear", "qkv", q + 2 * kv, hidden),
        "attn_rope": ("rotary", "rotary", q + kv, none),
        "attn_post_proj": ("linear", "o", hidden, q),
        "post_attention_layernorm": ("norm", "post_attention_norm", hidden, none),
        "mlp_up_proj": ("linear", "gate_up", np.where(gated, 2 * ffn, ffn), hidden),
        "mlp_act": ("activation", "activation", ffn, none),
        "mlp_down_proj": ("linear", "down", hidden, ffn),
        "add": ("residual", "residual", hidden, none),
    }
    for operation in _operations(source):
        if operation not in rows:
            raise InputError(f"unknown operation {operation!r}", where=Where(str(source.path)))
        kernel, name, n, k = rows[operation]
        yield _measured(
            source,
            operation,
            kernel=kernel,
            name=name,
            tokens=source.whole("num_tokens"),
            n=n,
            k=k,
            devices=shards,
        )


def _attention(source: Source) -> Iterator[Piece]:
    shards = source.whole("num_tensor_parallel_workers")
    heads, kv_heads = source.whole("n_q_head"), source.whole("n_kv_head")
    batch, chunk = source.whole("batch_size"), source.whole("prefill_chunk_size")
    cached, prefill = source.whole("kv_cache_size"), chunk > 0
    backend = source.text("attention_backend")
    shape: dict[str, Any] = {
        "heads": heads // shards,
        "kv_heads": np.maximum(kv_heads // shards, 1),
        "head_dim": source.whole("n_embd") // heads,
        "devices": shards,
        "library": np.array([word.split(".")[-1].lower() for word in backend], dtype=object),
    }
    sequences = {
        "prefills": np.where(prefill, batch, 0),
        "chunk": chunk,
        "prefix": np.where(prefill, cached, 0),
        "decodes": np.where(prefill, 0, batch),
        "context": np.where(prefill, 0, cached),
    }
    width = 2 * shape["kv_heads"] * shape["head_dim"]
    tokens = batch * np.maximum(chunk, 1)
    for operation in _operations(source):
        if operation in ("attn_prefill", "attn_decode"):
            runs = prefill if operation == "attn_prefill" else ~prefill
            columns: dict[str, Any] = (
                {"kernel": "attention", "name": "attention"} | shape | sequences
            )
            yield _measured(source, operation, runs, **columns)
        elif operation == "attn_kv_cache_save":
            columns = {"kernel": "kv_write", "name": "kv_write", "tokens": tokens, "n": width}
            yield _measured(source, operation, **columns | sequences, devices=shards)


def _collective(source: Source, operation: str) -> Piece:
    ranks = source.whole("num_workers")
    return _measured(
        source,
        operation,
        kernel="collective",
        name=operation,
        format="",
        library="nccl",
        bytes=source.whole("size"),
        devices=ranks,
        nodes=np.maximum(ranks // source.whole("devices_per_node"), 1),
    )


def _measured(
    source: Source, operation: str, among: NDArray[np.bool_] | None = None, **columns: Any
) -> Piece:
    """Return the rows in which an operation ran, with median and spread."""
    time = source.real(f"time_stats.{operation}.median") * 1e-3
    spread = source.real(f"time_stats.{operation}.std") * 1e-3
    ran = ~((time == 0) & (source.real(f"time_stats.{operation}.max") == 0))
    rows = np.flatnonzero(ran if among is None else ran & among)
    columns = {"format": "fp16", "time_s": time, "spread_s": spread} | columns
    return Piece(
        source,
        rows,
        {name: np.asarray(v)[rows] if np.ndim(v) else v for name, v in columns.items()},
    )
