"""Parquet traces: the columns of plain CSV."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infsim.errors import InputError, Where
from infsim.workload.readers.checks import Rows
from infsim.workload.readers.columns import number, parsed
from infsim.workload.readers.formats import plain_columns
from infsim.workload.readers.table import Column, find_columns
from infsim.workload.readers.text import first_bytes

MAGIC = b"PAR1"


def read_parquet(
    path: Path,
    block: int,
    *,
    columns: Mapping[str, str] | None = None,
    time_unit_s: float = 1.0,
    clients: Sequence[str] = (),
) -> Iterator[Rows]:
    """Parquet with the columns of plain CSV, see `infsim.workload.readers.formats.read_csv`.

    Raises
    ------
    InputError
        If the file is damaged, lacks a column, or has a value that is missing or no number.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    where = Where(str(path))
    begins = first_bytes(path, len(MAGIC))
    if begins != MAGIC:
        raise InputError(
            f"not a Parquet file: it begins with {begins!r}, not with {MAGIC!r}", where=where
        )
    try:
        with pq.ParquetFile(path) as file:
            names = file.schema_arrow.names
            wanted = find_columns(names, plain_columns(columns, clients), where)
            called = {column.attribute: column.name for _, column in wanted}
            first = 1
            for batch in file.iter_batches(batch_size=block, columns=list(called.values())):
                rows = {
                    column.attribute: _numbers(batch.column(column.name), column, path, first)
                    for _, column in wanted
                }
                rows["arrival_s"] = rows["arrival_s"] * time_unit_s
                lines = range(first, first + len(batch))
                yield Rows(str(path), lines, rows, called, has_lines=False)
                first += len(batch)
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"damaged Parquet file: {error}", where=where) from None


def _numbers(values: Any, column: Column, path: Path, first: int) -> NDArray[Any]:
    """Make numbers of an Arrow column: numbers as they are, text as in a CSV file."""
    import pyarrow as pa

    def where(row: int) -> Where:
        return Where(str(path), path=f"row {first + row}")

    if values.null_count:
        row = values.is_null().to_pylist().index(True)
        raise InputError(f"{column.name} has no value", where=where(row))
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    kind = values.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        texts = values.to_pylist()
        return parsed(texts, column.parse, column.expected, column.name, where)
    if pa.types.is_integer(kind) or (pa.types.is_floating(kind) and column.parse is number):
        wanted = np.float64 if column.parse is number else np.int64
        numbers: NDArray[Any] = values.to_numpy(zero_copy_only=False)
        if numbers.dtype == np.uint64 and wanted is np.int64 and (numbers >> 63).any():
            row = int(np.flatnonzero(numbers >> 63)[0])
            raise InputError(f"{column.name} is {numbers[row]}, above 2**63", where=where(row))
        return numbers.astype(wanted)
    raise InputError(f"{column.name} is of type {kind}, not {column.expected}", where=where(0))
