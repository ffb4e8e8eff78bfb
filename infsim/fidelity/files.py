"""The files of a recorded run, read and checked: what is wrong is told with its place."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infsim.errors import InputError, Where, did_you_mean

Shape = Any
"""What a value of a JSON file has to be.

``str``, ``int`` or ``float`` (finite); ``[shape]`` for a list of such; ``{"key": shape}`` for an
object with at least these keys, ``{str: shape}`` for one with any keys.
"""

_CALLED = {str: "a text", int: "a whole number", float: "a number"}


def read_json(path: Path, shape: Shape) -> Any:
    """Read a JSON file, packed by gzip if it ends in ``.gz``.

    Raises
    ------
    InputError
        If it cannot be read or is not of this shape; with file and path of the value.
    """
    where = Where(str(path))
    try:
        content = path.read_bytes()
        content = gzip.decompress(content) if path.suffix == ".gz" else content
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"cannot be read: {error}", where=where) from None
    found = _parsed(content, where)
    check(found, shape, where)
    return found


def read_json_lines(path: Path) -> Iterator[tuple[Where, object]]:
    """Yield what the lines of a file say, with their places; empty lines are passed over.

    Raises
    ------
    InputError
        If the file cannot be read, or a line is not JSON.
    """
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield (where := Where(str(path), number)), _parsed(line, where)
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot be read: {error}", where=Where(str(path))) from None


def _parsed(content: str | bytes, where: Where) -> Any:
    try:
        return json.loads(content)
    except ValueError as error:
        raise InputError(f"not JSON: {error}", where=where) from None


def check(value: object, shape: Shape, where: Where) -> None:
    """Raise `InputError` if a value is not of a shape."""
    if isinstance(shape, list):
        if not isinstance(value, list):
            raise InputError(f"no list, but {_shown(value)}", where=where)
        for number, inner in enumerate(value):
            check(inner, shape[0], replace(where, path=f"{where.path or ''}[{number}]"))
    elif isinstance(shape, dict):
        _check_object(value, shape, where)
    else:
        kind = (int, float) if shape is float else shape
        right = isinstance(value, kind) and not isinstance(value, bool)
        if not right or (isinstance(value, float) and not np.isfinite(value)):
            raise InputError(f"not {_CALLED[shape]}, but {_shown(value)}", where=where)


def _check_object(value: object, shape: dict[Any, Shape], where: Where) -> None:
    if not isinstance(value, dict):
        raise InputError(f"no object, but {_shown(value)}", where=where)
    path = f"{where.path}." if where.path else ""
    keys = value if str in shape else shape
    for key in keys:
        if key not in value:
            raise InputError(f"no {key!r} in it{did_you_mean(key, list(value))}", where=where)
        check(value[key], shape[str if str in shape else key], replace(where, path=f"{path}{key}"))


def _shown(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 40 else f"{text[:36]} ..."


def read_columns(
    path: Path, numbers: Sequence[str], texts: Sequence[str] = ()
) -> dict[str, NDArray[Any]]:
    """Read columns of a Parquet file.

    Parameters
    ----------
    path : Path
    numbers, texts : sequence of str
        Names of the columns; numbers are finite and not negative.

    Raises
    ------
    InputError
        If it cannot be read, has no rows, lacks a column, or a value is wrong.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    where = Where(str(path))
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"cannot be read: {error}", where=where) from None
    if not table.num_rows:
        raise InputError("no rows in it", where=where)
    columns = {}
    for name in (*numbers, *texts):
        if name not in table.column_names:
            raise InputError(
                f"no column {name!r}{did_you_mean(name, table.column_names)}", where=where
            )
        columns[name] = table[name].to_numpy()
    for name in numbers:
        _check_numbers(name, columns[name], where)
    return columns


def _check_numbers(name: str, values: NDArray[Any], where: Where) -> None:
    if values.dtype.kind not in "iuf":
        raise InputError(f"{name} holds no numbers, but {values.dtype}", where=where)
    wrong = np.flatnonzero(~(np.isfinite(values) & (values >= 0)))
    if len(wrong):
        row = int(wrong[0])
        raise InputError(f"{name} is {values[row]} in row {row + 1}", where=where)
