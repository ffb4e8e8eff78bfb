"""Recorded runs for tests: those that ship, made smaller."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from infsim.paths import data_folder

RECORDED = data_folder("calibration/recorded")


def small(folder: Path, scale: int = 1) -> Path:
    """Write a few runs of the shipped recording of llama.cpp, its times multiplied."""
    origin = RECORDED / "llama-cpp" / "F16"
    meta = json.loads((origin / "meta.json").read_text())
    meta["runs"] = [run for run in meta["runs"] if run["seed"] == 1 and run["load"] < 0.5]
    (folder / "meta.json").write_text(json.dumps(meta))
    for name in ("requests", "steps"):
        table = pq.read_table(origin / f"{name}.parquet").to_pydict()
        columns = {key: np.array(column) for key, column in table.items()}
        own = np.ones(len(table["prefill_tokens" if name == "steps" else "load"]), dtype=bool)
        if name == "requests":
            own = (columns["seed"] == 1) & (columns["load"] < 0.5)
        for key in columns:
            columns[key] = columns[key][own] * (scale if key.endswith("_us") else 1)
        pq.write_table(pa.table(columns), folder / f"{name}.parquet")
    return folder
