"""How ``trace compare`` and ``trace errors`` show how near made traces come to a real one."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from infsim.workload.compare import Row, rows_of
from infsim.workload.profile import Profile

TITLES = {
    "requests": "requests",
    "rate per s": "rate (1/s)",
    "gap CV": "CV of gaps",
    "dispersion": "index of dispersion, {}",
    "input_tokens": "input tokens, {}",
    "output_tokens": "output tokens, {}",
    "rank correlation": "rank correlation of lengths",
    "wait": "wait at load 0.8, {} (service times)",
    "KS halves": "KS between halves, {}",
    "KS": "KS, {}",
    "turns mean": "turns of a session, mean",
    "turn gap p50 s": "time between turns, p50 (s)",
    "hits": "prefix hits, cache of {} blocks",
}
"""What the rows of a comparison are called, by the beginning of their name."""

SHOWN = (
    "wait mean",
    "wait p95",
    "wait p99",
    "dispersion 1 s",
    "dispersion 60 s",
    "KS input_tokens",
    "KS output_tokens",
    "KS gaps",
    "hits 10000",
    "hits infinite",
)
"""Columns of the table of profiles."""

_KS_NOTE = "KS, real: of two bootstraps of the real trace from each other, what noise alone makes."


def text(real: str, made: str, rows: Sequence[Row], seeds: int) -> str:
    """Return a comparison for a terminal."""
    table = [["", "real", "made", "error", ""], *_cells(rows)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = [
        "  ".join([f"{row[0]:<{widths[0]}}", *map(str.rjust, row[1:], widths[1:])]).rstrip()
        for row in table
    ]
    lines.insert(1, "─" * max(map(len, lines)))
    return "\n".join([f"{made} against {real}", "", *lines, "", *_notes(rows, seeds)])


def markdown(real: str, made: str, rows: Sequence[Row], seeds: int) -> str:
    """Return a comparison as a table in Markdown."""
    lines = ["| | real | made | error | |", "|---|---:|---:|---:|---|"]
    lines += ["| " + " | ".join(row).rstrip() + " |" for row in _cells(rows)]
    notes = "\n".join(_notes(rows, seeds))
    return "\n".join([f"`{made}` against `{real}`:", "", *lines, "", notes])


def data(real: str, made: str, rows: Sequence[Row], seeds: int) -> dict[str, Any]:
    """Return a comparison as plain data; what has no value is None."""
    return {
        "real": real,
        "made": made,
        "seeds": seeds,
        "rows": {
            row.name: {
                "real": _plain(row.real),
                "made": _plain(row.made),
                "sd": _plain(row.sd),
                "error": _plain(row.error),
            }
            for row in rows
        },
    }


def errors_table(profiles: Mapping[str, Profile]) -> str:
    """Return the errors that profiles have kept as one table in Markdown.

    Parameters
    ----------
    profiles : mapping of str to Profile
        By their name.
    """
    kept = {name: {row.name: row for row in rows_of(p.errors)} for name, p in profiles.items()}
    shown = [name for name in SHOWN if any(name in rows for rows in kept.values())]
    lines = [
        "| | profile | " + " | ".join(shown) + " |",
        "|---|---|" + "---:|" * len(shown),
    ]
    for name, rows in kept.items():
        real, made = [], []
        for column in shown:
            row = rows.get(column)
            real.append("" if row is None else _number(row.real))
            made.append("" if row is None else _with_spread(row))
        lines.append(f"| `{name}` | real | " + " | ".join(real) + " |")
        lines.append("| | made | " + " | ".join(made) + " |")
    lines[0] = lines[0].replace("| | profile |", "| profile | |")
    return "\n".join(lines)


def _cells(rows: Sequence[Row]) -> Iterator[list[str]]:
    for row in rows:
        if math.isnan(row.real) and math.isnan(row.made):
            continue
        # adding 0 takes the sign of what is rounded to 0
        relative = f"{round(row.error, 3) + 0:+.1%}" if not math.isnan(row.error) else ""
        error = "" if row.name.startswith("KS") else relative
        yield [_title(row.name), _number(row.real), _with_spread(row), error, _mark(row)]


def _title(name: str) -> str:
    for start in sorted(TITLES, key=len, reverse=True):
        if name == start or name.startswith(f"{start} "):
            return TITLES[start].format(name[len(start) :].strip().replace("_", " "))
    return name


def _mark(row: Row) -> str:
    """Return a star where the real trace is unlike those that are made."""
    if row.name.startswith("KS ") and not row.name.startswith("KS halves"):
        # a distance below that of noise is as good as it gets
        return "*" if row.made - 2 * row.sd > row.real and row.sd > 0 else ""
    apart = abs(row.made - row.real) > 2 * row.sd > 0 and abs(row.error) > 0.01
    return "*" if apart else ""


def _notes(rows: Sequence[Row], seeds: int) -> Iterator[str]:
    if seeds > 1:
        yield f"± is the standard deviation of one trace, over {seeds} seeds."
        if any(map(_mark, rows)):
            yield "* the real trace is more than two standard deviations, and 1 %, away."
    else:
        yield "One made trace: what is chance is not known."
    if any(row.name.startswith("KS") for row in rows):
        yield _KS_NOTE


def _with_spread(row: Row) -> str:
    if not row.sd > 0:
        return _number(row.made)
    if math.isnan(row.made):
        return "-"
    # as many decimals as two digits of the spread have
    decimals = max(0, 1 - math.floor(math.log10(row.sd)))
    decimals = min(decimals, 4)
    return f"{row.made:.{decimals}f} ± {row.sd:.{decimals}f}"


def _number(value: float) -> str:
    if math.isnan(value):
        return "-"
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _plain(value: float) -> float | None:
    return None if math.isnan(value) else value
