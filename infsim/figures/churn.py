"""What an availability trace looks like."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite
from typing import TYPE_CHECKING, Any

import numpy as np

from infsim.cluster.churn.statistics import (
    availability_of,
    durations_of,
    grid,
    online,
    zone_counts,
)
from infsim.cluster.churn.trace import ChurnTrace
from infsim.figures.style import TEXT_IN, line_style, new_figure, style, tidy

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DAY_S, HOUR_S = 86400.0, 3600.0
SHORTEST_H = 0.02  # axes of durations begin here
FEW = 30  # counts of so few nodes jump too much to be drawn as they are


def churn_figure(traces: Sequence[tuple[str, ChurnTrace]]) -> Figure:
    """Return nodes online over time, availability of nodes, lengths of uptimes and downtimes.

    Parameters
    ----------
    traces : sequence of (str, ChurnTrace)
        With the name of each; for the first, the correlation of its zones is shown if it has any.
    """
    zoned = len(traces[0][1].zones) > 1
    with style():
        figure = new_figure(TEXT_IN, 4.4)
        layout: list[Any] = [
            ["count"] * 3,
            ["availability", "durations", "zones" if zoned else "downtimes"],
        ]
        axes = figure.subplot_mosaic(layout)
        for i, (name, trace) in enumerate(traces):
            look = {**line_style(i), "label": name}
            _count(axes["count"], trace, look)
            _steps(axes["availability"], availability_of(trace), look)
            _survival(axes["durations"], trace, True, look)
            if "downtimes" in axes:
                _survival(axes["downtimes"], trace, False, look)
        axes["count"].set(xlabel="days", ylabel="nodes online", ylim=(0, None))
        axes["availability"].set(
            xlabel="availability of a node", ylabel="share of nodes", xlim=(0, 1), ylim=(0, 1)
        )
        axes["durations"].set(xlabel="uptime (hours)", ylabel="share that lasts longer")
        if zoned:
            _zones(axes["zones"], traces[0][1])
        else:
            axes["downtimes"].set(xlabel="downtime (hours)", ylabel="share that lasts longer")
        for name, ax in axes.items():
            if name != "zones":
                tidy(ax)
        if len(traces) > 1:
            axes["count"].legend(loc="lower right", ncols=len(traces))
    return figure


def _count(axes: Axes, trace: ChurnTrace, look: dict[str, object]) -> None:
    times = grid(trace.duration_s)
    counts = online(trace.nodes, times).astype(np.float64)
    if len(trace.nodes) < FEW:  # means over a hundredth of the time
        size = max(len(times) // 100, 1)
        kept = len(times) // size * size
        times, counts = (x[:kept].reshape(-1, size).mean(axis=1) for x in (times, counts))
    axes.plot(times / DAY_S, counts, **{**look, "linewidth": 0.9})  # type: ignore[arg-type]


def _steps(
    axes: Axes, values: np.ndarray[tuple[int], np.dtype[np.float64]], look: dict[str, object]
) -> None:
    shares = np.arange(1, len(values) + 1) / len(values)
    axes.step(np.sort(values), shares, where="post", **look)  # type: ignore[arg-type]


def _survival(axes: Axes, trace: ChurnTrace, up: bool, look: dict[str, object]) -> None:
    times, survival = durations_of(trace, up).survival()
    hours = np.concatenate([[SHORTEST_H], times / HOUR_S])
    axes.step(hours, np.concatenate([[1.0], survival]), where="post", **look)  # type: ignore[arg-type]
    axes.set(xscale="log", xlim=(SHORTEST_H, None), ylim=(0, 1))


def _zones(axes: Axes, trace: ChurnTrace) -> None:
    names, counts = zone_counts(trace)
    varies = counts.std(axis=1) > 0
    names, counts = tuple(np.array(names)[varies]), counts[varies]
    table = np.corrcoef(counts)
    axes.imshow(table, vmin=0, vmax=1, cmap="Blues")
    for i, row in enumerate(table):
        for j, value in enumerate(row):
            if i != j and isfinite(value):
                axes.text(
                    j,
                    i,
                    f"{value:.2f}".lstrip("0"),
                    ha="center",
                    va="center",
                    fontsize=5,
                    color="white" if value > 0.5 else "black",
                )
    ticks = range(len(names))
    axes.set_xticks(ticks, names, rotation=60, ha="right", rotation_mode="anchor", fontsize=5.5)
    axes.set_yticks(ticks, names, fontsize=5.5)
    axes.set_title("correlation of zones")
