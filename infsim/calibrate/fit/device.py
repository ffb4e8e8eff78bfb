"""From kernel tables of a device to its coefficients."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from infsim.calibrate.fit.attention import fit_attentions
from infsim.calibrate.fit.cold import cold
from infsim.calibrate.fit.elements import fit_collectives, fit_elements, load_bytes_per_s
from infsim.calibrate.fit.errors import (
    attention_errors,
    element_errors,
    layer_errors,
    linear_errors,
    step_errors,
)
from infsim.calibrate.fit.held_out import drawn_errors
from infsim.calibrate.fit.linear import fit_linears
from infsim.calibrate.fit.thin import thinned
from infsim.calibrate.fit.whole_steps import operator_s, whole_step_errors, whole_steps
from infsim.calibrate.table import KernelTable, concatenate
from infsim.cluster.device import load_device
from infsim.cost.calibration import Calibration
from infsim.cost.kernels import peak_of
from infsim.cost.linear import Peak
from infsim.cost.power import PowerTable
from infsim.errors import InputError
from infsim.model.catalog import load_format

OF_SHAPES = ("shapes", "shapes of heads")
LAYER = 4
"""Matrices of a layer: a table with as many shapes measured one model."""


def fit_device(tables: Sequence[KernelTable], device: str | None = None) -> Calibration:
    """Fit coefficients to one or several kernel tables of a device.

    Parameters
    ----------
    tables : sequence of KernelTable
    device : str, optional
        Name in the catalogue; by default the hardware that the tables name.

    Raises
    ------
    InputError
        If the tables name different hardware, or have no linear layers of known shape.
    """
    named = {table.meta.hardware for table in tables}
    if device is None and len(named) != 1:
        raise InputError(f"kernel tables of different hardware: {', '.join(sorted(named))}")
    name = device or named.pop()
    rows, cached = cold(concatenate(tables))
    errors: list[dict[str, Any]] = []
    linears = []
    for measured in fit_linears(rows):
        peak = _peak(name, measured.table.format)
        kept = thinned(measured.table, peak)
        linears.append(kept)
        errors += linear_errors(kept, measured, peak)
        errors += layer_errors(kept, measured.table, peak)
    if not linears:
        raise InputError("no linear layers of known shape in the kernel tables")
    shares = [table.meta.extra["unequal"] for table in tables if "unequal" in table.meta.extra]
    unequal = max(shares, default=0.0)
    attentions = [replace(fitted, unequal=unequal) for fitted in fit_attentions(rows)]
    errors += attention_errors(rows, attentions)
    elements = fit_elements(rows)
    errors += element_errors(elements)
    if len(linears) == 1 and len(linears[0].shapes) == LAYER:
        errors += step_errors(rows, attentions, linears[0], elements)
    errors = _told_better(errors, drawn_errors(rows, partial(_peak, name)))
    notes = dict.fromkeys(note for table in tables for note in table.meta.notes)
    if cached:
        notes[f"{cached} rows of {len(rows)} were served by a cache: priced as from memory"] = None
    fitted = Calibration(
        device=name,
        source="; ".join(dict.fromkeys(table.meta.source for table in tables)),
        licence="; ".join(dict.fromkeys(table.meta.licence for table in tables)),
        linears=tuple(linears),
        attentions=tuple(attentions),
        elements=tuple(elements),
        collectives=tuple(fit_collectives(rows)),
        load_bytes_per_s=load_bytes_per_s(rows),
        power=_power(tables),
        notes=tuple(notes),
    )
    steps = whole_steps(_beside_kernels(tables), fitted)
    errors += whole_step_errors(steps)
    return replace(fitted, operator_s=operator_s(steps), errors=tuple(errors))


def _peak(device: str, form: str) -> Peak:
    return peak_of(load_device(device), load_format(form))


def _told_better(errors: list[dict[str, Any]], drawn: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return errors with those between points told by the drawn ones, where there are any."""
    by_drawn = {(error["what"], error["format"]) for error in drawn}
    return drawn + [
        error
        for error in errors
        if (error["what"], error["format"]) not in by_drawn or error["held_out"] in OF_SHAPES
    ]


def _beside_kernels(tables: Sequence[KernelTable]) -> KernelTable:
    """Rows of the tables that measured kernels, too: steps of another engine have other kernels."""
    return concatenate([table for table in tables if len(table.select(kernel="linear"))])


def _power(tables: Sequence[KernelTable]) -> PowerTable | None:
    """Power against load, of the first table that measured it."""
    for table in tables:
        found = table.meta.extra.get("power", {})
        if levels := found.get("levels"):
            return PowerTable(
                found["source"],
                tuple(level["tokens"] for level in levels),
                tuple(level["power_w"] for level in levels),
            )
    return None
