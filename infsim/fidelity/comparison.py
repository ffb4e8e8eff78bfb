"""Recorded against simulated times: means, percentiles, single requests, capacity."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from infsim.fidelity.recorded import Recorded
from infsim.results.recorder import RunRecord

Floats = NDArray[np.float64]

PERCENTILES = (50, 90, 95, 99)


class Row(NamedTuple):
    """One figure.

    Attributes
    ----------
    name : str
    real, simulated : float
        Seconds; for a MAPE ``real`` is 0.
    error : float
        Relative: simulated over real, less one; for a MAPE the mean of its sizes.
    """

    name: str
    real: float
    simulated: float
    error: float


def times(
    arrival_s: Floats, first_token_s: Floats, end_s: Floats, tokens: Floats
) -> dict[str, Floats]:
    """Return TTFT, TPOT and E2E of each request; no TPOT of those with one token."""
    several = tokens > 1
    gaps = np.full(len(tokens), np.nan)
    np.divide(end_s - first_token_s, tokens - 1, out=gaps, where=several)
    return {"TTFT": first_token_s - arrival_s, "TPOT": gaps, "E2E": end_s - arrival_s}


def compare(recorded: Recorded, record: RunRecord) -> list[Row]:
    """Compare a recorded run with its simulation.

    Parameters
    ----------
    recorded : Recorded
    record : RunRecord
        With the requests in the same order, as `infsim.fidelity.replay.replay` returns it.

    Returns
    -------
    list of Row
        For TTFT, TPOT and E2E the mean, percentiles and mean absolute percentage error of single
        requests; then the capacity bias: the time in which everything was served.
    """
    requests = record.requests
    tokens = recorded.output_tokens.astype(np.float64)
    real = times(recorded.arrival_s, recorded.first_token_s, recorded.end_s, tokens)
    made = times(requests["arrival_s"], requests["first_token_s"], requests["end_s"], tokens)
    rows = [row for name in real for row in _rows(name, real[name], made[name])]
    rows.append(_row("time to serve all", recorded.end_s.max(), requests["end_s"].max()))
    return rows


def worst(rows: list[Row]) -> Row:
    """Return the figure that is farthest off, single requests left aside."""
    return max((row for row in rows if not row.name.endswith("MAPE")), key=lambda r: abs(r.error))


def as_mapping(rows: list[Row]) -> Mapping[str, Mapping[str, float]]:
    """Return the rows by name, for JSON."""
    return {row.name: {k: v for k, v in row._asdict().items() if k != "name"} for row in rows}


def _rows(name: str, real: Floats, made: Floats) -> list[Row]:
    known = ~np.isnan(real)
    real, made = real[known], made[known]
    if not len(real):
        return []
    rows = [_row(f"{name} mean", float(real.mean()), float(made.mean()))]
    for percent in PERCENTILES:
        a, b = (float(np.percentile(values, percent)) for values in (real, made))
        rows.append(_row(f"{name} P{percent}", a, b))
    positive = real > 0
    miss = np.abs(made[positive] / real[positive] - 1)
    rows.append(Row(f"{name} MAPE", 0.0, 0.0, float(miss.mean())))
    return rows


def _row(name: str, real: float, simulated: float) -> Row:
    return Row(name, float(real), float(simulated), float(simulated / real - 1))
