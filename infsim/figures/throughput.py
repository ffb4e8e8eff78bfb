"""Throughput, with its intervals."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from infsim.figures.style import INK, PALETTE, TEXT_IN, new_figure, style, tidy
from infsim.results.statistics import Estimate

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# alternative -> metric -> estimate
Estimates = Mapping[str, Mapping[str, Estimate]]

PANELS = {
    "throughput_tokens_per_s": "throughput, output tokens/s",
    "throughput_requests_per_s": "throughput, requests/s",
    "goodput_requests_per_s": "goodput, requests/s",
}


def throughput_bars(estimates: Estimates) -> Figure:
    """Return throughput and, where there are SLOs, goodput as bars with their 95 % intervals.

    Parameters
    ----------
    estimates : mapping of str to mapping of str to Estimate
        By alternative and name of the metric.
    """
    with style():
        figure = new_figure(TEXT_IN, bars_height_in(len(estimates)))
        panels = throughput_panels(estimates)
        axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
        draw_bars(list(axes), panels, estimates)
    return figure


def bars_height_in(alternatives: int) -> float:
    """Return the height that so many bars need, in inches."""
    return 0.75 + 0.24 * alternatives


def throughput_panels(estimates: Estimates) -> list[str]:
    """Return the panels that have data; that of tokens if none has."""
    return [
        name
        for name in PANELS
        if any(not math.isnan(found[name].value) for found in estimates.values())
    ] or ["throughput_tokens_per_s"]


def draw_bars(axes: Sequence[Axes], panels: Sequence[str], estimates: Estimates) -> None:
    """Draw one panel per metric, side by side with the names of the alternatives at the left."""
    names = list(estimates)
    rows = list(range(len(names)))
    for panel, metric in zip(axes, panels, strict=True):
        found = [estimates[name][metric] for name in names]
        values = [0.0 if math.isnan(e.value) else e.value for e in found]
        colors = [PALETTE[row % len(PALETTE)] for row in rows]
        panel.barh(rows, values, height=0.62, color=colors)
        largest = max([*values, *(e.high for e in found if not math.isnan(e.high))], default=0)
        for row, estimate in zip(rows, found, strict=True):
            _annotate(panel, row, estimate, largest)
        panel.set_xlim(0, (largest or 1) * 1.28)
        panel.set_title(PANELS[metric], loc="left")
        tidy(panel, grid="x")
        panel.tick_params(axis="y", length=0)
    axes[0].set_yticks(rows, names)
    axes[0].set_ylim(len(names) - 0.45, -0.55)


def _annotate(axes: Axes, row: int, estimate: Estimate, largest: float) -> None:
    """Draw the interval, and write the value behind it."""
    if math.isnan(estimate.value):
        axes.text(0, row, " n/a", va="center", fontsize=6.5, color=INK)
        return
    end = estimate.value
    if not math.isnan(estimate.low):
        low, high = estimate.value - estimate.low, estimate.high - estimate.value
        axes.errorbar(
            estimate.value, row, xerr=[[low], [high]], color=INK, capsize=2, linewidth=0.9
        )
        end = estimate.high
    axes.text(
        end + 0.02 * largest,
        row,
        shown(estimate.value),
        va="center",
        fontsize=6.5,
        color=INK,
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.6},  # hides the grid behind it
    )


def shown(value: float) -> str:
    """Return a value in three digits, zeros included, or in as many as it has before the point."""
    return f"{value:,.0f}" if value >= 99.95 else f"{value:#.3g}"
