"""The tables of a study as Parquet files, and back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infsim.errors import InputError, Where
from infsim.results.recorder import (
    INCIDENT_LAYOUT,
    NODE_LAYOUT,
    REQUEST_LAYOUT,
    SEGMENT_LAYOUT,
    Columns,
    RunRecord,
)
from infsim.results.runs import CODED, TABLES, Run

LAYOUTS: Mapping[str, Mapping[str, str]] = {
    "requests": REQUEST_LAYOUT,
    "nodes": NODE_LAYOUT,
    "segments": SEGMENT_LAYOUT,
    "incidents": INCIDENT_LAYOUT,
}


def arrow_table(run: Run, table: str) -> Any:
    """Return a table of a run for Arrow, ``alternative`` and ``replication`` first."""
    import pyarrow as pa

    columns = getattr(run.record, table)
    count = len(next(iter(columns.values())))
    arrays = {
        "alternative": _coded(np.zeros(count, np.int32), (run.alternative,)),
        "replication": _numbers(np.full(count, run.replication, np.int32)),
    }
    for name, column in columns.items():
        if name in CODED[table]:
            arrays[name] = _coded(column, CODED[table][name] or run.record.texts)
        else:
            arrays[name] = _numbers(column)
    return pa.Table.from_arrays(list(arrays.values()), names=list(arrays))


# Arrays are made from buffers: `pyarrow.array` would import pandas, if that is installed, for
# longer than a small study takes.


def _numbers(column: NDArray[Any]) -> Any:
    import pyarrow as pa

    data = pa.py_buffer(np.ascontiguousarray(column))
    return pa.Array.from_buffers(pa.from_numpy_dtype(column.dtype), len(column), [None, data])


def _coded(codes: NDArray[Any], legend: Sequence[str]) -> Any:
    import pyarrow as pa

    raw = [text.encode() for text in legend]
    ends = np.cumsum([0, *map(len, raw)], dtype=np.int32)
    buffers = [None, pa.py_buffer(ends), pa.py_buffer(b"".join(raw))]
    words = pa.Array.from_buffers(pa.string(), len(legend), buffers)
    return pa.DictionaryArray.from_arrays(_numbers(codes.astype(np.int32)), words)


def write_tables(folder: Path, runs: Sequence[Run]) -> None:
    """Write one Parquet file per table, a row group per run; OSError if that fails."""
    import pyarrow.parquet as pq

    for table in TABLES:
        writer = None
        try:
            for run in runs:
                rows = arrow_table(run, table)
                if writer is None:
                    writer = pq.ParquetWriter(
                        folder / f"{table}.parquet", rows.schema, compression="zstd"
                    )
                writer.write_table(rows)
        finally:
            if writer is not None:
                writer.close()


def read_tables(folder: Path, runs: Sequence[Mapping[str, Any]]) -> Iterator[RunRecord]:
    """Read the records of a run folder again.

    Parameters
    ----------
    folder : Path
    runs : sequence of mapping
        The entries ``runs`` of ``summary.json``, in the order in which they were written: their
        ``alternative``, ``replication``, ``end_s``, ``interrupted`` and ``counters``.

    Raises
    ------
    InputError
        If a file is missing, damaged, or is not that of these runs.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        files = {table: pq.ParquetFile(folder / f"{table}.parquet") for table in TABLES if runs}
        for at, run in enumerate(runs):
            yield _record(run, {table: file.read_row_group(at) for table, file in files.items()})
    except (OSError, IndexError, KeyError, pa.ArrowException) as error:
        raise InputError(f"damaged run folder: {error}", where=Where(str(folder))) from error


def _record(run: Mapping[str, Any], tables: Mapping[str, Any]) -> RunRecord:
    texts = {"": 0}
    columns = {table: _columns(table, rows, texts) for table, rows in tables.items()}
    return RunRecord(
        requests=columns["requests"],
        nodes=columns["nodes"],
        segments=columns["segments"],
        incidents=columns["incidents"],
        texts=tuple(texts),
        counters=run["counters"],
        interrupted=run["interrupted"],
        end_s=run["end_s"],
    )


def _columns(table: str, rows: Any, texts: dict[str, int]) -> Columns:
    """Return the columns of a table with its words turned into codes again."""
    columns: dict[str, NDArray[Any]] = {}
    for name, code in LAYOUTS[table].items():
        if name not in CODED[table]:
            columns[name] = rows.column(name).to_numpy()
            continue
        legend = CODED[table][name]
        known = texts if legend is None else {word: at for at, word in enumerate(legend)}
        codes = [known.setdefault(word, len(known)) for word in rows.column(name).to_pylist()]
        columns[name] = np.asarray(codes, dtype=np.dtype(code))
    return columns
