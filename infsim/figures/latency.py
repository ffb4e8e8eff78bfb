"""Latency distributions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from infsim.figures.style import GRID, TEXT_IN, line_style, new_figure, style, tidy
from infsim.results.metrics import LATENCIES, has_tokens
from infsim.results.recorder import Columns

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Floats = NDArray[np.float64]

PANELS = {
    "ttft": "time to first token",
    "tpot": "time per output token",
    "e2e": "time to whole answer",
}

# Shares of requests at which the curves are drawn: denser toward the tail.
_SHARES = np.concatenate([np.linspace(0, 0.95, 191), np.linspace(0.9505, 1, 100)])


def latency_cdf(requests: Mapping[str, Sequence[Columns]]) -> Figure:
    """Return the distributions of TTFT, TPOT and E2E, one line per alternative.

    Parameters
    ----------
    requests : mapping of str to sequence of columns
        The measured requests of each replication, by alternative. The line is that of all
        replications together; the band is the range of the single ones.
    """
    with style():
        figure = new_figure(TEXT_IN, 2.3)
        panels = latency_panels(requests)
        axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
        draw_cdfs(list(axes), panels, requests)
        add_legend(figure, axes[0], len(requests))
    return figure


def latency_panels(requests: Mapping[str, Sequence[Columns]]) -> list[str]:
    """Return the panels that have data and differ; E2E alone if none has.

    Where each answer is a single token, its first one is the whole answer.
    """
    runs = [run for found in requests.values() for run in found]
    names = PANELS if any(map(has_tokens, runs)) else ("e2e",)
    filled = [name for name in names if any(len(v) for v in _pooled(requests, name).values())]
    return filled or ["e2e"]


def draw_cdfs(
    axes: Sequence[Axes], panels: Sequence[str], requests: Mapping[str, Sequence[Columns]]
) -> None:
    """Draw one panel per latency, side by side with a common vertical axis."""
    for panel, name in zip(axes, panels, strict=True):
        pooled = _pooled(requests, name)
        for index, (alternative, values) in enumerate(pooled.items()):
            if len(values) == 0:
                panel.plot([], [], label=alternative, **line_style(index))
                continue
            curve = np.quantile(values, _SHARES)
            panel.plot(curve, _SHARES, label=alternative, **line_style(index))
            _band(panel, requests[alternative], name, index)
        unit = _scale(panel, np.concatenate([*pooled.values(), np.empty(0)]))
        panel.set_xlabel(f"{PANELS[name]} ({unit})")
        panel.set_title(name.upper(), loc="left")
        panel.set_ylim(0, 1)
        panel.set_yticks([0, 0.25, 0.5, 0.75, 0.9, 1], ["0", "25 %", "50 %", "75 %", "90 %", ""])
        tidy(panel)
        panel.axhline(1, color=GRID, linewidth=0.5, zorder=0)
    axes[0].set_ylabel("share of requests")


def add_legend(figure: Figure, axes: Axes, alternatives: int) -> None:
    """Put the legend above everything, in as many columns as fit."""
    if alternatives < 2:
        return
    handles, labels = axes.get_legend_handles_labels()
    longest = max(map(len, labels))
    columns = max(1, min(alternatives, 100 // (longest + 8)))
    figure.legend(
        handles, labels, loc="outside upper center", ncols=columns, frameon=False, handlelength=2.6
    )


def _pooled(requests: Mapping[str, Sequence[Columns]], latency: str) -> dict[str, Floats]:
    return {
        alternative: np.concatenate([*(_values(run, latency) for run in runs), np.empty(0)])
        for alternative, runs in requests.items()
    }


def _values(run: Columns, latency: str) -> Floats:
    values = LATENCIES[latency](run)
    return values[~np.isnan(values)]


def _band(axes: Axes, runs: Sequence[Columns], latency: str, index: int) -> None:
    single = [values for run in runs if len(values := _values(run, latency))]
    if len(single) < 2:
        return
    curves = np.quantile(np.stack([np.quantile(v, _SHARES) for v in single]), [0, 1], axis=0)
    color = line_style(index)["color"]
    axes.fill_betweenx(_SHARES, curves[0], curves[1], color=color, alpha=0.15, linewidth=0)


def _scale(axes: Axes, values: Floats) -> str:
    """Return the unit chosen; values that span more than a decade get a logarithmic axis."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    if len(values) == 0:
        return "s"
    low, middle, high = np.quantile(values, [0.005, 0.5, 1])
    factor, unit = (1e3, "ms") if middle < 0.5 else (1.0, "s")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x * factor:g}"))
    if low <= 0 or high < 10 * low:
        axes.set_xlim(left=0)
        return unit
    axes.set_xscale("log")
    axes.set_xlim(low * 0.9, high * 1.1)
    few = np.log10(high / low) < 1.7
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if few else (1,)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x * factor:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    return unit
