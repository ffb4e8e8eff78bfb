"""Whole steps that Splitwise measured: one row per run of a batch, in milliseconds.

``prompt_time`` is the prefill of ``batch_size`` prompts of ``prompt_size`` tokens, ``token_time``
the mean decode step over ``token_size`` output tokens: its context is that of the middle one. Runs
of the same point become one row, with their median.

``peak_power`` and ``average_power`` of a run are shares of the board's limit, 0 where they were not
read. Of decodes the power is the mean of runs that are nearly all decodes, of prompts the peak: the
mean over a prompt is not told.

Source: Mutinifni/splitwise-sim ``data/perf_model.csv``, MIT; Patel et al., Splitwise, ISCA'24.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infsim.calibrate.importers.imported import Imported, Piece
from infsim.calibrate.importers.source import Source
from infsim.calibrate.table import Meta
from infsim.cluster.device import DEVICES, load_device
from infsim.errors import InputError, Where

_MODELS = {"llama2-70b": "llama-2-70b", "bloom-176b": "bloom-176b"}
MOSTLY_DECODES = 0.03
"""Share of a run that its prompt may take for the mean power to be that of decodes."""
AT_LIMIT = 0.98
"""Share of the board's limit from which a peak is said to reach it."""


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
        extra=_power(source, rows, device),
    )
    return Imported.of([Piece(source, rows, shared | p) for p in (prefill, decode)], meta)


def _power(source: Source, rows: NDArray[np.int64], device: str) -> dict[str, Any]:
    """Power against load on the fewest devices, on which the host waits least between kernels."""
    if "average_power" not in source or device not in DEVICES.names():
        return {}
    limit_w = load_device(device).active_w
    columns = ("average_power", "peak_power", "prompt_time", "e2e_time", "batch_size",
               "prompt_size", "tensor_parallel")  # fmt: skip
    mean, peak, prompt, whole, batch, tokens, devices = (
        source.real(name)[rows] for name in columns
    )
    read = mean > 0
    fewest = read & (devices == devices[read].min(initial=np.inf))
    decodes = fewest & (batch == 1) & (prompt < MOSTLY_DECODES * whole)
    full = fewest & (peak >= AT_LIMIT)
    if not (decodes.any() and full.any()):
        return {}
    alone = (mean * whole - peak * prompt) / (whole - prompt)
    levels = [
        {"tokens": 1, "power_w": round(float(np.median(alone[decodes])) * limit_w, 1)},
        {"tokens": int((batch * tokens)[full].min()), "power_w": limit_w},
    ]
    about = f"Splitwise (Patel et al., ISCA'24): whole steps on {devices[fewest][0]:.0f} devices"
    return {"power": {"source": f"{about}; decodes by their mean, prompts by their peak",
                      "levels": levels}}  # fmt: skip
