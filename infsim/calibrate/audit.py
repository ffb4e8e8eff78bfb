"""The audit of a kernel table: rows that cannot be true are left out, and counted by reason.

Refused are

- times that are not positive numbers,
- rows faster than `infsim.calibrate.bounds` allows, with a tolerance for clocks above the
  datasheet's,
- points that were measured several times with contradicting results,
- outliers: three times slower than the next larger problems, or three times faster than both
  neighbours, everything else equal.

Kept but counted are rows somewhat slower than a larger problem: real kernels have such steps.
Repeats that agree become one row, with their median. A table of which most rows must be refused is
an error, and so is one in which no row comes near what the device can do: its unit is wrong.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infsim.calibrate.bounds import least_time_s
from infsim.calibrate.importers.imported import Imported
from infsim.calibrate.table import COLUMNS, MEASURED, KernelTable
from infsim.cluster.device import Device
from infsim.errors import InputError

TOLERANCE = 0.1
CONTRADICTION = 1.5
OUTLIER = 3.0
NOISE = 1.1
SHORT_S = 20e-6
"""Differences below this are timers and launches, not kernels."""
LEAST_SHARE = 0.005
"""Share of the device's capability that the best row of any honest table exceeds."""

NOT_POSITIVE = "time is not a positive number"
IMPOSSIBLE = "faster than the hardware allows"
CONTRADICTING = "repeats contradict each other"
OUTLYING = "three times off its neighbours"
STEP = "slower than a larger problem"

AXES = ("tokens", "bytes", "context", "decodes", "chunk", "prefix", "prefills")
"""Columns in which more is more work, everything else equal."""


@dataclass(frozen=True, eq=False)
class Audit:
    """What an audit found.

    Attributes
    ----------
    table : KernelTable
        The rows that were kept; its meta has the counts of refused and flagged rows.
    examples : tuple of str
        The first refused row of each reason, with its place.
    """

    table: KernelTable
    examples: tuple[str, ...]


def audit(imported: Imported, device: Device, tolerance: float = TOLERANCE) -> Audit:
    """Check imported rows against the device and against each other.

    Parameters
    ----------
    imported : Imported
    device : Device
        What they were measured on.
    tolerance : float
        How much faster than the datasheet's rates a row may be: chips clock higher than that.

    Raises
    ------
    InputError
        If most rows must be refused, or all are far too slow; names the first such row.
    """
    reasons: dict[str, int] = {}
    examples: list[str] = []
    rows = imported

    def refuse(reason: str, wrong: NDArray[np.bool_], detail: str = "") -> None:
        nonlocal rows
        if wrong.any():
            first = int(np.flatnonzero(wrong)[0])
            reasons[reason] = int(wrong.sum())
            time = rows.table["time_s"][first]
            examples.append(f"{rows.where(first)}: {reason}: {time:.4g} s{detail}")
            rows = rows.take(~wrong)

    time = rows.table["time_s"]
    refuse(NOT_POSITIVE, ~((time > 0) & np.isfinite(time)))
    _require_some(rows, imported, reasons, examples)
    least = least_time_s(rows.table, device)
    _check_unit(rows, least, device)
    wrong = rows.table["time_s"] * (1 + tolerance) < least
    hint = f", at least {least[wrong][0]:.4g} s on {device.name}" if wrong.any() else ""
    bounded = int((least > 1e-6).sum())
    refuse(IMPOSSIBLE, wrong, hint)
    if 2 * int(wrong.sum()) > bounded:
        raise _refused(imported, reasons, examples)
    refuse(CONTRADICTING, _contradicting(rows.table, _Codes.of(rows.table).groups()))
    table = _merged(rows.table, _Codes.of(rows.table).groups())
    steps, outliers = _order(table)
    if outliers.any():
        reasons[OUTLYING] = int(outliers.sum())
        table = table.take(~outliers)
    if 2 * len(table) < sum(reasons.values()):
        raise _refused(imported, reasons, examples)
    flagged = {STEP: int((steps & ~outliers).sum())}
    spread = table["spread_s"] / table["time_s"]
    known = spread[~np.isnan(spread)]
    kept = table.with_meta(
        refused=reasons,
        flagged={reason: count for reason, count in flagged.items() if count},
        noise=round(float(np.median(known)), 5) if len(known) else None,
        rows=len(table),
    )
    return Audit(kept, tuple(examples))


def _require_some(
    rows: Imported, imported: Imported, reasons: dict[str, int], examples: list[str]
) -> None:
    if 2 * len(rows.table) < len(imported.table):
        raise _refused(imported, reasons, examples)


