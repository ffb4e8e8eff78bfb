"""Errors at points that were measured for that: drawn at random, and left out of the fit.

A search measures where lines are least sure, so that each of its points is hard to tell from the
others: left out in turn, they say more error than there is between them. Points of which the search
knew nothing say how much there is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain
from typing import Any

import numpy as np

from infsim.calibrate.fit.attention import fit_attentions
from infsim.calibrate.fit.elements import element_rows, fit_elements
from infsim.calibrate.fit.errors import BATCH, element_kind, priced, summary
from infsim.calibrate.fit.linear import fit_linears, linear_rows
from infsim.calibrate.fit.points import medians
from infsim.calibrate.table import KernelTable
from infsim.cost.attention import AttentionTime
from infsim.cost.linear import LinearTimes, Peak

DRAWN = "points drawn"
Found = tuple[str, str, list[float]]


def drawn_errors(rows: KernelTable, peak: Callable[[str], Peak]) -> list[dict[str, Any]]:
    """Return the errors at the drawn points of a table, priced by a fit to the others.

    Parameters
    ----------
    rows : KernelTable
    peak : callable
        Returns the peak of the device in a format.
    """
    drawn, known = rows.take(rows["held_out"] > 0), rows.take(rows["held_out"] == 0)
    if not len(drawn):
        return []
    errors: dict[tuple[str, str], list[float]] = {}
    for what, form, found in chain(
        _linears(known, drawn, peak), _attentions(known, drawn), _elements(known, drawn)
    ):
        errors.setdefault((what, form), []).extend(found)
    return [summary(what, form, DRAWN, e) for (what, form), e in errors.items() if e]


def _linears(
    known: KernelTable, drawn: KernelTable, peak: Callable[[str], Peak]
) -> Iterator[Found]:
    points = linear_rows(drawn)
    for measured in fit_linears(known):
        table = measured.table
        own = points.get((table.format, table.library))
        if own is not None:
            times = LinearTimes(table, peak(table.format))
            true = medians(own, ("n", "k", "tokens"))
            yield (
                "linear",
                table.format,
                [times.curve(n, k).at(m) / t - 1 for (n, k, m), t in true.items()],
            )


def _attentions(known: KernelTable, drawn: KernelTable) -> Iterator[Found]:
    for table in fit_attentions(known):
        own = drawn.select(
            kernel="attention", library=table.library, window=0,
            heads=table.heads, kv_heads=table.kv_heads, head_dim=table.head_dim,
        )  # fmt: skip
        own = own.take(
            np.where(own["kv_format"] == "", own["format"], own["kv_format"]) == table.format
        )
        times = AttentionTime(table)
        prompts, decodes = own["prefills"], own["decodes"]
        for what, of_it in (
            ("prefill", (prompts == 1) & (decodes == 0)),
            ("decode", prompts == 0),
            ("several prompts", prompts > 1),
        ):
            yield what, table.format, priced(medians(own.take(of_it), BATCH), times)


def _elements(known: KernelTable, drawn: KernelTable) -> Iterator[Found]:
    for table in fit_elements(known):
        own = element_rows(drawn, table.kernel)
        width = own["n"] * own["k"] if table.kernel == "head" else own["n"]
        true = medians(own.take(width == table.width), ("tokens",))
        found = [table.curve.at(tokens) / time - 1 for (tokens,), time in true.items()]
        yield element_kind(table.kernel), "", found
