"""Tables of NVIDIA AI Configurator (``*_perf.parquet``, in older versions CSV as ``*.txt``).

A system folder such as ``a100_sxm`` holds one file per operation, framework and version; times are
milliseconds. In generation attention ``isl`` is 1 and the rest of the context is in ``step``; sizes
of messages are in elements, not in bytes (as the ranges of the tables show: the same 512 B to
512 MiB for every number type).

Source: ai-dynamo/aiconfigurator, ``src/aiconfigurator/systems/data``, Apache-2.0.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infsim.calibrate.importers.imported import Imported, Piece
from infsim.calibrate.importers.source import Source
from infsim.calibrate.table import Meta
from infsim.errors import InputError, Where, did_you_mean

_FORMATS = {
    "bfloat16": "bf16",
    "float16": "fp16",
    "half": "fp16",
    "fp8": "fp8",
    "fp8_block": "fp8-block",
    "int8": "w8a8",
    "int8_wo": "w8a16",
    "int4_wo": "w4a16",
    "sq": "w8a8",
}
_BYTES = {"bfloat16": 2, "float16": 2, "half": 2, "fp8": 1, "int8": 1}
_SUFFIXES = ("_perf.parquet", "_perf.txt", "_perf.csv")


def perf_files(path: Path) -> list[Path]:
    """Return the tables of a system folder, or the file itself, sorted."""
    if path.is_file():
        return [path]
    return sorted(file for file in path.rglob("*_perf.*") if file.name.endswith(_SUFFIXES))


def read(path: Path, device: str) -> Imported:
    """Read a system folder or one of its tables.

    Parameters
    ----------
    path : Path
    device : str
        Name of the device in the catalogue.

    Raises
    ------
    InputError
        If there is no table of an operation that is known, or one is damaged.
    """
    pieces, versions, ignored = [], {}, []
    for file in perf_files(path):
        operation = file.name.split("_perf.")[0]
        if operation not in _READERS:
            ignored.append(file.name)
            continue
        source = Source.open(file)
        pieces += list(_READERS[operation](source))
        framework = f"{source.text('framework')[0]} ({operation})"
        versions[framework] = str(source.text("version")[0])
    if not pieces:
        raise InputError(f"no table of {', '.join(_READERS)}", where=Where(str(path)))
    meta = Meta(
        hardware=device,
        source="AI Configurator (ai-dynamo/aiconfigurator)",
        licence="Apache-2.0",
        versions=versions,
        notes=[f"not read: {name}" for name in ignored],
    )
    return Imported.of(pieces, meta)


def _gemm(source: Source) -> Iterator[Piece]:
    yield _all(
        source,
        kernel="linear",
        name="gemm",
        format=_formats(source, "gemm_dtype", _FORMATS),
        library=_library(source),
        tokens=source.whole("m"),
        n=source.whole("n"),
        k=source.whole("k"),
    )


def _context_attention(source: Source) -> Iterator[Piece]:
    yield _all(
        source,
        **_heads(source),
        prefills=source.whole("batch_size"),
        chunk=source.whole("isl"),
        prefix=source.whole("step"),
    )


def _generation_attention(source: Source) -> Iterator[Piece]:
    yield _all(
        source,
        **_heads(source),
        decodes=source.whole("batch_size"),
        context=source.whole("isl") + source.whole("step"),
    )


def _heads(source: Source) -> dict[str, Any]:
    heads, kv_heads = source.whole("num_heads"), source.whole("num_key_value_heads")
    formats = _formats(source, "attn_dtype", _FORMATS)
    kv = _formats(source, "kv_cache_dtype", _FORMATS)
    return {
        "kernel": "attention",
        "name": "attention",
        "format": formats,
        "kv_format": np.where(kv == formats, "", kv),
        "library": _library(source),
        "heads": heads,
        "kv_heads": np.where(kv_heads == 0, heads, kv_heads),  # 0: as many as heads
        "head_dim": source.whole("head_dim"),
        "window": source.whole("window_size") if "window_size" in source else 0,
    }


def _nccl(source: Source) -> Iterator[Piece]:
    yield _collective(source, "nccl_dtype", source.text("op_name"))


def _custom_allreduce(source: Source) -> Iterator[Piece]:
    yield _collective(source, "allreduce_dtype", "all_reduce")


def _collective(source: Source, dtype: str, name: Any) -> Piece:
    sizes = _formats(source, dtype, _BYTES).astype(np.int64)
    return _all(
        source,
        kernel="collective",
        name=name,
        library=_library(source),
        bytes=source.whole("message_size") * sizes,
        devices=source.whole("num_gpus"),
        nodes=1,
    )


_READERS: dict[str, Callable[[Source], Iterator[Piece]]] = {
    "gemm": _gemm,
    "context_attention": _context_attention,
    "generation_attention": _generation_attention,
    "nccl": _nccl,
    "custom_allreduce": _custom_allreduce,
}


def _all(source: Source, **columns: Any) -> Piece:
    columns["time_s"] = source.real("latency") * 1e-3
    return Piece(source, np.arange(len(source)), columns)


def _library(source: Source) -> NDArray[Any]:
    """Framework and kernel: two frameworks of one system are two columns of points."""
    framework, version = source.text("framework"), source.text("version")
    kernel = source.text("kernel_source")
    short = np.array([text.rsplit("/", 1)[-1] for text in kernel], dtype=object)
    joined: NDArray[Any] = framework + " " + version + " " + short
    return joined


def _formats(source: Source, column: str, known: dict[str, Any]) -> NDArray[Any]:
    """Translate number types; one that is not known is an error at its row."""
    words = source.text(column)
    for word in sorted(set(words)):
        if word not in known:
            row = int(np.flatnonzero(words == word)[0])
            raise InputError(
                f"unknown {column} {word!r}{did_you_mean(word, known)}", where=source.where(row)
            )
    return np.array([known[word] for word in words], dtype=object)
