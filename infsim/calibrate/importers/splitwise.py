"""Whole steps that Splitwise measured: one row per run of a batch, in milliseconds.

``prompt_time`` is the prefill of ``batch_size`` prompts of ``prompt_size`` tokens, ``token_time``
the mean decode step over ``token_size`` output tokens: its context is that of the middle one. Runs
of the same point become one row, with their median.

Source: Mutinifni/splitwise-sim ``data/perf_model.csv``, MIT; Patel et al., Splitwise, ISCA'24.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from infsim.calibrate.importers.imported import Imported, Piece
from infsim.calibrate.importers.source import Source
from infsim.calibrate.table import Meta
from infsim.errors import InputError, Where

_MODELS = {"llama2-70b": "llama-2-70b", "bloom-176b": "bloom-176b"}


def read(path: Path, device: str) -> Imported:
    """Read the rows of a device (a name of the catalogue, as in the column ``hardware``).

    Raises
    ------
    InputError
        If the file is damaged or has no rows of the device.
    """
    source = Source.open(path)
    there = source.text("hardware")
    rows = np.flatnonzero(there == device)
    if not len(rows):
        raise InputError(
            f"no rows of {device!r}, only of {', '.join(sorted(set(there)))}",
            where=Where(str(path), path="hardware"),
        )
    batch, prompt = source.whole("batch_size")[rows], source.whole("prompt_size")[rows]
    models = source.text("model")[rows]
    shared: dict[str, Any] = {
        "kernel": "step",
        "name": np.array([_MODELS.get(name, name) for name in models], dtype=object),
        "format": "fp16",
        "devices": source.whole("tensor_parallel")[rows],
    }
    prefill: dict[str, Any] = {
        "prefills": batch,
        "chunk": prompt,
        "time_s": source.real("prompt_time")[rows] * 1e-3,
    }
    decode: dict[str, Any] = {
        "decodes": batch,
        "context": prompt + source.whole("token_size")[rows] // 2,
        "time_s": source.real("token_time")[rows] * 1e-3,
    }
    meta = Meta(
        hardware=device,
        source="Splitwise (Mutinifni/splitwise-sim) performance model",
        licence="MIT",
        notes=["time_s of a decode step is the mean over an answer, at its middle context"],
    )
    return Imported.of([Piece(source, rows, shared | p) for p in (prefill, decode)], meta)
