"""Profiles of LLMServingSim: one layer of a model under vLLM, in microseconds.

A variant folder holds ``meta.yaml`` and, in it or in ``tp1``, ``tp2``, … (the shard of one device),
``dense.csv`` (layer, tokens), ``attention.csv`` (prefill chunk and its history, decodes and their
context, in one batch), ``per_sequence.csv`` (head and sampler) and, for mixtures of experts,
``moe.csv`` (tokens and experts that got some, per degree of expert parallelism).

Newer versions write ``prefill_key``, the mean distance that the queries of a batch look back,
instead of ``kv_prefill``, the history. Of one chunk that is its history plus half of it. Where it
is less than half of the tokens, several prompts share the batch, and the row is that of as many
equal ones as are needed, after a history. They also write several kernels of attention by name, and
``hardware.yaml``, some folders up, with collectives measured between the GPUs; ``skew_fit`` in
``meta.yaml`` says how much decodes of unequal contexts are slower. Rows of speculative
decoding (``decode_q_len`` above 1) are left out.

The files hold no shapes: they come from the model's figures in the catalogue where it is there
(layers' features and heads stay 0 otherwise).

Source: casys-kaist/LLMServingSim ``profiler``, MIT.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infsim.calibrate.importers.imported import Imported, Piece
from infsim.calibrate.importers.llmservingsim_collectives import read_collectives
from infsim.calibrate.importers.source import Source
from infsim.calibrate.table import Meta
from infsim.errors import InputError, Where
from infsim.model.architecture import Architecture
from infsim.model.catalog import FORMATS, MODELS, load_architecture

_READ = ("dense.csv", "attention.csv", "per_sequence.csv", "moe.csv")


@dataclass(frozen=True)
class Shard:
    """What one device holds of one layer.

    Attributes
    ----------
    folder : Path
    devices : int
        Degree of tensor parallelism.
    format, library : str
    figures : Architecture or None
        None if the model is not in the catalogue.
    """

    folder: Path
    devices: int
    format: str
    library: str
    figures: Architecture | None

    def common(self) -> dict[str, Any]:
        """Columns that all rows share."""
        return {"format": self.format, "library": self.library, "devices": self.devices}

    def split(self, count: int) -> int:
        """Share of one device, at least 1."""
        return max(count // self.devices, 1)


def is_profile(path: Path) -> bool:
    """Tell whether a folder is a variant folder, or the folder of one degree in it."""
    return path.is_dir() and any((p / "dense.csv").is_file() for p in (path, *path.glob("tp*")))


def read(path: Path, device: str) -> Imported:
    """Read a variant folder; ``device`` is a name of the catalogue.

    Raises
    ------
    InputError
        If ``meta.yaml`` is missing, or a file is damaged.
    """
    meta = _meta(path)
    library = f"vLLM {meta.get('vllm_version', '')}".strip()
    figures = _figures(str(meta.get("model", "")))
    form = _format(str(meta.get("variant", "bf16")), path)
    pieces: list[Piece] = []
    found: list[str] = []
    for folder, devices in _folders(path, meta):
        shard = Shard(folder, devices, form, library, figures)
        pieces += _shard(shard)
        found += sorted(f.name for f in folder.glob("*.csv") if f.name not in _READ)
    if between := read_collectives(path, "NCCL"):
        pieces.append(between)
    notes = [f"not read: {name}" for name in dict.fromkeys(found)]
    if figures is None:
        notes.append(f"model {meta.get('model')} is not in the catalogue: shapes are unknown")
    versions = {"vllm": meta.get("vllm_version"), "cuda": meta.get("cuda_version")}
    return Imported.of(
        pieces,
        Meta(
            hardware=device,
            source="LLMServingSim (casys-kaist/LLMServingSim) profiler",
            licence="MIT",
            date=str(meta.get("profiled_at", "")),
            versions={name: str(version) for name, version in versions.items() if version},
            notes=notes,
            extra={"model": str(meta.get("model", "")), "gpu": str(meta.get("gpu", ""))}
            | _unequal(meta),
        ),
    )


def _shard(shard: Shard) -> Iterator[Piece]:
    for file, reader in {
        "dense.csv": _dense,
        "per_sequence.csv": _per_sequence,
        "attention.csv": _attention,
        "moe.csv": _experts,
    }.items():
        if (shard.folder / file).is_file():
            yield reader(Source.open(shard.folder / file), shard)


def _meta(path: Path) -> dict[str, Any]:
    import yaml

    for folder in (path, path.parent):
        file = folder / "meta.yaml"
        if file.is_file():
            try:
                found = yaml.safe_load(file.read_text(encoding="utf-8"))
            except (yaml.YAMLError, UnicodeDecodeError) as error:
                raise InputError(f"damaged: {error}", where=Where(str(file))) from error
            if not isinstance(found, dict):
                raise InputError("no mapping in it", where=Where(str(file)))
            return found
    raise InputError("no meta.yaml in the folder or above it", where=Where(str(path)))


def _unequal(meta: Mapping[str, Any]) -> dict[str, float]:
    """The fitted share by which unequal contexts slow decodes down, the mean over the degrees."""
    fitted = (meta.get("skew_fit") or {}).get("per_tp") or {}
    shares = []
    for degree in fitted.values():
        by_kernel = degree.get("alpha_default_by_kernel") or {}
        single = [share for kernel, share in by_kernel.items() if kernel.endswith("q=1")]
        shares += [float(share) for share in (single or [degree.get("alpha_default")]) if share]
    return {"unequal": round(sum(shares) / len(shares), 4)} if shares else {}


def _folders(path: Path, meta: Mapping[str, Any]) -> list[tuple[Path, int]]:
    """Return the folders of shards with their degree of tensor parallelism."""
    if not (path / "dense.csv").is_file():
        return sorted(((f, _degree(f)) for f in path.glob("tp*")), key=lambda pair: pair[1])
    degrees = meta.get("tp_degrees") or [1]
    return [(path, _degree(path) if path.name.startswith("tp") else int(degrees[0]))]


def _degree(folder: Path) -> int:
    digits = folder.name.removeprefix("tp")
    if not digits.isdigit() or int(digits) < 1:
        raise InputError(f"{folder.name!r} is no degree of tensor parallelism such as 'tp2'")
    return int(digits)


def _figures(model: str) -> Architecture | None:
    """Return the figures of the catalogue's model of which the name is the longest beginning."""
    plain = model.rsplit("/", 1)[-1].lower()
    known = [n for n in MODELS.names() if plain == n or plain.startswith(f"{n}-")]
    return load_architecture(max(known, key=len)) if known else None


