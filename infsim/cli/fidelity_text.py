"""How ``fidelity`` shows recorded runs beside their simulation: as text, and as data for JSON."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from textwrap import wrap
from typing import Any

from infsim.fidelity.comparison import CAPACITY, PERCENTILES, Comparison, Row, as_mapping

COLUMNS = ("mean", *(f"P{percent}" for percent in PERCENTILES), "MAPE")
WIDTH = 96

NOTE = """\
Errors are relative to what was recorded, + where the simulation is too high; MAPE is the mean size
of the errors of single requests. --json prints the figures themselves."""
ABSENT = """\
Not shipped: vLLM 0.19 on an RTX 4090, from bench/examples of github.com/casys-kaist/LLMServingSim
(MIT); `infsim fidelity --run FOLDER` adds it."""


def text(comparisons: Sequence[Comparison]) -> str:
    """Return the table of recorded runs for a terminal."""
    return "\n\n".join("\n".join(block(comparison)) for comparison in comparisons)


def block(comparison: Comparison) -> Iterator[str]:
    """Yield the lines of one recorded run."""
    yield comparison.name
    yield from _indented(comparison.about)
    yield f"  capacity bias: {_capacity(comparison.capacity)}"
    for note in comparison.notes:
        yield from _indented(note)
    yield ""
    yield from _errors(comparison)
    if comparison.others:
        yield ""
        yield from _figures(comparison.others)


def figures_of(comparison: Comparison) -> Iterator[str]:
    """Yield the lines that tell every figure of one recorded run, recorded and simulated."""
    yield f"{comparison.name}: {comparison.about}"
    for row in comparison.rows:
        if row.name.endswith("MAPE"):
            yield f"  {row.name:20} {'':24} {row.error:8.1%}"
            continue
        unit = "  " if row.name == CAPACITY else " s"
        real, simulated = f"{row.real:10.4g}{unit}", f"{row.simulated:10.4g}{unit}"
        yield f"  {row.name:20} {real} {simulated} {row.error:+8.1%}"
    for note in comparison.notes:
        yield f"  {note}"


def data(comparisons: Sequence[Comparison]) -> list[dict[str, Any]]:
    """Return all figures as plain data; what has no value is None."""
    return [
        {
            "name": comparison.name,
            "about": comparison.about,
            "capacity_bias": None if comparison.capacity is None else comparison.capacity.error,
            "figures": as_mapping(comparison.rows),
            "notes": list(comparison.notes),
        }
        for comparison in comparisons
    ]


def _indented(words: str) -> list[str]:
    return wrap(words, WIDTH, initial_indent="  ", subsequent_indent="  ")


def _capacity(row: Row | None) -> str:
    if row is None:
        return "not recorded, no run has a request to serve at all times"
    return f"{_signed(row.error)} % ({row.real:.4g} requests/s, simulated {row.simulated:.4g})"


def _errors(comparison: Comparison) -> Iterator[str]:
    table = [["error in %", "", *COLUMNS]]
    for part in comparison.parts:
        title = part.name or "all requests"
        for latency in part.real:
            cells = [
                f"{100 * row.error:.1f}" if row.name.endswith("MAPE") else _signed(row.error)
                for row in part.rows_of(latency)
            ]
            table.append([title, latency, *(cells or ["-"] * len(COLUMNS))])
            title = ""
    yield from _aligned(table, left=2)


def _figures(rows: Sequence[Row]) -> Iterator[str]:
    table = [["", "recorded", "simulated", "error in %"]]
    table += [[r.name, _time(r.real), _time(r.simulated), _signed(r.error)] for r in rows]
    yield from _aligned(table, left=1)


def _aligned(table: Sequence[Sequence[str]], left: int) -> Iterator[str]:
    """Yield the lines of a table whose first columns are flush left, the others flush right."""
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for row in table:
        cells = [
            cell.ljust(width) if number < left else cell.rjust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        yield ("  " + "  ".join(cells)).rstrip()


def _signed(error: float) -> str:
    if math.isnan(error):
        return "-"
    # adding 0 takes the sign of what is rounded to 0
    return f"{round(100 * error, 1) + 0:+.1f}"


def _time(seconds: float) -> str:
    return f"{1e3 * seconds:.4g} ms" if abs(seconds) < 1 else f"{seconds:.4g} s"
