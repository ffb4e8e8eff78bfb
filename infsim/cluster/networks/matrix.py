"""Matrices of round-trip times, and the files that hold them."""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from infsim.errors import InputError, Where, did_you_mean

MISSING = {"", "-", "nan", "na", "none", "null", "inf", "-1"}
"""How tables write that a pair was not measured; so does a time of 0 between different places."""


@dataclass(frozen=True, slots=True)
class RttMatrix:
    """Round-trip times between places.

    Attributes
    ----------
    names : tuple of str
        Names of the places; their numbers from 0 if the file has none.
    rtt_s : float64 (P, P)
        From row to column, NaN where it was not measured; zero diagonal.
    source : str
        Where they come from, for messages.
    named : bool
        Whether the places have names of their own.
    """

    names: tuple[str, ...]
    rtt_s: NDArray[np.float64]
    source: str
    named: bool = True

    def __len__(self) -> int:
        return len(self.names)

    def index(self, name: str) -> int:
        """Return the row of a place.

        Raises
        ------
        InputError
            If there is none of this name; suggests the nearest.
        """
        if name not in self.names:
            near = did_you_mean(name, self.names) if self.named else f"; it has {len(self)} rows"
            raise InputError(f"{self.source} has no row {name!r}{near}")
        return self.names.index(name)

    def symmetric(self) -> RttMatrix:
        """Return the matrix of the means of both directions; one that is missing does not count."""
        there, back = self.rtt_s, self.rtt_s.T
        mean = np.where(np.isnan(there), back, np.where(np.isnan(back), there, (there + back) / 2))
        return replace(self, rtt_s=mean)

    def chosen(self, rows: Sequence[int], *, fill_missing: bool = False) -> NDArray[np.float64]:
        """Return the round-trip times between chosen rows, in seconds.

        Parameters
        ----------
        rows : sequence of int
        fill_missing : bool
            Whether a missing time becomes that of the fastest detour over one other place of the
            whole matrix, instead of an error.

        Raises
        ------
        InputError
            For the first pair that is missing, and has no detour where one may be taken.
        """
        rtt = self.rtt_s[np.ix_(rows, rows)]
        for i, j in np.argwhere(np.isnan(rtt)):
            first, second = rows[i], rows[j]
            detour = self.rtt_s[first] + self.rtt_s[:, second]
            if not fill_missing or np.isnan(detour).all():
                raise InputError(
                    f"{self.source} has no time from {self.names[first]!r}"
                    f" to {self.names[second]!r}",
                    hint=None if fill_missing else "missing: detour goes over a third place",
                )
            rtt[i, j] = np.nanmin(detour)
        return np.asarray(rtt)

    def sampled(self, orders: Sequence[Sequence[int]]) -> list[int]:
        """Return different rows that are complete among themselves.

        Parameters
        ----------
        orders : sequence of sequences of int
            For each row that is wanted, an order of all of them; the first one that goes with
            those that were chosen before is taken.

        Raises
        ------
        InputError
            If there are not that many.
        """
        rows: list[int] = []
        fits = np.full(len(self), True)
        for order in orders:
            row = next((row for row in order if fits[row]), None)
            if row is None:
                raise InputError(
                    f"{len(orders)} rows are wanted of {self.source}, which has {len(self)},"
                    f" {len(rows)} of them complete among themselves"
                )
            rows.append(row)
            fits &= ~(np.isnan(self.rtt_s[row]) | np.isnan(self.rtt_s[:, row]))
            fits[row] = False
        return rows


