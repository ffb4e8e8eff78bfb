"""A comparison in one figure: how long requests take, and how much is served."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from infsim.figures.latency import add_legend, draw_cdfs, latency_panels
from infsim.figures.style import TEXT_IN, new_figure, style
from infsim.figures.throughput import Estimates, bars_height_in, draw_bars, throughput_panels
from infsim.results.recorder import Columns

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def comparison(requests: Mapping[str, Sequence[Columns]], estimates: Estimates) -> Figure:
    """Return latency distributions above, throughput bars with intervals below.

    Parameters
    ----------
    requests : mapping of str to sequence of columns
        As for `infsim.figures.latency_cdf`.
    estimates : mapping of str to mapping of str to Estimate
        As for `infsim.figures.throughput_bars`.
    """
    cdfs, bars = latency_panels(requests), throughput_panels(estimates)
    low = bars_height_in(len(estimates))
    with style():
        figure = new_figure(TEXT_IN, 2.3 + low)
        grid = figure.add_gridspec(2, 1, height_ratios=(2.2, low))
        upper = grid[0].subgridspec(1, len(cdfs)).subplots(sharey=True, squeeze=False)[0]
        lower = grid[1].subgridspec(1, len(bars)).subplots(sharey=True, squeeze=False)[0]
        draw_cdfs(list(upper), cdfs, requests)
        draw_bars(list(lower), bars, estimates)
        add_legend(figure, upper[0], len(requests))
    return figure
