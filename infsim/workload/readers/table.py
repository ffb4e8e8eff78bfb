"""CSV files with a header: rows in blocks, columns found by name."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from infsim.errors import InputError, Where, did_you_mean
from infsim.workload.readers.checks import Rows
from infsim.workload.readers.columns import Parse, parsed
from infsim.workload.readers.text import hint_if_cut, open_text

_SHOWN = 200
"""Characters of a header in a message: what is no table may have millions."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a CSV file.

    Attributes
    ----------
    attribute : str
        The column of `Requests` it fills.
    name : str
        What the header calls it.
    parse : callable
        Makes numbers of its texts, see `infsim.workload.readers.columns`.
    expected : str
        What a value should be, for messages.
    required : bool
        Whether the file must have it.
    """

    attribute: str
    name: str
    parse: Parse
    expected: str = "a whole number"
    required: bool = True


def read_table(path: Path, columns: Sequence[Column], block: int) -> Iterator[Rows]:
    """Read a CSV file with a header in blocks of `block` rows; other columns are left out.

    Raises
    ------
    InputError
        If the file is empty, its header lacks a column, or a row is damaged.
    """
    with hint_if_cut(path), open_text(path) as text:
        reader = csv.reader(text, strict=True)
        try:
            header = next((row for row in reader if row), None)
            if header is None:
                raise InputError("the file is empty", where=Where(str(path)))
            places = find_columns(header, columns, Where(str(path), reader.line_num))
            numbered = ((reader.line_num, row) for row in reader if row)
            while part := list(islice(numbered, block)):
                lines, rows = zip(*part, strict=True)
                yield _parse_rows(path, rows, lines, len(header), places)
        except csv.Error as error:
            raise InputError(str(error), where=Where(str(path), reader.line_num)) from None


def find_columns(
    header: Sequence[str], columns: Sequence[Column], where: Where
) -> list[tuple[int, Column]]:
    """Return the columns that are there, each with its place in the header.

    Raises
    ------
    InputError
        If two columns have the same name, or a required one is not there.
    """
    names = [name.strip() for name in header]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"two columns are named {name!r}", where=where)
    for column in columns:
        if column.required and column.name not in names:
            shown = ", ".join(names)
            raise InputError(
                f"the header has no column {column.name!r}, it has {shown[:_SHOWN]}"
                + ("…" if len(shown) > _SHOWN else "")
                + did_you_mean(column.name, names),
                where=where,
            )
    return [(names.index(column.name), column) for column in columns if column.name in names]


def _parse_rows(
    path: Path,
    rows: Sequence[list[str]],
    lines: Sequence[int],
    width: int,
    places: list[tuple[int, Column]],
) -> Rows:
    if set(map(len, rows)) != {width}:
        line, row = next(pair for pair in zip(lines, rows, strict=True) if len(pair[1]) != width)
        raise InputError(
            f"{len(row)} fields instead of {width}: {','.join(row)[:80]!r}",
            where=Where(str(path), line),
        )
    texts = list(zip(*rows, strict=True))
    arrays: dict[str, NDArray[Any]] = {
        column.attribute: parsed(
            texts[place],
            column.parse,
            column.expected,
            column.name,
            lambda row: Where(str(path), lines[row]),
        )
        for place, column in places
    }
    names = {column.attribute: column.name for _, column in places}
    return Rows(str(path), lines, arrays, names)
