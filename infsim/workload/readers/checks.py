"""What every trace must satisfy, whatever its format: checked here, once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infsim.errors import InputError, Where
from infsim.workload.blocks import block, with_prefixes
from infsim.workload.requests import Requests

LEAST = {
    "arrival_s": 0,
    "input_tokens": 1,
    "output_tokens": 1,
    "client": 0,
    "session_id": -1,
    "sample_id": -1,
}
"""Smallest value of each column."""

MOST = {"arrival_s": 1e10, "input_tokens": 10**9, "output_tokens": 10**9}
"""Largest value of a column: beyond it, a unit is wrong (milliseconds since 1970, say)."""


@dataclass(frozen=True, slots=True)
class Rows:
    """A block of a trace as a format reads it.

    Attributes
    ----------
    path : str
        The file, for messages.
    lines : sequence of int
        Line of each row in the file, from 1; for files without lines the number of the row.
    columns : dict
        Arrays by name of the column of `Requests`.
    names : mapping
        What the file calls these columns.
    prefixes : (int64 (n,), int64 (m,), int) or None
        Number of prefix hashes of each row, all hashes, tokens of a hashed block.
    has_lines : bool
        Whether the file has lines.
    """

    path: str
    lines: Sequence[int]
    columns: dict[str, NDArray[Any]]
    names: Mapping[str, str]
    prefixes: tuple[NDArray[np.int64], NDArray[np.int64], int] | None = None
    has_lines: bool = True

    def where(self, index: int | np.int64) -> Where:
        """Return the place of a row of the block."""
        number = self.lines[int(index)]
        return (
            Where(self.path, number) if self.has_lines else Where(self.path, path=f"row {number}")
        )


def checked(path: Path, blocks: Iterable[Rows]) -> Iterator[Requests]:
    """Check the blocks of rows of a file and make requests of them.

    Raises
    ------
    InputError
        With file and line, if a row is out of order or has an impossible value; if there
        are no rows.
    """
    previous_s = -np.inf
    for rows in blocks:
        _check_order(rows, previous_s)
        _check_values(rows)
        arrival_s = rows.columns.pop("arrival_s")
        previous_s = float(arrival_s[-1])
        requests = block(arrival_s, **rows.columns)
        yield with_prefixes(requests, *rows.prefixes) if rows.prefixes else requests
    if previous_s == -np.inf:
        raise InputError("the file has no requests", where=Where(str(path)))


def _check_values(rows: Rows) -> None:
    for name, least in LEAST.items():
        values = rows.columns.get(name)
        if values is None:
            continue
        most = MOST.get(name, np.inf)
        bad = np.flatnonzero(~((values >= least) & (values <= most)))
        if len(bad):
            value = values[bad[0]]
            too_large = value > most
            raise InputError(
                f"{rows.names[name]} is {value}, must be at "
                + (f"most {most:g}" if too_large else f"least {least}"),
                where=rows.where(bad[0]),
                hint="is the unit right?" if too_large and name == "arrival_s" else None,
            )


def _check_order(rows: Rows, previous_s: float) -> None:
    arrival_s = rows.columns["arrival_s"]
    bad = np.flatnonzero(np.diff(arrival_s, prepend=previous_s) < 0)
    if len(bad):
        first = int(bad[0])
        before = previous_s if first == 0 else arrival_s[first - 1]
        raise InputError(
            f"{rows.names['arrival_s']} is not sorted: {arrival_s[first]} s after {before} s",
            where=rows.where(first),
            hint="sort the file by arrival",
        )
