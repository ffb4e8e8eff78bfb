"""Recorded against simulated latencies: every request, and the quantiles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from infsim.figures.style import GRID, INK, TEXT_IN, line_style, new_figure, style, tidy

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Floats = NDArray[np.float64]
Pairs = Mapping[str, tuple[Floats, Floats]]
"""Recorded and simulated seconds of the same requests, by part of a run."""

BAND = 0.05
"""Relative error that is shaded, for the eye."""

_QUANTILES = np.linspace(0.01, 0.99, 99)


def residuals(
    parts: Mapping[str, tuple[Mapping[str, Floats], Mapping[str, Floats]]],
) -> Figure:
    """Return the figure of a recorded run: a column for each latency.

    Above, each request, simulated against recorded; on the diagonal both are the same. Below,
    the relative error of each quantile of the distribution, with a band of 5 %.

    Parameters
    ----------
    parts : mapping of str to (recorded, simulated)
        By name of the part, which the legend tells if there are several; the latencies of its
        requests in seconds by name, in the same order. No number where a request has none.
    """
    latencies = list(dict.fromkeys(name for real, _ in parts.values() for name in real))
    with style():
        figure = new_figure(TEXT_IN, 4.4)
        axes = figure.subplots(2, len(latencies), squeeze=False, height_ratios=(1.6, 1))
        for (above, below), name in zip(axes.T, latencies, strict=True):
            pairs = {part: _known(real[name], made[name]) for part, (real, made) in parts.items()}
            above.set_title(name, loc="left")
            _draw_requests(above, pairs)
            _draw_quantiles(below, pairs)
        axes[0][0].set_ylabel("simulated")
        axes[1][0].set_ylabel("error of the quantile")
        _share_errors(list(axes[1]))
        if len(parts) > 1:
            handles, labels = axes[1][0].get_legend_handles_labels()
            figure.legend(
                handles, labels, loc="outside upper center", ncols=len(parts), frameon=False
            )
    return figure


def _known(real: Floats, made: Floats) -> tuple[Floats, Floats]:
    known = ~np.isnan(real) & ~np.isnan(made) & (real > 0) & (made > 0)
    return real[known], made[known]


def _draw_requests(axes: Axes, pairs: Pairs) -> None:
    every = np.concatenate([np.empty(0), *(np.concatenate(pair) for pair in pairs.values())])
    size = 2 if len(every) > 500 else 3.5
    for index, (real, made) in enumerate(pairs.values()):
        axes.plot(
            real,
            made,
            linestyle="",
            marker="o",
            markersize=size,
            markeredgewidth=0,
            alpha=0.5,
            color=line_style(index)["color"],
            rasterized=True,  # thousands of marks would be megabytes
        )
    if len(every):
        low, high = every.min() * 0.9, every.max() * 1.1
        axes.plot([low, high], [low, high], color=INK, linewidth=0.7, zorder=1)
        axes.set_xlim(low, high)
        axes.set_ylim(low, high)
        axes.set_xscale("log")
        axes.set_yscale("log")
        _label_times(axes, low, high)
    axes.set_box_aspect(1)
    tidy(axes)


def _label_times(axes: Axes, low: float, high: float) -> None:
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter

    unit, factor = ("ms", 1e3) if np.sqrt(low * high) < 0.5 else ("s", 1.0)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(FixedLocator(_ticks(low, high)))
        axis.set_major_formatter(FuncFormatter(lambda x, _: f"{x * factor:g}"))
        axis.set_minor_formatter(NullFormatter())
    axes.set_xlabel(f"recorded ({unit})")


def _ticks(low: float, high: float) -> list[float]:
    """Return round numbers in a range: powers of ten, or more where it has less than three."""
    decades = 10.0 ** np.arange(np.floor(np.log10(low)), np.ceil(np.log10(high)) + 1)
    found: list[float] = []
    for digits in ((1,), (1, 2, 5), (1, 1.5, 2, 3, 5, 7)):
        found = [float(x) for x in np.outer(decades, digits).ravel() if low <= x <= high]
        if len(found) > 2:
            break
    return found


def _draw_quantiles(axes: Axes, pairs: Pairs) -> None:
    axes.axhspan(-BAND, BAND, color=GRID, alpha=0.6, linewidth=0)
    axes.axhline(0, color=INK, linewidth=0.7, zorder=1)
    for index, (part, (real, made)) in enumerate(pairs.items()):
        if not len(real):
            axes.plot([], [], label=part, **line_style(index))
            continue
        error = np.quantile(made, _QUANTILES) / np.quantile(real, _QUANTILES) - 1
        axes.plot(_QUANTILES, error, label=part, **line_style(index))
    axes.set_xlim(0, 1)
    axes.set_xticks([0, 0.5, 0.9], ["0", "50 %", "90 %"])
    axes.set_xlabel("share of requests below")
    tidy(axes)


def _share_errors(axes: Sequence[Axes]) -> None:
    """Give all panels the same symmetric axis of errors."""
    from matplotlib.ticker import FuncFormatter

    drawn = np.concatenate([line.get_ydata() for panel in axes for line in panel.get_lines()])
    most = max(1.5 * BAND, 1.1 * float(np.abs(np.asarray(drawn, dtype=float)).max(initial=0)))
    for panel in axes:
        panel.set_ylim(-most, most)
        panel.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{100 * y:g} %"))
