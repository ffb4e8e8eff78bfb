"""Outages of nodes from a file."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from pathlib import Path

from infsim.errors import InputError, Where, did_you_mean

COLUMNS = ("node", "down_s", "up_s")


def read_outages(path: Path) -> Mapping[str, tuple[tuple[float, float], ...]]:
    """Read the outages of each node.

    Parameters
    ----------
    path : Path
        CSV with the columns ``node,down_s,up_s``; seconds since the start of the run, an empty
        ``up_s`` for a node that does not come back. Rows of a node are in order of time.

    Returns
    -------
    mapping of str to tuple of (float, float)

    Raises
    ------
    InputError
        With file, line and value, for damaged rows and for outages that overlap or go backwards.
    """
    found: dict[str, list[tuple[float, float]]] = {}
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = csv.reader(file)
            _check_header(path, next(rows, []))
            for row in rows:
                name, outage = _outage(Where(str(path), rows.line_num), row)
                before = found.setdefault(name, [])
                if before and outage[0] < before[-1][1]:
                    raise InputError(
                        f"node {name!r} goes down at {outage[0]:g} s, but is down until"
                        f" {before[-1][1]:g} s",
                        where=Where(str(path), rows.line_num),
                    )
                before.append(outage)
    except UnicodeDecodeError as error:
        raise InputError(f"not UTF-8 text: {error.reason}", where=Where(str(path))) from error
    return {name: tuple(outages) for name, outages in found.items()}


def _check_header(path: Path, header: list[str]) -> None:
    for given, wanted in zip([*header, *[""] * 3], COLUMNS, strict=False):
        if given.strip() != wanted:
            raise InputError(
                f"column {given!r} instead of {wanted!r}{did_you_mean(given, COLUMNS)}",
                where=Where(str(path), 1),
                hint=f"the header is {','.join(COLUMNS)}",
            )


def _outage(where: Where, row: list[str]) -> tuple[str, tuple[float, float]]:
    if len(row) != 3:
        raise InputError(f"{len(row)} values instead of 3: {','.join(row)!r}", where=where)
    name, down, up = (value.strip() for value in row)
    try:
        outage = float(down), float(up) if up else math.inf
    except ValueError:
        raise InputError(f"not numbers of seconds: {down!r}, {up!r}", where=where) from None
    if not 0 <= outage[0] < outage[1]:
        raise InputError(f"down at {down} s and up at {up or 'inf'} s is no outage", where=where)
    return name, outage
