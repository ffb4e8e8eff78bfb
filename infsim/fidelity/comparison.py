"""Recorded against simulated times: means, percentiles, single requests, capacity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from infsim.fidelity.recorded import Recorded
from infsim.results.recorder import RunRecord

Floats = NDArray[np.float64]
Times = Mapping[str, Floats]
"""TTFT, TPOT and E2E of each request in seconds; no number where it has none."""

PERCENTILES = (50, 90, 95, 99)

CAPACITY = "capacity (requests/s)"


class Row(NamedTuple):
    """One figure.

    Attributes
    ----------
    name : str
    real, simulated : float
        Seconds, unless the name tells another unit; for a MAPE ``real`` is 0.
    error : float
        Relative: simulated over real, less one; for a MAPE the mean of its sizes.
    """

    name: str
    real: float
    simulated: float
    error: float

    @classmethod
    def of(cls, name: str, real: float, simulated: float) -> Row:
        """Return the row with its error; no number where nothing was to be met."""
        error = simulated / real - 1 if real else float("nan")
        return cls(name, float(real), float(simulated), float(error))


@dataclass(frozen=True)
class Part:
    """Requests that were served under the same load, as they were and as they are simulated.

    Attributes
    ----------
    name : str
        What tells them from other parts of a run; empty where there is one part.
    real, simulated : Times
        In the same order of requests.
    """

    name: str
    real: Times
    simulated: Times

    @property
    def rows(self) -> list[Row]:
        """Mean, percentiles and mean absolute percentage error of each latency."""
        return [row for name in self.real for row in self.rows_of(name)]

    def rows_of(self, latency: str) -> list[Row]:
        """Return the figures of one latency; none where no request has it."""
        real, made = self.real[latency], self.simulated[latency]
        known = ~np.isnan(real)
        real, made = real[known], made[known]
        if not len(real):
            return []
        start = f"{self.name} {latency}".strip()
        rows = [Row.of(f"{start} mean", float(real.mean()), float(made.mean()))]
        for percent in PERCENTILES:
            a, b = (float(np.percentile(values, percent)) for values in (real, made))
            rows.append(Row.of(f"{start} P{percent}", a, b))
        positive = real > 0
        miss = np.abs(made[positive] / real[positive] - 1)
        return [*rows, Row(f"{start} MAPE", 0.0, 0.0, float(miss.mean()))]


@dataclass(frozen=True)
class Comparison:
    """A recorded run of a real system beside its simulation.

    Attributes
    ----------
    name : str
    about : str
        What ran, for people.
    parts : sequence of Part
    capacity : Row or None
        Requests per second when there is always one to serve; None if that was not recorded.
    others : sequence of Row
        Further figures.
    notes : sequence of str
        What the reader has to know.
    """

    name: str
    about: str
    parts: Sequence[Part]
    capacity: Row | None = None
    others: Sequence[Row] = ()
    notes: Sequence[str] = ()

    @property
    def rows(self) -> list[Row]:
        """All figures, with names that tell the part."""
        capacity = [] if self.capacity is None else [self.capacity]
        return [*capacity, *(row for part in self.parts for row in part.rows), *self.others]


def times(
    arrival_s: Floats, first_token_s: Floats, end_s: Floats, tokens: NDArray[Any]
) -> dict[str, Floats]:
    """Return TTFT, TPOT and E2E of each request; no TPOT of those with one token."""
    several = tokens > 1
    gaps = np.full(len(tokens), np.nan)
    np.divide(end_s - first_token_s, tokens - 1, out=gaps, where=several)
    return {"TTFT": first_token_s - arrival_s, "TPOT": gaps, "E2E": end_s - arrival_s}


def simulated_times(record: RunRecord) -> dict[str, Floats]:
    """Return TTFT, TPOT and E2E of each request of a simulation."""
    names = ("arrival_s", "first_token_s", "end_s", "output_tokens")
    return times(*(record.requests[name] for name in names))


def together(parts: Sequence[Times]) -> dict[str, Floats]:
    """Put the requests of several runs together."""
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def medians(repeats: Sequence[Times]) -> dict[str, Floats]:
    """Return the median of each request over repeats of the same run."""
    return {name: np.median([one[name] for one in repeats], axis=0) for name in repeats[0]}


def compare(recorded: Recorded, record: RunRecord) -> Comparison:
    """Compare a recorded run with its simulation.

    Parameters
    ----------
    recorded : Recorded
    record : RunRecord
        With the requests in the same order, as `infsim.fidelity.replay.replay` returns it.

    Returns
    -------
    Comparison
        With the time in which everything was served. Where more than half of that time is after
        the last arrival, the server was the limit: this time is its capacity, too.
    """
    serving, tokens = recorded.serving, recorded.output_tokens
    real = times(recorded.arrival_s, recorded.first_token_s, recorded.end_s, tokens)
    count, real_s = len(recorded), float(recorded.end_s.max())
    made_s = float(record.requests["end_s"].max())
    saturated = recorded.arrival_s.max() < 0.5 * real_s
    engines = f"{serving.replicas} engines, each on " if serving.replicas > 1 else ""
    devices = f"{serving.devices} x " if serving.devices > 1 else ""
    extrapolated = record.counters["extrapolated"]
    outside = f"{extrapolated:.0f} iterations were outside of what was measured"
    return Comparison(
        name=recorded.name,
        about=f"{count} requests, {serving.model} in {serving.format} on"
        f" {engines}{devices}{serving.device}, KV cache of {serving.kv_tokens} tokens",
        parts=(Part("", real, simulated_times(record)),),
        capacity=Row.of(CAPACITY, count / real_s, count / made_s) if saturated else None,
        others=(Row.of("time to serve all", real_s, made_s),),
        notes=(*recorded.notes, *([outside] if extrapolated else [])),
    )


def worst(rows: Sequence[Row]) -> Row:
    """Return the figure that is farthest off, single requests left aside."""
    return max((row for row in rows if not row.name.endswith("MAPE")), key=lambda r: abs(r.error))


def as_mapping(rows: Sequence[Row]) -> dict[str, dict[str, float | None]]:
    """Return the rows by name, for JSON; what has no value is None."""
    return {
        row.name: {
            key: None if np.isnan(value) else value
            for key, value in row._asdict().items()
            if key != "name"
        }
        for row in rows
    }