def _refused(imported: Imported, reasons: dict[str, int], examples: list[str]) -> InputError:
    counts = ", ".join(f"{count} {reason}" for reason, count in reasons.items())
    return InputError(
        f"{examples[0]}; of {len(imported.table)} rows too many are refused: {counts}",
        hint="is it the right device, and the right unit?",
    )


def _check_unit(rows: Imported, least: NDArray[np.float64], device: Device) -> None:
    """Raise if even the best of the larger kernels is far from what the device can do."""
    large = np.flatnonzero(least > SHORT_S)
    if not len(large):
        return
    share = least[large] / rows.table["time_s"][large]
    best = int(large[np.argmax(share)])
    if share.max() < LEAST_SHARE:
        time = rows.table["time_s"][best]
        raise InputError(
            f"{time:.4g} s for what a {device.name} can do in {least[best]:.4g} s,"
            " and no row is better",
            where=rows.where(best),
            hint="is it the right device, and the right unit?",
        )


@dataclass(frozen=True, eq=False)
class _Codes:
    """The columns that say what was measured, each value as a number from 0."""

    columns: dict[str, NDArray[np.int64]]
    length: int

    @classmethod
    def of(cls, table: KernelTable) -> _Codes:
        import pyarrow as pa

        columns = {}
        for name in COLUMNS:
            if name not in MEASURED:
                encoded = pa.array(table[name]).dictionary_encode()
                if len(encoded.dictionary) > 1:
                    columns[name] = encoded.indices.to_numpy().astype(np.int64)
        return cls(columns, len(table))

    def groups(self, without: str | None = None) -> NDArray[np.int64]:
        """Number the rows so that those which agree in all columns but one share a number."""
        code = np.zeros(self.length, dtype=np.int64)
        for name, found in self.columns.items():
            if name != without:
                code = code * (int(found.max(initial=0)) + 1) + found
                if int(code.max(initial=0)) > 2**31:  # the next product must fit too
                    code = np.unique(code, return_inverse=True)[1]
        return np.unique(code, return_inverse=True)[1]


def _contradicting(table: KernelTable, group: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Rows of points whose repeats differ by more than noise."""
    time = table["time_s"]
    if not len(time):
        return np.zeros(0, dtype=np.bool_)
    count = int(group.max()) + 1
    longest, shortest = np.zeros(count), np.full(count, np.inf)
    np.maximum.at(longest, group, time)
    np.minimum.at(shortest, group, time)
    apart = (longest > CONTRADICTION * shortest) & (longest - shortest > SHORT_S)
    found: NDArray[np.bool_] = apart[group]
    return found


def _merged(table: KernelTable, group: NDArray[np.int64]) -> KernelTable:
    """Return one row per point: the median of its repeats, and how much they spread."""
    order = np.argsort(group, kind="stable")
    starts = np.flatnonzero(np.diff(group[order], prepend=-1))
    ends = np.append(starts[1:], len(order))
    kept = order[starts]
    columns = dict(table.take(kept).columns)
    for index in np.flatnonzero(ends - starts > 1):
        repeats = order[starts[index] : ends[index]]
        times = table["time_s"][repeats]
        columns["time_s"][index] = np.median(times)
        columns["spread_s"][index] = np.std(times)
        columns["runs"][index] = np.maximum(table["runs"][repeats], 1).sum()
    return KernelTable(columns, table.meta).take(np.argsort(kept))


def _order(table: KernelTable) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return which rows are slower than a larger problem, and which are outliers."""
    steps = np.zeros(len(table), dtype=np.bool_)
    outliers = np.zeros(len(table), dtype=np.bool_)
    codes = _Codes.of(table)
    for axis in AXES:
        if not (table[axis] > 0).any():
            continue
        group = codes.groups(without=axis)
        order = np.lexsort((table[axis], group))
        time, same = table["time_s"][order], group[order]
        after, beyond = _shifted(time, same, -1), _shifted(time, same, -2)
        before = _shifted(time, same, 1)
        steps[order] |= (time > NOISE * after) & (time - after > SHORT_S)
        spike = (time > OUTLIER * after) & (time > OUTLIER * beyond) & (time - after > SHORT_S)
        dip = (before > OUTLIER * time) & (after > OUTLIER * time) & (before - time > SHORT_S)
        outliers[order] |= spike | dip
    return steps, outliers


def _shifted(time: NDArray[Any], group: NDArray[Any], by: int) -> NDArray[np.float64]:
    """Times of the neighbours ``by`` places away in the same group, NaN where there is none."""
    moved = np.full(len(time), np.nan)
    if by > 0:
        same = group[by:] == group[:-by]
        moved[by:][same] = time[:-by][same]
    else:
        same = group[:by] == group[-by:]
        moved[:by][same] = time[-by:][same]
    return moved
