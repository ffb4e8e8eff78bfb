"""Carbon intensity from a file."""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from infsim.cluster.carbon import CarbonIntensity
from infsim.errors import InputError, Where


def read_carbon(path: Path, start: datetime | None = None) -> CarbonIntensity:
    """Read a time series of carbon intensity.

    Parameters
    ----------
    path : Path
        CSV (gzip if its name ends in ``.gz``) with a header and two columns: a time in ISO 8601
        form, and g/kWh that hold from then until the next row. Times increase.
    start : datetime, optional
        Moment of the series at which a run starts; by default its first row.

    Returns
    -------
    CarbonIntensity
        Second 0 is ``start``; the last value holds for ever.

    Raises
    ------
    InputError
        With file, line and value, if the file is missing, empty, damaged, or not sorted, or if
        ``start`` is outside of the series.
    """
    times: list[datetime] = []
    values: list[float] = []
    for line, row in _rows(path):
        where = Where(str(path), line)
        time, value = _parse(row, where)
        if times and (time.tzinfo is None) != (times[0].tzinfo is None):
            raise InputError(f"{row[0]!r}: either all times have a time zone or none", where=where)
        if times and time <= times[-1]:
            raise InputError(f"time {row[0]!r} is not after {times[-1]}", where=where)
        times.append(time)
        values.append(value)
    if not times:
        raise InputError("no rows of carbon intensity", where=Where(str(path)))
    origin = _origin(times, start, path)
    return CarbonIntensity([(time - origin).total_seconds() for time in times], values)


def _rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Rows after the header, with their line numbers; blank lines are passed over."""
    try:
        data = path.read_bytes()
        text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode("utf-8-sig")
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read carbon intensity: {error}", where=Where(str(path))) from None
    rows = csv.reader(io.StringIO(text))
    next(rows, None)
    yield from ((rows.line_num, row) for row in rows if row)


def _parse(row: list[str], where: Where) -> tuple[datetime, float]:
    if len(row) != 2:
        raise InputError(f"expected 2 columns (time, g/kWh), got {len(row)}: {row}", where=where)
    try:
        time = datetime.fromisoformat(row[0].strip())
    except ValueError:
        hint = "write for example 2023-01-31 14:00:00"
        raise InputError(f"{row[0]!r} is not a time", where=where, hint=hint) from None
    try:
        value = float(row[1])
    except ValueError:
        raise InputError(f"{row[1]!r} is not a number of g/kWh", where=where) from None
    if not 0 <= value < float("inf"):
        raise InputError(f"carbon intensity {row[1]!r} g/kWh is not possible", where=where)
    return time, value


def _origin(times: list[datetime], start: datetime | None, path: Path) -> datetime:
    if start is None:
        return times[0]
    if times[0].tzinfo is not None and start.tzinfo is None:
        start = start.replace(tzinfo=times[0].tzinfo)
    if not times[0] <= start <= times[-1]:
        raise InputError(
            f"start {start} is outside of the series ({times[0]} to {times[-1]})",
            where=Where(str(path)),
        )
    return start
