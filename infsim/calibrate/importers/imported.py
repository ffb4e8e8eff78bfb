"""What an importer has read: rows in the schema of kernel tables, each with its place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from infsim.calibrate.importers.source import Source
from infsim.calibrate.table import KernelTable, Meta, concatenate
from infsim.errors import InputError, Where


@dataclass(frozen=True, eq=False)
class Piece:
    """Rows of one file.

    Attributes
    ----------
    source : Source
    rows : array of int64
        Rows of the source, one for each row here.
    columns : mapping of str to array-like
        Columns of `KernelTable`: one value per row, or one for all.
    """

    source: Source
    rows: NDArray[np.int64]
    columns: Mapping[str, ArrayLike]


@dataclass(frozen=True, eq=False)
class Imported:
    """A table, unchecked, and where its rows were.

    Attributes
    ----------
    table : KernelTable
    files : tuple of str
    file, line : array of int64
        Of each row: which of the files, and the line in it.
    """

    table: KernelTable
    files: tuple[str, ...]
    file: NDArray[np.int64]
    line: NDArray[np.int64]

    @classmethod
    def of(cls, pieces: Sequence[Piece], meta: Meta) -> Imported:
        """Put pieces together.

        Raises
        ------
        InputError
            If there are no rows.
        """
        pieces = [piece for piece in pieces if len(piece.rows)]
        if not pieces:
            raise InputError(f"no rows of the device {meta.hardware!r}")
        files = tuple(dict.fromkeys(str(piece.source.path) for piece in pieces))
        tables, file, line = [], [], []
        for piece in pieces:
            whole = {name: _spread(v, len(piece.rows)) for name, v in piece.columns.items()}
            tables.append(KernelTable.from_columns(whole, meta))
            file.append(np.full(len(piece.rows), files.index(str(piece.source.path))))
            line.append(piece.source.lines[piece.rows])
        return cls(concatenate(tables), files, np.concatenate(file), np.concatenate(line))

    def where(self, row: int) -> Where:
        """Return the place of a row."""
        return Where(self.files[self.file[row]], int(self.line[row]))

    def take(self, rows: NDArray[Any]) -> Imported:
        """Return the rows of a mask or of indices."""
        return replace(
            self, table=self.table.take(rows), file=self.file[rows], line=self.line[rows]
        )


def _spread(values: ArrayLike, length: int) -> NDArray[Any]:
    array = np.asarray(values)
    if array.dtype.kind == "U":
        array = array.astype(object)
    return array if array.ndim else np.full(length, array[()])
