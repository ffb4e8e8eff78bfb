"""Collectives between GPUs as LLMServingSim's profiler measures them: ``hardware.yaml``.

The file lies beside the models of a GPU and holds, below ``measured: interconnect:``, the number of
GPUs (``npus``) and ``samples`` with ``collective``, ``bytes`` and ``us``. ``bytes`` are those that
one GPU gives to an all-reduce or an all-gather, or gets from a reduce-scatter.

Source: casys-kaist/LLMServingSim ``profiler``, MIT.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from infsim.calibrate.importers.imported import Piece
from infsim.calibrate.importers.source import Source
from infsim.errors import InputError, Where

FILE = "hardware.yaml"
LEVELS = 5
"""How far up from the folder of one degree of tensor parallelism it is looked for."""


def read_collectives(folder: Path, library: str) -> Piece | None:
    """Return the rows of the nearest ``hardware.yaml`` in or above a folder, None without one.

    Raises
    ------
    InputError
        If it is damaged.
    """
    folders = (folder, *folder.resolve().parents[:LEVELS])
    path = next((f / FILE for f in folders if (f / FILE).is_file()), None)
    if path is None:
        return None
    try:
        return _piece(path, _interconnect(path), library)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"damaged: {error!r}", where=Where(str(path))) from error


def _interconnect(path: Path) -> Mapping[str, Any]:
    import yaml

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"damaged: {error}", where=Where(str(path))) from error
    found = ((content or {}).get("measured") or {}).get("interconnect") or {}
    return {"npus": found.get("npus", 0), "samples": found.get("samples") or []}


def _piece(path: Path, interconnect: Mapping[str, Any], library: str) -> Piece:
    samples = interconnect["samples"]
    cells = {
        "collective": np.array([str(s["collective"]) for s in samples], dtype=object),
        "bytes": np.array([int(s["bytes"]) for s in samples], dtype=np.int64),
        "us": np.array([float(s["us"]) for s in samples]),
    }
    rows = np.arange(len(samples))
    return Piece(
        Source(path, cells, rows + 1),
        rows,
        {
            "kernel": "collective",
            "name": cells["collective"],
            "library": library,
            "bytes": cells["bytes"],
            "devices": int(interconnect["npus"]),
            "nodes": 1,
            "time_s": cells["us"] * 1e-6,
        },
    )
