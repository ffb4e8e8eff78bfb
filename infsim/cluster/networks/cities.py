"""Ping tables of cities, one file each."""

from __future__ import annotations

import csv
import io
import tarfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from infsim.cluster.networks.geography import plain_name
from infsim.cluster.networks.matrix import RttMatrix, text_of
from infsim.errors import InputError, Where

SUFFIX = "Ping.csv"
COLUMNS = {"City", "hidden", "hidden.1"}


@dataclass(frozen=True, slots=True)
class CityTable:
    """Round-trip times and distances between cities.

    Attributes
    ----------
    rtt : RttMatrix
        Named by city, in lower case with hyphens; row is where the ping was sent from.
    km : float64 (P, P)
        Distances, NaN where the table has none.
    """

    rtt: RttMatrix
    km: NDArray[np.float64]


def read_cities(path: Path) -> CityTable:
    """Read ping tables as WonderNetwork publishes them.

    Parameters
    ----------
    path : Path
        A folder or a tar file (compressed or not) with a ``<City>Ping.csv`` for each city: a
        header, then a row for each other city with its name, country and continent (``City``),
        kilometres (``hidden``) and mean round-trip time in ms (``hidden.1``). Cities without a
        file of their own are left out.

    Raises
    ------
    InputError
        With file and line, if there are no such files, one lacks a column, a value is no
        positive number, or a pair comes twice.
    """
    files = dict(_files(path))
    if not files:
        raise InputError(f"no files named <City>{SUFFIX} in {path}")
    names = tuple(sorted(files))
    index = {name: i for i, name in enumerate(names)}
    find = cache(lambda title: _find(title, index))  # each table has the same titles
    rtt_ms, km = np.full((2, len(names), len(names)), np.nan)
    for name, (file, text) in files.items():
        here = index[name]
        for line, other, distance, time in _rows(file, text, find):
            if not np.isnan(rtt_ms[here, other]):
                where = Where(file, line)
                raise InputError(f"the city {names[other]!r} comes twice", where=where)
            rtt_ms[here, other], km[here, other] = time, distance
    for matrix in (rtt_ms, km):
        np.fill_diagonal(matrix, 0.0)
    return CityTable(RttMatrix(names, rtt_ms * 1e-3, path.name), km)


def _files(path: Path) -> Iterator[tuple[str, tuple[str, str]]]:
    """Name of each city, with the name and the text of its file."""
    if path.is_dir():
        for file in sorted(path.glob(f"*{SUFFIX}")):
            yield plain_name(file.name.removesuffix(SUFFIX)), (str(file), text_of(file))
        return
    if not path.is_file():
        text_of(path)  # says what is wrong
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                name = PurePosixPath(member.name).name
                opened = archive.extractfile(member) if name.endswith(SUFFIX) else None
                if opened is not None:
                    text = opened.read().decode("utf-8-sig")
                    yield plain_name(name.removesuffix(SUFFIX)), (f"{path}/{name}", text)
    except (tarfile.TarError, OSError, EOFError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read the archive: {error}", where=Where(str(path))) from None


def _rows(
    file: str, text: str, find: Callable[[str], int | None]
) -> Iterator[tuple[int, int, float, float]]:
    """Line, index of the other city, km and ms of each row about a city that has a file."""
    reader = csv.DictReader(io.StringIO(text))
    missing = COLUMNS - set(reader.fieldnames or ())
    if missing:
        columns = ", ".join(sorted(missing))
        raise InputError(f"the header has no column {columns}", where=Where(file, 1))
    for row in reader:
        where = Where(file, reader.line_num)
        if None in row.values() or None in row:
            raise InputError(f"expected {len(reader.fieldnames or ())} fields", where=where)
        other = find(row["City"])
        if other is not None:
            km = _positive(row["hidden"], "km", where)
            yield reader.line_num, other, km, _positive(row["hidden.1"], "ms", where)


def _find(title: str, index: Mapping[str, int]) -> int | None:
    """Index of the city with which a title (city, country, continent) begins, the longest one."""
    words = plain_name(title).split("-")
    for count in range(len(words), 0, -1):
        name = "-".join(words[:count])
        if name in index:
            return index[name]
    return None


def _positive(cell: str, unit: str, where: Where) -> float:
    try:
        value = float(cell)
    except ValueError:
        value = np.nan
    if not 0 < value < np.inf:
        raise InputError(f"{cell!r} is not a positive number of {unit}", where=where)
    return value
