"""Carbon intensities and prices of electricity from files."""

from __future__ import annotations

import csv
import gzip
import io
import re
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import NamedTuple

from infsim.cluster.carbon import CarbonIntensity
from infsim.cluster.moments import instant, parse_moment, time_zone
from infsim.cluster.price import ElectricityPrice
from infsim.errors import InputError, Where, did_you_mean
from infsim.units import DIMENSIONS, parse

_HOLE = 24
"""A step that is longer than so many usual ones is no step but a hole in the data."""

_PER_ENERGY = re.compile(r"([^\s()\[\]]*)/([kM]Wh)")
_SYMBOLS = {"€": "EUR", "£": "GBP", "$": "USD", "₂": "2"}


@dataclass(frozen=True)
class SeriesFormat:
    """What has to be said about a file of hourly values that does not say it itself.

    Attributes
    ----------
    zone : str or None
        Time zone of times without an offset (of the file, and of the start of a run), such as
        ``Europe/Paris``.
    columns : mapping
        Header of the columns that are the ``time`` and the ``value``.
    unit : str or None
        Unit of the values, as in ``EUR/MWh``.
    """

    zone: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    unit: str | None = None


class _Row(NamedTuple):
    line: int
    time: str
    value: str


class _Steps(NamedTuple):
    """A series whose second 0 is the start of a run."""

    starts_s: list[float]
    values: list[float]
    unit: str


def read_carbon(
    path: Path, start: datetime | None = None, about: SeriesFormat | None = None
) -> CarbonIntensity:
    """Read a time series of carbon intensity.

    Parameters
    ----------
    path : Path
        CSV (gzip if its name ends in ``.gz``) with a header. Of several columns the time is that
        in UTC, the value that whose header speaks of carbon intensity. Values are g/kWh unless the
        header or the format says otherwise; each holds until the next row. Times increase. A
        column named UTC is in UTC, times with an offset are what they say, others are of the zone
        of the format; without one, the clock is taken to be never changed.
    start : datetime, optional
        Moment of the series at which a run starts; by default its first row. Without an offset it
        is of the zone of the format, or else as the times of the file.
    about : SeriesFormat, optional
        What the file does not say itself.

    Returns
    -------
    CarbonIntensity
        Second 0 is ``start``; the last value holds for ever.

    Raises
    ------
    InputError
        With file, line and value, if the file is missing, empty, damaged, not sorted, or has a
        hole; if a clock never showed one of its times; or if ``start`` is outside of the series.
    """
    steps = _read(path, "carbon_intensity", start, about or SeriesFormat())
    return CarbonIntensity(steps.starts_s, steps.values)


def read_price(
    path: Path, start: datetime | None = None, about: SeriesFormat | None = None
) -> ElectricityPrice:
    """Read a time series of prices, which may be negative.

    Parameters and errors are those of `read_carbon`, but that the value is the column whose header
    speaks of a price, and that its unit has to be said, by the header or the format: MWh and kWh
    are both common.
    """
    steps = _read(path, "price", start, about or SeriesFormat())
    currency = steps.unit.partition("/")[0]
    return ElectricityPrice(steps.starts_s, steps.values, currency=currency)


def _read(path: Path, dimension: str, start: datetime | None, about: SeriesFormat) -> _Steps:
    header, rows = _table(path)
    columns = _columns(header, dimension, about, Where(str(path), 1))
    unit = _unit(header[columns[1]], dimension, about, Where(str(path), 1))
    size = parse(f"1 {unit}", dimension)
    zone = None if about.zone is None else time_zone(about.zone)
    clock = UTC if "utc" in header[columns[0]].lower() else zone
    moments: list[datetime] = []
    lines: list[int] = []
    values: list[float] = []
    offsets: set[timedelta | None] = set()
    for row in _rows(rows, header, columns, path):
        where = Where(str(path), row.line)
        time = parse_moment(row.time, where)
        offsets.add(time.utcoffset())
        if None in offsets and len(offsets) > 1:
            raise InputError(f"{row.time!r}: either all times have an offset or none", where=where)
        moment = instant(time, clock, moments[-1] if moments else None, where)
        if moments and moment <= moments[-1]:
            hint = None if time.tzinfo or clock else _CHANGED
            raise InputError(
                f"time {row.time!r} is not after the one before", where=where, hint=hint
            )
        moments.append(moment)
        lines.append(row.line)
        values.append(_value(row.value, dimension, where) * size)
    if not moments:
        raise InputError(f"no rows of {_NAMES[dimension]}", where=Where(str(path)))
    _refuse_holes(moments, lines, path)
    origin = _origin(moments, start, zone or clock, offsets, path)
    return _from(origin, moments, values, unit)


_NAMES = {"carbon_intensity": "carbon intensity", "price": "price"}
_CHANGED = "do clocks go back here? Then say the time zone, as in zone: Europe/Paris"


# --- the table ------------------------------------------------------------------------------


def _table(path: Path) -> tuple[list[str], Iterator[tuple[int, list[str]]]]:
    """Return the header and the rows after it with their line numbers, blank ones left out."""
    try:
        data = path.read_bytes()
        text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode("utf-8-sig")
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read the series: {error}", where=Where(str(path))) from None
    rows = csv.reader(io.StringIO(text))
    try:
        header = next(rows, [])
    except csv.Error as error:
        raise InputError(f"cannot read the series: {error}", where=Where(str(path), 1)) from None
    return header, ((rows.line_num, row) for row in rows if row)


