"""What traces look like: rates, burstiness, lengths, correlation, prefix reuse."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from infsim.figures.style import (
    COLUMN_IN,
    FORMATS,
    GRID,
    INK,
    TEXT_IN,
    line_style,
    new_figure,
    save,
    style,
    tidy,
)
from infsim.workload.summary import COUNT_WINDOW_S, Distribution, Summary

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Summaries = Mapping[str, Summary]
Floats = NDArray[np.float64]
Draw = Callable[["Axes", Summaries], None]

MOST_POINTS = 120
"""Windows of the rates that are drawn: more would be a band, not a line."""

_REFERENCE: dict[str, Any] = {"color": INK, "linewidth": 0.7, "linestyle": (0, (1, 2)), "zorder": 1}


def trace_figure(summaries: Summaries) -> Figure:
    """Return one figure with a panel for each aspect of one or more traces.

    Parameters
    ----------
    summaries : mapping of str to Summary
        By the name of the trace, which the legend tells if there are several.
    """
    panels = _panels(summaries)
    columns = 3 if len(panels) <= 6 else 4
    with style():
        rows = math.ceil(len(panels) / columns)
        figure = new_figure(TEXT_IN, 2.1 * rows + (0.25 if len(summaries) > 1 else 0))
        axes = figure.subplots(rows, columns, squeeze=False).ravel()
        for panel, draw in zip(axes, panels.values(), strict=False):
            draw(panel, summaries)
        for unused in axes[len(panels) :]:
            unused.set_visible(False)
        _legend(figure, axes[0], summaries)
    return figure


def save_traces(summaries: Summaries, target: Path) -> None:
    """Write the figure of traces: one file, or a folder with a PDF of each panel.

    Parameters
    ----------
    summaries : mapping of str to Summary
    target : Path
        A file if its suffix is that of a figure, otherwise a folder.

    Raises
    ------
    InputError
        If it cannot be written, or has the suffix of no figure.
    """
    if target.suffix and not target.is_dir():
        save(trace_figure(summaries), target)
        return
    for name, draw in _panels(summaries).items():
        with style():
            figure = new_figure(COLUMN_IN, 2.3)
            axes = figure.subplots()
            draw(axes, summaries)
            _legend(figure, axes, summaries)
        save(figure, target / f"{name}.{FORMATS[0]}")


def _panels(summaries: Summaries) -> dict[str, Draw]:
    """Return the panels that have something to show."""
    panels: dict[str, Draw] = {
        "rates": draw_rates,
        "gaps": draw_gaps,
        "dispersion": draw_dispersion,
        "autocorrelation": draw_autocorrelation,
        "input-tokens": draw_input_tokens,
        "output-tokens": draw_output_tokens,
    }
    if any(summary.prefixes for summary in summaries.values()):
        panels["prefixes"] = draw_prefixes
    return panels


def draw_rates(axes: Axes, summaries: Summaries) -> None:
    """Draw rates over time, one step per window."""
    size_s, unit = _time_unit(max(summary.duration_s for summary in summaries.values()))
    windows = set()
    for index, summary in enumerate(summaries.values()):
        merge = math.ceil(len(summary.rates_per_s) / MOST_POINTS)
        whole = len(summary.rates_per_s) // merge * merge
        rates = summary.rates_per_s[:whole].reshape(-1, merge).mean(axis=1)
        if not len(rates):
            continue
        window_s = merge * summary.rate_window_s
        windows.add(window_s)
        edges = np.arange(len(rates) + 1) * window_s / size_s
        label = list(summaries)[index]
        axes.stairs(rates, edges, baseline=None, label=label, linewidth=1, **line_style(index))
    axes.set_ylim(bottom=0)
    axes.set_xlim(left=0)
    length = f", means of {_short(*windows)}" if len(windows) == 1 else ""
    _named(axes, "Rate", f"time ({unit})", f"requests/s{length}")


def draw_gaps(axes: Axes, summaries: Summaries) -> None:
    """Draw the share of gaps above a length; exponential gaps, of the first one's mean, as dots."""
    smallest, largest = math.inf, 0.0
    for index, summary in enumerate(summaries.values()):
        values, above = _survival(summary.gaps_s)
        if not len(values):
            continue
        axes.plot(values, above, drawstyle="steps-post", **line_style(index))
        smallest = min(smallest, values[int(np.searchsorted(-above, -0.995))])
        largest = max(largest, float(values[-1]))
    rate = next(iter(summaries.values())).rate_per_s
    if largest > 0 and not math.isnan(rate):
        x = np.geomspace(smallest, largest, 200)
        axes.plot(x, np.exp(-x * rate), **_REFERENCE)
        axes.set_xscale("log")
        axes.set_xlim(max(smallest, largest * 1e-6) / 1.1, largest * 1.1)
    axes.set_yscale("log")
    least = max(2 / max(summary.requests for summary in summaries.values()), 1e-6)
    axes.set_ylim(least, 1.3)
    _named(axes, "Gaps", "gap (s), dotted: Poisson", "share above")