def _format(variant: str, path: Path) -> str:
    """Return the format that a variant is named after: ``bf16``, ``fp8``, ``bf16-kvfp8``."""
    word = re.split(r"[-_]", variant.lower())[0]
    try:
        return FORMATS.resolve(word)
    except InputError as error:
        raise error.at(Where(str(path), path="variant")) from None


def _dense(source: Source, shard: Shard) -> Piece:
    return _by_layer(source, shard, _layers(shard), source.whole("tokens"))


def _per_sequence(source: Source, shard: Shard) -> Piece:
    figures = shard.figures
    n = shard.split(figures.vocabulary) if figures else 0
    known = {
        "lm_head": ("head", "head", n, figures.hidden if figures else 0),
        "sampler": ("sample", "sample", figures.vocabulary if figures else 0, 0),
    }
    return _by_layer(source, shard, known, source.whole("sequences"))


def _layers(shard: Shard) -> dict[str, tuple[str, str, int, int]]:
    """Kernel, name, n and k of the layers of a shard; shapes are 0 if they are unknown."""
    f = shard.figures
    hidden, ffn = (f.hidden, shard.split(f.ffn)) if f else (0, 0)
    q = shard.split(f.heads) * f.head_dim if f else 0
    kv = shard.split(f.kv_heads) * f.head_dim if f else 0
    gates = 2 if f is None or f.gated_ffn else 1
    return {
        "embedding": ("embedding", "embedding", hidden, 0),
        "layernorm": ("norm", "norm", hidden, 0),
        "final_layernorm": ("norm", "final_norm", hidden, 0),
        "qk_norm": ("norm", "head_norm", q + kv, 0),
        "rotary_emb": ("rotary", "rotary", q + kv, 0),
        "qkv_proj": ("linear", "qkv", q + 2 * kv, hidden),
        "o_proj": ("linear", "o", hidden, q),
        "gate_up_proj": ("linear", "gate_up", gates * ffn, hidden),
        "act_fn": ("activation", "activation", ffn, 0),
        "down_proj": ("linear", "down", hidden, ffn),
    }