def _rows(
    rows: Iterator[tuple[int, list[str]]], header: Sequence[str], at: tuple[int, int], path: Path
) -> Iterator[_Row]:
    try:
        for line, row in rows:
            if len(row) != len(header):
                raise InputError(
                    f"expected {len(header)} columns, got {len(row)}: {row}",
                    where=Where(str(path), line),
                )
            yield _Row(line, row[at[0]], row[at[1]])
    except csv.Error as error:
        raise InputError(f"cannot read the series: {error}", where=Where(str(path))) from None


def _columns(
    header: Sequence[str], dimension: str, about: SeriesFormat, where: Where
) -> tuple[int, int]:
    """Return the indices of time and value."""
    told = [about.columns.get(name) for name in ("time", "value")]
    for name in told:
        if name is not None and name not in header:
            raise InputError(f"no column {name!r}{did_you_mean(name, header)}", where=where)
    if len(header) < 2:
        raise InputError(f"expected a header of a time and a value, got {header}", where=where)
    if len(header) == 2 and told == [None, None]:
        return 0, 1
    time = told[0] or _the_one(header, ("utc", "time", "date"), "time", where)
    others = [name for name in header if name != time]
    value = told[1] or _the_one(others, (_NAMES[dimension],), "value", where)
    return header.index(time), header.index(value)


def _the_one(names: Sequence[str], words: Sequence[str], role: str, where: Where) -> str:
    """Return the only name with the first word that any of them has."""
    for word in words:
        found = [name for name in names if word in name.lower().replace("_", " ")]
        if len(found) == 1:
            return found[0]
        if found:
            break
    raise InputError(
        f"cannot tell which column is the {role}: {', '.join(map(repr, names))}",
        where=where,
        hint=f"say it, as in columns: {{{role}: {(found or names)[0]!r}}}",
    )


def _unit(column: str, dimension: str, about: SeriesFormat, where: Where) -> str:
    """Return the unit of the values: as it was said, or from the header."""
    if about.unit is not None:
        known = DIMENSIONS[dimension].units
        if about.unit not in known:
            near = did_you_mean(about.unit, known)
            raise InputError(f"{about.unit!r} is not a unit of {dimension}{near}", key="unit")
        return about.unit
    for symbol, name in _SYMBOLS.items():
        column = column.replace(symbol, name)
    found = _PER_ENERGY.search(column)
    if found is not None and found[0] in DIMENSIONS[dimension].units:
        return found[0]
    if dimension == "carbon_intensity" and found is None:
        return "g/kWh"
    example = "unit: EUR/MWh" if dimension == "price" else "unit: g/kWh"
    raise InputError(
        f"the header {column!r} does not tell the unit of the values",
        where=where,
        hint=f"say it, as in {example}",
    )


def _value(text: str, dimension: str, where: Where) -> float:
    try:
        value = float(text)
    except ValueError:
        raise InputError(f"{text!r} is not a number", where=where) from None
    if not abs(value) < float("inf") or (dimension == "carbon_intensity" and value < 0):
        raise InputError(f"{_NAMES[dimension]} {text!r} is not possible", where=where)
    return value


# --- time -----------------------------------------------------------------------------------


def _refuse_holes(moments: Sequence[datetime], lines: Sequence[int], path: Path) -> None:
    steps_s = [(b - a).total_seconds() for a, b in pairwise(moments)]
    if not steps_s:
        return
    usual = median(steps_s)
    for step, line in zip(steps_s, lines[1:], strict=True):
        if step > _HOLE * usual:
            raise InputError(
                f"no values for {timedelta(seconds=step)} before this row, where they usually come"
                f" every {timedelta(seconds=usual)}",
                where=Where(str(path), line),
            )


def _origin(
    moments: Sequence[datetime],
    start: datetime | None,
    clock: tzinfo | None,
    offsets: set[timedelta | None],
    path: Path,
) -> datetime:
    """Return the moment of the start; ``clock`` is where times without an offset are shown."""
    if start is None:
        return moments[0]
    where = Where(str(path))
    if start.tzinfo is None and clock is None and None not in offsets:
        if len(offsets) > 1:
            raise InputError(
                f"start {start} has no offset, and those of the file change",
                where=where,
                hint="say the time zone, as in zone: Europe/Paris",
            )
        clock = timezone(next(offset for offset in offsets if offset is not None))
    if start.tzinfo is not None and clock is None and None in offsets:
        raise InputError(
            f"start {start} has an offset, the times of the file have none",
            where=where,
            hint="say their time zone, as in zone: UTC",
        )
    moment = instant(start, clock, where=where)
    if not moments[0] <= moment <= moments[-1]:
        ends = (moments[0], moments[-1])
        first, last = (m.astimezone(clock or UTC).replace(tzinfo=None) for m in ends)
        raise InputError(f"start {start} is outside of the series ({first} to {last})", where=where)
    return moment


def _from(origin: datetime, moments: list[datetime], values: list[float], unit: str) -> _Steps:
    """Cut off what lies before the step in which the run starts."""
    first = bisect_right(moments, origin) - 1
    starts_s = [(moment - origin).total_seconds() for moment in moments[first:]]
    return _Steps(starts_s, values[first:], unit)