def draw_dispersion(axes: Axes, summaries: Summaries) -> None:
    """Draw the index of dispersion of counts by the length of the window."""
    for index, summary in enumerate(summaries.values()):
        known = [
            (scale, value)
            for scale, value in sorted(summary.dispersion.items())
            # of fewer than five windows it is little more than noise
            if value > 0 and scale * 5 <= summary.duration_s
        ]
        if known:
            axes.plot(*zip(*known, strict=True), marker="o", markersize=2.5, **line_style(index))
    axes.axhline(1, **_REFERENCE)
    axes.set_xscale("log")
    axes.set_yscale("log")
    _named(axes, "Burstiness", "window (s), dotted: Poisson", "index of dispersion")


def draw_autocorrelation(axes: Axes, summaries: Summaries) -> None:
    """Draw the autocorrelation of counts in windows of 10 s; the band holds 95 % of white noise."""
    for index, summary in enumerate(summaries.values()):
        known = [
            (lag, value)
            for lag, value in summary.count_autocorrelation.items()
            if not math.isnan(value) and 2 * lag <= summary.duration_s
        ]
        if known:
            axes.plot(*zip(*known, strict=True), marker="o", markersize=2.5, **line_style(index))
    axes.axhline(0, **_REFERENCE)
    windows = min(summary.duration_s for summary in summaries.values()) / COUNT_WINDOW_S
    if windows >= 2:
        noise = 1.96 / math.sqrt(windows)
        axes.axhspan(-noise, noise, color=GRID, alpha=0.6, linewidth=0, zorder=0)
    axes.set_xscale("log")
    _named(axes, "Autocorrelation", "lag (s), grey: noise", f"counts in {COUNT_WINDOW_S} s")


def draw_input_tokens(axes: Axes, summaries: Summaries) -> None:
    """Draw the distribution of the lengths of prompts."""
    _draw_lengths(axes, {n: s.input_tokens.distribution for n, s in summaries.items()})
    _named(axes, "Prompts", "input tokens", "share of requests")


def draw_output_tokens(axes: Axes, summaries: Summaries) -> None:
    """Draw the distribution of the lengths of outputs."""
    _draw_lengths(axes, {n: s.output_tokens.distribution for n, s in summaries.items()})
    _named(axes, "Outputs", "output tokens", "share of requests")


def draw_prefixes(axes: Axes, summaries: Summaries) -> None:
    """Draw the hits of an LRU cache by its size; the infinite cache as a dotted line."""
    for index, summary in enumerate(summaries.values()):
        if summary.prefixes is None:
            continue
        hits = dict(summary.prefixes.hits)
        most = hits.pop(None, None)
        axes.plot(
            [size for size in hits if size is not None],
            list(hits.values()),
            marker="o",
            markersize=2.5,
            **line_style(index),
        )
        if most is not None:
            axes.axhline(most, **{**_REFERENCE, "color": line_style(index)["color"]})
    axes.set_xscale("log")
    axes.set_ylim(bottom=0)
    _named(axes, "Prefix reuse", "cache (blocks), dotted: ∞", "share of blocks hit")


def _draw_lengths(axes: Axes, distributions: Mapping[str, Distribution]) -> None:
    for index, (values, counts) in enumerate(distributions.values()):
        share = np.cumsum(counts) / counts.sum()
        x, y = np.append(values[0], values), np.append(0, share)
        axes.plot(x, y, drawstyle="steps-post", **line_style(index))
    axes.set_xscale("log")
    axes.set_ylim(0, 1)
    axes.set_yticks([0, 0.25, 0.5, 0.75, 1], ["0", "25 %", "50 %", "75 %", "100 %"])


def _survival(table: Distribution) -> tuple[Floats, Floats]:
    """Return values above 0 and the share of all that is above each."""
    above = 1 - np.cumsum(table.counts) / max(1, table.counts.sum())
    positive = np.asarray(table.values) > 0
    return np.asarray(table.values)[positive], above[positive]


def _legend(figure: Figure, axes: Axes, summaries: Summaries) -> None:
    if len(summaries) > 1:
        handles, labels = axes.get_legend_handles_labels()
        figure.legend(
            handles, labels, loc="outside upper center", ncols=len(summaries), frameon=False
        )


def _named(axes: Axes, title: str, x: str, y: str) -> None:
    axes.set_title(title, loc="left")
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    tidy(axes)


def _time_unit(span_s: float) -> tuple[float, str]:
    for size_s, unit in ((86400.0, "days"), (3600.0, "h"), (60.0, "min")):
        if span_s >= 3 * size_s:
            return size_s, unit
    return 1.0, "s"


def _short(window_s: float) -> str:
    for size_s, unit in ((3600, "h"), (60, "min")):
        if window_s >= size_s and window_s % size_s == 0:
            return f"{window_s / size_s:g} {unit}"
    return f"{window_s:g} s"
