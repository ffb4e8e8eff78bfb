"""Outages of nodes from a file."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from infsim.cluster.availability import Outage, TraceAvailability
from infsim.errors import InputError, Where, did_you_mean

COLUMNS = ("node", "down_s", "up_s")
OPTIONAL = ("notice_s",)


def read_outages(path: Path) -> Mapping[str, TraceAvailability]:
    """Read the outages of each node.

    Parameters
    ----------
    path : Path
        CSV with the columns ``node,down_s,up_s``; seconds since the start of the run, an empty
        ``up_s`` for a node that does not come back. A column ``notice_s`` may follow: how long
        before it goes down the node says so, empty for a failure. Rows of a node are in order of
        time.

    Returns
    -------
    mapping of str to TraceAvailability

    Raises
    ------
    InputError
        With file, line and value, for damaged rows and for outages that overlap or go backwards.
    """
    found: dict[str, list[Outage]] = {}
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = csv.reader(file)
            columns = _header(path, next(rows, []))
            for row in rows:
                where = Where(str(path), rows.line_num)
                name, outage = _outage(where, row, columns)
                before = found.setdefault(name, [])
                if before and outage.down_s < before[-1].up_s:
                    raise InputError(
                        f"node {name!r} goes down at {outage.down_s:g} s, but is down until"
                        f" {before[-1].up_s:g} s",
                        where=where,
                    )
                before.append(outage)
    except UnicodeDecodeError as error:
        raise InputError(f"not UTF-8 text: {error.reason}", where=Where(str(path))) from error
    except csv.Error as error:
        raise InputError(f"no CSV: {error}", where=Where(str(path), rows.line_num)) from error
    return {
        name: TraceAvailability(
            tuple((outage.down_s, outage.up_s) for outage in outages),
            tuple(outage.notice_s for outage in outages),
        )
        for name, outages in found.items()
    }


def _header(path: Path, header: Sequence[str]) -> int:
    """Check the names of the columns; return their number."""
    known = (*COLUMNS, *OPTIONAL)
    given = [name.strip() for name in header]
    wanted = known[: max(len(given), len(COLUMNS))]
    for name, right in zip([*given, *[""] * len(COLUMNS)], wanted, strict=False):
        if name != right:
            raise InputError(
                f"column {name!r} instead of {right!r}{did_you_mean(name, known)}",
                where=Where(str(path), 1),
                hint=f"the header is {','.join(COLUMNS)}, and {','.join(OPTIONAL)} may follow",
            )
    if len(given) > len(known):
        raise InputError(f"unknown column {given[len(known)]!r}", where=Where(str(path), 1))
    return len(wanted)


def _outage(where: Where, row: Sequence[str], columns: int) -> tuple[str, Outage]:
    if len(row) != columns:
        raise InputError(f"{len(row)} values instead of {columns}: {','.join(row)!r}", where=where)
    name, down, up, *rest = (value.strip() for value in row)
    notice = rest[0] if rest else ""
    try:
        outage = Outage(float(down), float(up) if up else math.inf, float(notice or 0.0))
    except ValueError:
        raise InputError(
            f"not numbers of seconds: {', '.join(map(repr, (down, up, *rest)))}", where=where
        ) from None
    if not 0 <= outage.down_s < outage.up_s:
        raise InputError(f"down at {down} s and up at {up or 'inf'} s is no outage", where=where)
    if not 0 <= outage.notice_s < math.inf:
        raise InputError(f"notice of {notice} s is no time", where=where)
    return name, outage
