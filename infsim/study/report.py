"""The tables of a study."""

from __future__ import annotations

import math
from collections.abc import Iterator

from infsim.results.metrics import METRICS
from infsim.results.tables import MISSING, Cell, Column, Table, format_estimate, format_value
from infsim.study.comparison import LEVEL, Contrast, Observations

CONTRAST_COLUMNS = (
    "alternative",
    "metric",
    "first",
    "second",
    "difference",
    "relative",
    "p_value",
    "beyond_noise",
)

# Alternatives beside the first in one table for people; more go into further tables.
_BESIDE = 3

# From this many times the first value on, a change is shown as a factor.
_FACTOR = 10


def summary_table(observations: Observations) -> Table:
    """Return one row per alternative with an estimate of every metric that exists."""
    metrics = observations.metrics
    columns = [
        Column("alternative"),
        Column("replications", dimension="count"),
        *(Column(name, METRICS[name].label, METRICS[name].dimension) for name in metrics),
    ]
    rows: list[tuple[Cell, ...]] = [
        (
            name,
            len(observations.values[name]),
            *(observations.estimate(name, metric) for metric in metrics),
        )
        for name in observations.alternatives
    ]
    return Table(tuple(columns), tuple(rows), "summary", (interval_note(observations),))


def differences_table(observations: Observations) -> Table:
    """Return one row per alternative and metric: its difference to the first alternative.

    Plain SI numbers; ``p_value`` is adjusted (Holm), ``beyond_noise`` is None where a single run
    gives nothing to tell it by.
    """
    columns = tuple(map(Column, CONTRAST_COLUMNS))
    rows = tuple(
        (
            found.alternative,
            found.metric,
            found.first,
            found.second,
            found.difference,
            found.relative,
            found.p_value,
            found.beyond_noise,
        )
        for found in observations.contrasts
    )
    return Table(columns, rows, "differences", contrast_notes(observations))


def comparison_tables(observations: Observations, width: int | None = None) -> list[Table]:
    """Return the comparison for people: metrics in rows, the first alternative always shown.

    With a ``width`` in characters, the alternatives go into as many tables as it takes for each
    to be no wider, as far as one alternative beside the first allows.
    """
    for beside in range(_BESIDE, 1, -1):
        tables = _tables_of(observations, beside)
        if width is None or all(table.width <= width for table in tables):
            return tables
    return _tables_of(observations, 1)


def _tables_of(observations: Observations, beside: int) -> list[Table]:
    """Return the comparison in tables of so many alternatives beside the first."""
    first, rest = observations.alternatives[:1], observations.alternatives[1:]
    groups = [rest[at : at + beside] for at in range(0, len(rest), beside)] or [()]
    notes = (interval_note(observations), *contrast_notes(observations))
    return [
        _comparison(observations, (*first, *group), notes if group == groups[-1] else ())
        for group in groups
        if first
    ]


def _comparison(
    observations: Observations, alternatives: tuple[str, ...], notes: tuple[str, ...]
) -> Table:
    contrasts = {(found.alternative, found.metric): found for found in observations.contrasts}
    columns = [Column("metric", " ")]
    for at, name in enumerate(alternatives):
        columns.append(Column(name))
        if at:
            columns.append(Column(f"{name} against {alternatives[0]}", "change"))
    rows = []
    for metric in observations.metrics:
        if METRICS[metric].headline:
            cells = _comparison_row(observations, alternatives, metric, contrasts)
            rows.append((METRICS[metric].label, *cells))
    return Table(tuple(columns), tuple(rows), "", notes)


def _comparison_row(
    observations: Observations,
    alternatives: tuple[str, ...],
    metric: str,
    contrasts: dict[tuple[str, str], Contrast],
) -> Iterator[Cell]:
    dimension = METRICS[metric].dimension
    for name in alternatives:
        yield format_estimate(observations.estimate(name, metric), dimension)
        if (name, metric) in contrasts:
            yield change(contrasts[name, metric])


def change(contrast: Contrast) -> str:
    """Return a difference in a few characters: ``-8.2 % *``, ``~`` within noise, ``=`` for none.

    One that cannot be told from noise is in parentheses.
    Fractions differ in percentage points (pp), everything else in percent of the first value, or
    by a factor (``x 41.6``) from ten on.
    """
    value = contrast.difference.value
    if math.isnan(value):
        return MISSING
    if contrast.beyond_noise is False:
        return "~"
    if value == 0:
        return "="
    if METRICS[contrast.metric].dimension == "fraction":
        shown = f"{_tenths(value * 100):+} pp"
    elif contrast.relative >= _FACTOR - 1:
        shown = f"x {format_value(contrast.second / contrast.first)}"
    elif math.isfinite(contrast.relative):
        shown = f"{_tenths(contrast.relative * 100):+} %"
    else:
        shown = f"{'+' if value > 0 else ''}{format_value(value)}"
    return f"{shown} *" if contrast.beyond_noise else f"({shown})"


def _tenths(value: float) -> float:
    return round(value, 1) + 0.0  # no "-0.0"


def interval_note(observations: Observations) -> str:
    """Return how the intervals were made."""
    count = observations.replications
    if count > 1:
        return f"± is half of the 95 % interval (Student's t) over {count} replications."
    estimates = (
        observations.estimate(name, metric)
        for name in observations.alternatives
        for metric in observations.metrics
    )
    if all(math.isnan(estimate.low) for estimate in estimates):
        return "One run, too short for intervals; ask for replications."
    return "± is half of the 95 % interval from batch means within the one run, where that tells."


def contrast_notes(observations: Observations) -> tuple[str, ...]:
    """Return how the differences were judged."""
    contrasts = observations.contrasts
    told = sum(found.beyond_noise is not None for found in contrasts)
    untold = any(found.beyond_noise is None and found.difference.value != 0 for found in contrasts)
    notes = []
    if told:
        notes.append(
            f"* differs from {observations.alternatives[0]!r} beyond noise: paired t, p < {LEVEL}"
            f" after Holm's correction for {told} comparisons; ~ does not."
        )
    if untold:
        notes.append("(change): one run cannot tell it from noise; ask for replications.")
    return tuple(notes)