def _by_layer(
    source: Source,
    shard: Shard,
    known: Mapping[str, tuple[str, str, int, int]],
    tokens: NDArray[np.int64],
) -> Piece:
    """Rows of the layers that are known; others are kept as linear layers of unknown shape."""
    layers = source.text("layer")
    facts = [known.get(layer, ("linear", layer, 0, 0)) for layer in layers]
    kernel, name, n, k = zip(*facts, strict=True)
    return _piece(
        source,
        shard,
        kernel=np.array(kernel, dtype=object),
        name=np.array(name, dtype=object),
        n=np.array(n),
        k=np.array(k),
        tokens=tokens,
    )


def _attention(source: Source, shard: Shard) -> Piece:
    chunk = source.whole("prefill_chunk")
    prompts = (chunk > 0).astype(np.int64)
    if "prefill_key" in source:
        key = np.maximum(source.real("prefill_key"), 0.5)
        # half tokens, from odd chunks, are rounded
        prompts *= np.maximum(np.ceil((chunk - 1) / (2 * key)), 1).astype(np.int64)
        chunk = np.rint(chunk / np.maximum(prompts, 1)).astype(np.int64)
        prefix = np.maximum(np.rint(key - chunk / 2), 0).astype(np.int64)
    else:
        prefix = source.whole("kv_prefill")
    context, decodes = source.whole("kv_decode"), source.whole("n_decode")
    single = source.whole("decode_q_len") <= 1 if "decode_q_len" in source else chunk >= 0
    f = shard.figures
    return _piece(
        source,
        shard,
        rows=np.flatnonzero(single),
        kernel="attention",
        name=source.text("layer") if "layer" in source else "attention",
        heads=shard.split(f.heads) if f else 0,
        kv_heads=shard.split(f.kv_heads) if f else 0,
        head_dim=f.head_dim if f else 0,
        prefills=prompts,
        chunk=chunk,
        prefix=np.where(chunk > 0, prefix, 0),
        decodes=decodes,
        context=np.where(decodes > 0, context, 0),
    )


def _experts(source: Source, shard: Shard) -> Piece:
    """The whole feed-forward part; expert parallelism divides the experts that a device holds."""
    f = shard.figures
    degree = source.whole("ep") if "ep" in source else np.ones(len(source), dtype=np.int64)
    matrices = 3 if f is None or f.gated_ffn else 2
    return _piece(
        source,
        shard,
        kernel="linear",
        name="moe",
        tokens=source.whole("tokens"),
        n=matrices * shard.split(f.ffn) if f else 0,
        k=f.hidden if f else 0,
        experts=f.experts // np.maximum(degree, 1) if f else 0,
        active_experts=source.whole("activated_experts"),
    )


def _piece(
    source: Source, shard: Shard, rows: NDArray[np.int64] | None = None, **columns: Any
) -> Piece:
    columns = shard.common() | columns | {"time_s": source.real("time_us") * 1e-6}
    if rows is None:
        return Piece(source, np.arange(len(source)), columns)
    return Piece(source, rows, {n: v[rows] if np.ndim(v) else v for n, v in columns.items()})
