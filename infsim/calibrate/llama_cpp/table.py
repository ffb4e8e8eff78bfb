"""The table of steps: ``steps.parquet``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from infsim.calibrate.llama_cpp.server import StepRow
from infsim.results.folder import whole_file

MICRO = np.array([1e6 if name == "time_s" else 1 for name in StepRow._fields])
WIDE = ("prefill_pairs", "prefill_context", "decode_context", "time_us")


def step_table(steps: Sequence[StepRow]) -> pa.Table:
    """Return steps as a table, times in whole microseconds."""
    columns = dict(zip(StepRow._fields, np.rint(np.array(steps) * MICRO).T, strict=True))
    columns["time_us"] = columns.pop("time_s")
    return pa.table({k: v.astype(np.int32 if k in WIDE else np.int16) for k, v in columns.items()})


def write_table(table: pa.Table, path: Path) -> None:
    """Write a table in half the space: bytes of equal weight side by side compress best."""
    wide = [field.name for field in table.schema if field.type == pa.int32()]
    with whole_file(path) as scratch:
        pq.write_table(
            table,
            scratch,
            compression="zstd",
            compression_level=19,
            use_dictionary=False,
            column_encoding=dict.fromkeys(wide, "BYTE_STREAM_SPLIT"),
        )
