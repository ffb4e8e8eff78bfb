"""From kernel tables of a device to its coefficients."""

from __future__ import annotations

from collections.abc import Sequence

from infsim.calibrate.fit.attention import fit_attentions
from infsim.calibrate.fit.elements import fit_collectives, fit_elements
from infsim.calibrate.fit.linear import fit_linears
from infsim.calibrate.table import KernelTable, concatenate
from infsim.cost.calibration import Calibration
from infsim.errors import InputError


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
    whole = concatenate(tables)
    linears = fit_linears(whole)
    if not linears:
        raise InputError("no linear layers of known shape in the kernel tables")
    return Calibration(
        device=device or named.pop(),
        source="; ".join(dict.fromkeys(table.meta.source for table in tables)),
        licence="; ".join(dict.fromkeys(table.meta.licence for table in tables)),
        linears=tuple(linears),
        attentions=tuple(fit_attentions(whole)),
        elements=tuple(fit_elements(whole)),
        collectives=tuple(fit_collectives(whole)),
        notes=tuple(note for table in tables for note in table.meta.notes),
    )
