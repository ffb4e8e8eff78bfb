"""Tables of other projects, CSV or Parquet, as columns with the place of every row."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infsim.errors import InputError, Where, did_you_mean
from infsim.workload.readers.text import first_bytes, hint_if_cut, open_text

_PARQUET = b"PAR1"
_POINTER = b"version https://git-lfs"


@dataclass(frozen=True, eq=False)
class Source:
    """A table as it is in its file.

    Attributes
    ----------
    path : Path
    cells : mapping of str to array
        By column: texts of a CSV file, typed values of a Parquet file.
    lines : array of int64
        Line of each row in a CSV file, number of the row in a Parquet file; both from 1.
    """

    path: Path
    cells: Mapping[str, NDArray[Any]]
    lines: NDArray[np.int64]

    @classmethod
    def open(cls, path: Path) -> Source:
        """Read a file, of which the first bytes tell the kind.

        Raises
        ------
        InputError
            If it is absent, empty, damaged, or only a pointer of Git LFS to the file.
        """
        start = first_bytes(path, len(_POINTER))
        if start == _POINTER:
            raise InputError(
                "this is a pointer of Git LFS, not the table",
                where=Where(str(path)),
                hint="fetch the file itself with `git lfs pull`",
            )
        return _parquet(path) if start.startswith(_PARQUET) else _csv(path)

    def __len__(self) -> int:
        return len(self.lines)

    def __contains__(self, column: str) -> bool:
        return column in self.cells

    def where(self, row: int, column: str | None = None) -> Where:
        """Return the place of a row, counted from 0."""
        return Where(str(self.path), int(self.lines[row]), path=column)

    def text(self, column: str) -> NDArray[Any]:
        """Return a column of words; a missing column is an `InputError`."""
        cells = self._find(column)
        self._check(column, cells, lambda cell: isinstance(cell, str), "a word")
        return cells

    def real(self, column: str) -> NDArray[np.float64]:
        """Return a column of numbers, ``nan`` and empty cells as NaN.

        Raises
        ------
        InputError
            If the column is missing or a cell is no number; names file and line.
        """
        cells = self._find(column)
        if cells.dtype.kind in "iuf":
            return cells.astype(np.float64)
        if cells.dtype.kind != "O":
            raise InputError(f"the column {column!r} holds no numbers", where=self.where(0, column))
        plain = np.where((cells == "") | (cells == None), "nan", cells)  # noqa: E711 - elementwise
        try:
            return plain.astype(np.float64)
        except (ValueError, TypeError):
            self._check(column, plain, _is_number, "a number")
            raise

    def whole(self, column: str) -> NDArray[np.int64]:
        """Return a column of counts: whole numbers of at least 0.

        Raises
        ------
        InputError
            If the column is missing or a cell is none; names file and line.
        """
        values = self.real(column)
        with np.errstate(invalid="ignore"):
            good = (values >= 0) & (values == np.floor(values)) & (values < 2**62)
        if not good.all():
            row = int(np.flatnonzero(~good)[0])
            cell = self._find(column)[row]
            cell = cell.item() if isinstance(cell, np.generic) else cell
            raise InputError(
                f"{column} is {cell!r}, not a whole number of at least 0",
                where=self.where(row),
            )
        return values.astype(np.int64)

    def only(self, column: str) -> str:
        """Return the one word that all rows of a column hold.

        Raises
        ------
        InputError
            If there are several.
        """
        words = sorted(set(self.text(column)))
        if len(words) != 1:
            raise InputError(
                f"{column} holds {len(words)} different words, for example {words[:2]}",
                where=Where(str(self.path)),
            )
        return str(words[0])

    def _find(self, column: str) -> NDArray[Any]:
        if column not in self.cells:
            raise InputError(
                f"no column {column!r}{did_you_mean(column, self.cells)}",
                where=Where(str(self.path)),
                hint=f"columns: {', '.join(list(self.cells)[:12])}",
            )
        return self.cells[column]

    def _check(
        self, column: str, cells: NDArray[Any], good: Callable[[Any], bool], expected: str
    ) -> None:
        for row, cell in enumerate(cells):
            if not good(cell):
                raise InputError(f"{column} is {cell!r}, not {expected}", where=self.where(row))


def _is_number(cell: Any) -> bool:
    try:
        float(cell)
    except (ValueError, TypeError):
        return False
    return True


def _csv(path: Path) -> Source:
    with hint_if_cut(path), open_text(path) as text:
        reader = csv.reader(text, strict=True)
        try:
            header = next((row for row in reader if row), None)
            if header is None:
                raise InputError("the file is empty", where=Where(str(path)))
            numbered = [(reader.line_num, row) for row in reader if row]
        except csv.Error as error:
            raise InputError(f"damaged CSV: {error}", where=Where(str(path))) from None
        for line, row in numbered:
            if len(row) != len(header):
                raise InputError(
                    f"{len(row)} cells in a table of {len(header)} columns",
                    where=Where(str(path), line),
                )
    if not numbered:
        raise InputError("no rows below the header", where=Where(str(path)))
    columns: Sequence[Sequence[str]] = list(zip(*(row for _, row in numbered), strict=True))
    cells = {
        name: np.array(c, dtype=object) for name, c in zip(header, columns, strict=True) if name
    }
    return Source(path, cells, np.array([line for line, _ in numbered], dtype=np.int64))


def _parquet(path: Path) -> Source:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"damaged Parquet file: {error}", where=Where(str(path))) from None
    if not len(table):
        raise InputError("the table has no rows", where=Where(str(path)))
    cells = {}
    for name in table.column_names:
        column = table.column(name)
        if pa.types.is_dictionary(column.type):
            column = column.cast(column.type.value_type)
        cells[name] = column.to_numpy()
    return Source(path, cells, np.arange(1, len(table) + 1, dtype=np.int64))
