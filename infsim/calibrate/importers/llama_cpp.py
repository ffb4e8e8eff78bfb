"""Tokens per second of llama.cpp and ollama, as whole steps.

Two formats: the output of ``llama-bench -o csv``, and a table of collected results with the columns
``system, model, format, phase, tokens_per_s``. A decode step of one sequence lasts the inverse of
its rate; a prefill of n tokens lasts n over its rate.

In XiongjieDai/GPU-Benchmarks-on-LLM-Inference prompts and answers have 1024 tokens, so that a
decode step has a context of 512 on average. Rows of ollama tell neither. Llama 3 8B has the figures
of Llama 3.1 8B, under whose name it is kept.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infsim.calibrate.importers.imported import Imported, Piece
from infsim.calibrate.importers.source import Source
from infsim.calibrate.table import Meta
from infsim.cluster.device import DEVICES
from infsim.errors import InputError, Where

_MODELS = {
    "llama-3-8b": "llama-3.1-8b",
    "llama-3-70b": "llama-3.1-70b",
    "llama 3.2:3b": "llama-3.2-3b",
    "llama 3.1:70b": "llama-3.1-70b",
}
_FORMATS = {
    "q4_k_m": "q4-k-m",
    "q4_k - medium": "q4-k-m",
    "f16": "fp16",
    "bf16": "bf16",
    "f32": "fp32",
    "all f32": "fp32",
    "ollama default": "q4-k-m",
}
_TOKENS = {"XiongjieDai/GPU-Benchmarks-on-LLM-Inference": 1024}


def read(path: Path, device: str) -> Imported:
    """Read the rows of one device; ``device`` is a name of the catalogue.

    Rows of several devices at work, and of models or formats that are not in the catalogue, are
    left out with a note.

    Raises
    ------
    InputError
        If the file is damaged or has no row of the device.
    """
    source = Source.open(path)
    if "system" in source:
        return _collected(source, device)
    if "avg_ts" in source:
        return _bench(source, device)
    raise InputError("neither collected results nor llama-bench", where=Where(str(path)))


def _collected(source: Source, device: str) -> Imported:
    systems = {system: _device(system) for system in set(source.text("system"))}
    mine = np.array([systems[system] == device for system in source.text("system")])
    if not mine.any():
        known = sorted({name for name in systems.values() if name})
        raise InputError(
            f"no rows of one {device!r}, only of {', '.join(known)}",
            where=Where(str(source.path), path="system"),
        )
    models, formats = source.text("model"), source.text("format")
    rows, left_out = _known(mine, models, formats)
    tokens = np.array([_TOKENS.get(text, 0) for text in source.text("source")])[rows]
    prefill = source.text("phase")[rows] == "prefill"
    rate = source.real("tokens_per_s")[rows]
    columns = {
        "prefills": prefill.astype(np.int64),
        "chunk": np.where(prefill, np.maximum(tokens, 1), 0),
        "decodes": (~prefill).astype(np.int64),
        "context": np.where(prefill, 0, tokens // 2),
        "time_s": np.where(prefill, np.maximum(tokens, 1), 1) / rate,
        "library": _libraries(source, rows),
    }
    origin = ", ".join(sorted(set(source.text("source")[rows])))
    meta = Meta(hardware=device, source=origin, notes=left_out)
    return Imported.of([_piece(source, rows, models, formats, columns)], meta)


def _bench(source: Source, device: str) -> Imported:
    """Read ``llama-bench -o csv``: each row is a prefill or a decode, by its two lengths."""
    models = np.array([_bare_model(name) for name in source.text("model_type")], dtype=object)
    formats = np.array([_bare_format(name) for name in source.text("model_type")], dtype=object)
    prompt, answer = source.whole("n_prompt"), source.whole("n_gen")
    depth = source.whole("n_depth") if "n_depth" in source else np.zeros_like(prompt)
    one_phase = (prompt == 0) != (answer == 0)
    rows, left_out = _known(one_phase, models, formats)
    prompt, answer, depth = prompt[rows], answer[rows], depth[rows]
    rate, spread = source.real("avg_ts")[rows], source.real("stddev_ts")[rows]
    prefill = prompt > 0
    time = np.where(prefill, prompt, 1) / rate
    columns = {
        "prefills": prefill.astype(np.int64),
        "chunk": prompt,
        "prefix": np.where(prefill, depth, 0),
        "decodes": (~prefill).astype(np.int64),
        "context": np.where(prefill, 0, depth + answer // 2),
        "time_s": time,
        "spread_s": time * spread / rate,
        "library": "llama.cpp",
    }
    build = str(source.text("build_commit")[0]) if "build_commit" in source else ""
    meta = Meta(
        hardware=device,
        source="llama-bench (ggml-org/llama.cpp)",
        versions={"llama.cpp": build} if build else {},
        notes=left_out,
    )
    return Imported.of([_piece(source, rows, models, formats, columns)], meta)


def _known(
    wanted: NDArray[np.bool_], models: NDArray[Any], formats: NDArray[Any]
) -> tuple[NDArray[np.int64], list[str]]:
    """Return the wanted rows of known models and formats, and notes about the others."""
    known = np.array(
        [
            m.lower() in _MODELS and f.lower() in _FORMATS
            for m, f in zip(models, formats, strict=True)
        ]
    )
    others = sorted({f"{models[i]} {formats[i]}" for i in np.flatnonzero(wanted & ~known)})
    notes = [f"left out, not in the catalogue: {other}" for other in others]
    return np.flatnonzero(wanted & known), notes


def _piece(
    source: Source,
    rows: NDArray[np.int64],
    models: NDArray[Any],
    formats: NDArray[Any],
    columns: dict[str, Any],
) -> Piece:
    shared: dict[str, Any] = {
        "kernel": "step",
        "name": np.array([_MODELS[name.lower()] for name in models[rows]], dtype=object),
        "format": np.array([_FORMATS[name.lower()] for name in formats[rows]], dtype=object),
        "devices": 1,
    }
    return Piece(source, rows, shared | columns)


def _libraries(source: Source, rows: NDArray[np.int64]) -> NDArray[Any]:
    """Engine and system: one GPU in several computers does not reach the same."""
    pairs = zip(source.text("source")[rows], source.text("system")[rows], strict=True)
    return np.array([f"{'llama.cpp' if s in _TOKENS else 'ollama'}, {on}" for s, on in pairs], "O")


def _bare_model(name: str) -> str:
    """Return the model of ``llama 8B Q4_K - Medium``, which is Llama 3 by its size."""
    model = name.split("B ", 1)[0] + "B"
    size = re.fullmatch(r"llama (\d+)B", model)
    return f"llama-3-{size[1]}b" if size else model


def _bare_format(name: str) -> str:
    return name.split("B ", 1)[-1].strip()


def _device(system: str) -> str | None:
    """Return the device of the catalogue that a system is, None if several, another, or unknown."""
    plain = system.lower().replace("\u2011", "-")
    if system in _HOSTS:
        return _HOSTS[system]
    if "*" in plain or "cluster" in plain or plain.endswith("cpu"):
        return None
    inside = re.search(r"\((?:nvidia|amd) ([^)]*)\)", plain)
    words = re.sub(r"\b\d+gb\b|\bgpu\b|\b\d+-core\b", " ", inside[1] if inside else plain)
    name = "-".join(words.split())
    candidates = (name, f"rtx-{name}", _BOARDS.get(name))
    return next((c for c in candidates if c in DEVICES.names()), None)


_BOARDS = {"a100-pcie": "a100-pcie-80gb", "a100-sxm": "a100-80gb", "a4000": "rtx-a4000"}
_HOSTS = {
    "Pi 5 - 8GB CPU": "raspberry-pi-5",
    "Pi 5 - 16GB CPU": "raspberry-pi-5",
    "M4 Mac mini (10 core - 32GB) GPU": "m4",
}
