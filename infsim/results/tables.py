"""Tables for people and for programs: one object, several renderings."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

from infsim.results.statistics import Estimate
from infsim.units import DIMENSIONS, format_quantity

if TYPE_CHECKING:
    import pandas as pd

Cell = str | int | float | bool | None | Estimate

MISSING = "n/a"


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table.

    Attributes
    ----------
    name : str
        For programs.
    label : str
        For people; the name if empty.
    dimension : str or None
        Of `infsim.units`, for the numbers in it.
    """

    name: str
    label: str = ""
    dimension: str | None = None

    @property
    def title(self) -> str:
        return self.label or self.name


@dataclass(frozen=True, slots=True)
class Table:
    """Rows under named columns; a cell is a text, a number, an estimate or None.

    Attributes
    ----------
    columns : tuple of Column
    rows : tuple of tuple
        As many cells as there are columns.
    title : str
    notes : tuple of str
        Shown below the table.
    """

    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    title: str = ""
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(f"{len(row)} cells under {len(self.columns)} columns: {row!r}")

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[dict[str, Cell]]:
        """Iterate over the rows as mappings from column name to cell."""
        names = [column.name for column in self.columns]
        return (dict(zip(names, row, strict=True)) for row in self.rows)

    def column(self, name: str) -> list[Cell]:
        """Return the cells of one column; raises KeyError if there is none of this name."""
        names = [column.name for column in self.columns]
        if name not in names:
            raise KeyError(f"no column {name!r}; there are {', '.join(names)}")
        at = names.index(name)
        return [row[at] for row in self.rows]

    # --- for programs ---------------------------------------------------------------------------

    def to_dict(self) -> dict[str, Any]:
        """Return plain data that JSON can hold: NaN is None, an estimate a mapping."""
        rows = [{name: _plain(cell) for name, cell in row.items()} for row in self]
        return {"title": self.title, "rows": rows, "notes": list(self.notes)}

    def to_pandas(self) -> pd.DataFrame:
        """Return a data frame; an estimate spreads over ``x``, ``x_low`` and ``x_high``.

        Raises ImportError if pandas is not installed (``pip install 'infsim[analysis]'``).
        """
        import pandas as pd

        return pd.DataFrame([_spread(row) for row in self])

    # --- for people -----------------------------------------------------------------------------

    def cells(self) -> list[list[str]]:
        """Return all cells as they are shown."""
        return [
            [format_cell(cell, c.dimension) for cell, c in zip(row, self.columns, strict=True)]
            for row in self.rows
        ]

    @property
    def width(self) -> int:
        """Characters that the rows take as text, if nothing is to be folded."""
        rows = [[column.title for column in self.columns], *self.cells()]
        longest = [max(map(len, column)) for column in zip(*rows, strict=True)]
        return sum(longest) + 3 * (len(longest) - 1) + 2

    def text(self, width: int | None = None, color: bool = False) -> str:
        """Return the table for a terminal.

        Parameters
        ----------
        width : int, optional
            Of the terminal; by default as wide as the table needs.
        color : bool
            Whether to use colours and other escape sequences.
        """
        from io import StringIO

        from rich.console import Console

        out = StringIO()
        Console(file=out, width=width or 10_000, force_terminal=color, no_color=not color).print(
            self
        )
        return "\n".join(line.rstrip() for line in out.getvalue().rstrip("\n").split("\n"))

    def __rich__(self) -> Any:
        from rich import box
        from rich.console import Group
        from rich.table import Table as RichTable
        from rich.text import Text

        shown = RichTable(
            box=box.SIMPLE_HEAD, title=self.title or None, title_justify="left", pad_edge=False
        )
        for at, column in enumerate(self.columns):
            side: Any = "right" if at else "left"
            shown.add_column(Text(column.title), justify=side, overflow="fold", no_wrap=not at)
        for row in self.cells():
            shown.add_row(*map(Text, row))
        return Group(shown, *(Text(note, style="dim") for note in self.notes))

    def markdown(self) -> str:
        """Return the table in GitHub's Markdown."""
        titles = [column.title for column in self.columns]
        rules = ["---", *["--:"] * (len(titles) - 1)]
        lines = [
            "| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |"
            for row in [titles, rules, *self.cells()]
        ]
        head = [f"**{self.title}**", ""] if self.title else []
        notes = [line for note in self.notes for line in ("", note)]
        return "\n".join([*head, *lines, *notes])

    def __repr__(self) -> str:
        return self.text()

    def _repr_html_(self) -> str:
        return self.html()

    def html(self) -> str:
        """Return the table as HTML, for notebooks and reports."""

        def cells(row: list[str], tag: str) -> str:
            sides = ["left", *["right"] * (len(row) - 1)]
            return "".join(
                f'<{tag} style="text-align:{side}">{escape(cell)}</{tag}>'
                for cell, side in zip(row, sides, strict=True)
            )

        caption = f"<caption>{escape(self.title)}</caption>" if self.title else ""
        head = cells([column.title for column in self.columns], "th")
        body = "".join(f"<tr>{cells(row, 'td')}</tr>" for row in self.cells())
        notes = "".join(f"<p><small>{escape(note)}</small></p>" for note in self.notes)
        return f"<table>{caption}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{notes}"


def format_cell(cell: Cell, dimension: str | None = None) -> str:
    """Return a cell for people; what does not exist is ``n/a``."""
    if isinstance(cell, Estimate):
        return format_estimate(cell, dimension)
    if cell is None or (isinstance(cell, float) and math.isnan(cell)):
        return MISSING
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    if isinstance(cell, str):
        return cell
    return format_value(cell, dimension)


def format_value(value: float, dimension: str | None = None, digits: int = 3) -> str:
    """Return a number with its unit, or without one if it has no dimension."""
    if math.isnan(value):
        return MISSING
    if isinstance(value, int) and dimension in (None, "count"):
        return str(value)
    if dimension is None:
        return format_quantity(value, "count", digits) if abs(value) < 10_000 else f"{value:,.0f}"
    return format_quantity(value, dimension, digits)


def format_estimate(estimate: Estimate, dimension: str | None = None) -> str:
    """Return ``12.3 ± 0.4 ms``: both parts in the unit of the value, with as many places."""
    shown = format_value(estimate.value, dimension)
    if math.isnan(estimate.low):
        return shown
    number, _, unit = shown.partition(" ")
    size = float(DIMENSIONS[dimension].units[unit]) if dimension and unit else 1.0
    places = len(number.partition(".")[2])
    return f"{number} ± {estimate.half_width / size:,.{places}f} {unit}".rstrip()


def _plain(cell: Cell) -> Any:
    if isinstance(cell, Estimate):
        return {name: _plain(getattr(cell, name)) for name in ("value", "low", "high")}
    if isinstance(cell, float) and not math.isfinite(cell):
        return None
    return cell


def _spread(row: dict[str, Cell]) -> dict[str, Any]:
    spread: dict[str, Any] = {}
    for name, cell in row.items():
        if isinstance(cell, Estimate):
            spread |= {name: cell.value, f"{name}_low": cell.low, f"{name}_high": cell.high}
        else:
            spread[name] = cell
    return spread