def read_matrix(path: Path, *, unit_s: float = 1e-3) -> RttMatrix:
    """Read a square matrix of round-trip times.

    Parameters
    ----------
    path : Path
        Text, gzip or not. Either numbers only, separated by blanks or tabs (as the PlanetLab
        frames of NetLatency-Data), or comma-separated with the names of the places in the first
        row and the first column. Rows are sources. Symmetric or not; where a triangular table
        leaves a direction out, the other one counts.
    unit_s : float
        Seconds of a unit of the file; by default it is in milliseconds.

    Raises
    ------
    InputError
        With file and line, if the file is missing, damaged or not square, names a place twice,
        names rows and columns differently, or has a value that is no time.
    """
    rows = _cells(path)
    if not rows:
        raise InputError("the file has no rows", where=Where(str(path)))
    named = _number(rows[0][1][-1]) is None
    if named:
        names, rows = _labels(path, rows)
    else:
        names = tuple(str(i) for i in range(len(rows)))
    _require_square(path, rows, len(names))
    values = [[_time(path, line, cell) for cell in row] for line, row in rows]
    rtt = np.array(values, dtype=np.float64) * unit_s
    rtt[(rtt == 0)] = np.nan
    np.fill_diagonal(rtt, 0.0)
    return RttMatrix(names, np.where(np.isnan(rtt), rtt.T, rtt), path.name, named)


def text_of(path: Path, opened: Callable[[Path], bytes] = Path.read_bytes) -> str:
    """Return the text of a UTF-8 file, gzip or not.

    Raises
    ------
    InputError
        If it is missing, unreadable, damaged or not UTF-8.
    """
    try:
        data = opened(path)
        return (gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data).decode("utf-8-sig")
    except FileNotFoundError:
        there = [file.name for file in path.parent.iterdir()] if path.parent.is_dir() else []
        raise InputError(f"no such file: {path}{did_you_mean(path.name, there)}") from None
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise InputError(f"cannot read the file: {error}", where=Where(str(path))) from None


Line = tuple[int, list[str]]


def _cells(path: Path) -> list[Line]:
    """Cells of the rows that are not blank, with their line numbers."""
    text = text_of(path)
    if "," in text.split("\n", 1)[0]:
        reader = csv.reader(io.StringIO(text), strict=True)
        try:
            rows = [(reader.line_num, [cell.strip() for cell in row]) for row in reader if row]
        except csv.Error as error:
            raise InputError(str(error), where=Where(str(path), reader.line_num)) from None
        return rows
    numbered = enumerate(text.splitlines(), start=1)
    return [(number, line.split()) for number, line in numbered if line.strip()]


def _labels(path: Path, rows: list[Line]) -> tuple[tuple[str, ...], list[Line]]:
    """Names of the places, and the rows without them."""
    line, header = rows[0]
    names = tuple(header[1:])
    if not names:
        where = Where(str(path), line)
        raise InputError(f"{header[0]!r} is not a round-trip time", where=where)
    for name in names:
        if not name or names.count(name) > 1:
            what = f"two places are named {name!r}" if name else "a place has no name"
            raise InputError(what, where=Where(str(path), line))
    for (number, row), expected in zip(rows[1:], names, strict=False):
        if row[0] != expected:
            hint = "rows and columns must name the same places in the same order"
            where = Where(str(path), number)
            raise InputError(f"row {row[0]!r} instead of {expected!r}", where=where, hint=hint)
    return names, [(number, row[1:]) for number, row in rows[1:]]


def _require_square(path: Path, rows: list[Line], size: int) -> None:
    for line, row in rows:
        if len(row) != size:
            raise InputError(
                f"{len(row)} times in a row of a matrix of {size} places",
                where=Where(str(path), line),
            )
    if len(rows) != size:
        last = rows[-1][0] if rows else None
        raise InputError(
            f"{len(rows)} rows of a matrix of {size} places", where=Where(str(path), last)
        )


def _number(cell: str) -> float | None:
    """The number in a cell, NaN where it is missing, None if it is something else."""
    if cell.lower() in MISSING:
        return np.nan
    try:
        return float(cell)
    except ValueError:
        return None


def _time(path: Path, line: int, cell: str) -> float:
    value = _number(cell)
    if value is None or value < 0 or value == np.inf:
        raise InputError(f"{cell!r} is not a round-trip time", where=Where(str(path), line))
    return value
