"""What the nodes did over time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from infsim.figures.style import INK, TEXT_IN, new_figure, style
from infsim.results.recorder import RunRecord
from infsim.results.timeline import node_spans

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Floats = NDArray[np.float64]

_BINS = 400
_LOADING = "#E69F00"
_IDLE, _BUSY = "#E8EEF4", "#0B4F8A"


def node_timeline(record: RunRecord, run: str = "") -> Figure:
    """Return one row per node: how busy it was, when it was down, when it loaded weights.

    Parameters
    ----------
    record : RunRecord
    run : str
        What the run is called in the figure.
    """
    from matplotlib.colors import LinearSegmentedColormap

    names = record.text(record.nodes["name"])
    edges = np.linspace(0, record.end_s or 1.0, _BINS + 1)
    row_in = 0.2 if len(names) <= 12 else max(0.09, 0.2 * 12 / len(names))
    with style():
        figure = new_figure(TEXT_IN, 0.8 + row_in * len(names))
        axes = figure.subplots()
        busy = np.stack([busy_share(record, node, edges) for node in record.nodes["node"]])
        colors = LinearSegmentedColormap.from_list("busy", (_IDLE, _BUSY))
        rows = np.arange(len(names) + 1) - 0.5
        axes.pcolormesh(edges, rows, busy, cmap=colors, vmin=0, vmax=1, rasterized=True)
        for span in node_spans(record):
            _span(axes, span.node, span.state == "down", span.start_s, span.end_s)
        axes.hlines(rows[1:-1], 0, edges[-1], color="white", linewidth=1.5)
        axes.set_xlim(0, edges[-1])
        axes.set_ylim(len(names) - 0.5, -0.5)
        axes.set_yticks(range(len(names)), names, fontsize=min(7.0, 60 * row_in))
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel(f"time (s) in {run}" if run else "time (s)")
        for side in axes.spines.values():
            side.set_visible(False)
        _legend(figure)
    return figure


def busy_share(record: RunRecord, node: int, edges: Floats) -> Floats:
    """Return the share of each time bin in which a node computed.

    Parameters
    ----------
    record : RunRecord
    node : int
    edges : (bins + 1,)
        Seconds, increasing.
    """
    own = record.segments["node"] == node
    starts, ends = record.segments["start_s"][own], record.segments["end_s"][own]
    done = _until(edges, np.sort(starts)) - _until(edges, np.sort(ends))
    return np.clip(np.diff(done) / np.diff(edges), 0, 1)


def _until(edges: Floats, times: Floats) -> Floats:
    """Return the sum of ``edge - time`` over the times before each edge."""
    count = np.searchsorted(times, edges)
    sums = np.concatenate(([0.0], np.cumsum(times)))
    return np.asarray(count * edges - sums[count])


def _span(axes: Axes, node: int, down: bool, start_s: float, end_s: float) -> None:
    from matplotlib.patches import Rectangle

    corner, size = (start_s, node - 0.5), end_s - start_s
    axes.add_patch(Rectangle(corner, size, 1, **_look(down)))


def _look(down: bool) -> dict[str, Any]:
    if down:
        return {"facecolor": "white", "edgecolor": "#999999", "hatch": "//////", "linewidth": 0}
    return {"facecolor": _LOADING, "linewidth": 0}


def _legend(figure: Figure) -> None:
    from matplotlib.patches import Patch

    figure.legend(
        handles=[
            Patch(facecolor=_BUSY, label="busy"),
            Patch(facecolor=_IDLE, label="idle"),
            Patch(label="loading weights", **_look(False)),
            Patch(label="down", **_look(True)),
        ],
        loc="outside upper right",
        ncols=4,
        frameon=False,
        labelcolor=INK,
    )
