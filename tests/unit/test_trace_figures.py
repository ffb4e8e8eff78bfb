"""Figures of traces show the statistics that they are given."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes

from infsim.figures.traces import save_traces, trace_figure
from infsim.rng import Streams
from infsim.workload.arrivals import Gamma, Poisson
from infsim.workload.blocks import block
from infsim.workload.lengths import Independent, Lognormal
from infsim.workload.sessions import Sessions
from infsim.workload.summary import Summary, summarize
from infsim.workload.synthetic import Synthetic
from infsim.workload.transform import Limit
from tests.unit.test_summary import Given

LENGTHS = Independent(Lognormal(800, 1.2, high=9000), Lognormal(150, 1))


def summary_of(seed: int = 0, cv: float = 3.0) -> Summary:
    return summarize(Limit(Synthetic(Gamma(4.0, cv), LENGTHS), requests=3000), Streams(seed))


def panel(axes: list[Axes], title: str) -> Axes:
    return next(each for each in axes if each.get_title(loc="left") == title)


def test_the_lines_are_the_statistics() -> None:
    summaries = {"one": summary_of(), "two": summary_of(1, cv=1.0)}
    axes = trace_figure(summaries).axes
    assert [each.get_title(loc="left") for each in axes] == [
        "Rate", "Gaps", "Burstiness", "Autocorrelation", "Prompts", "Outputs",
    ]  # fmt: skip
    for index, summary in enumerate(summaries.values()):
        dispersion = panel(axes, "Burstiness").get_lines()[index]
        x, y = dispersion.get_data()
        shown = dict(zip(np.asarray(x).tolist(), np.asarray(y).tolist(), strict=True))
        expected = {s: v for s, v in summary.dispersion.items() if 5 * s <= summary.duration_s}
        assert shown == pytest.approx(expected)
        x, y = panel(axes, "Prompts").get_lines()[index].get_data()
        lengths = summary.input_tokens
        assert np.asarray(x)[-1] == lengths.largest
        at_median = np.asarray(y)[np.searchsorted(np.asarray(x), lengths.quantiles[0.5])]
        assert at_median == pytest.approx(0.5, abs=0.01)
        gaps, above = (np.asarray(v) for v in panel(axes, "Gaps").get_lines()[index].get_data())
        # exponential gaps in the second trace: half of them above the median
        if index == 1:
            median_s = np.log(2) / summary.rate_per_s
            assert above[np.searchsorted(gaps, median_s)] == pytest.approx(0.5, abs=0.03)
    counts = panel(axes, "Rate").patches
    assert len(counts) == 2


def test_dialogues_have_a_panel_of_prefixes() -> None:
    sessions = Sessions(Poisson(1.0), LENGTHS, prefix_block_tokens=64)
    summary = summarize(Limit(sessions, requests=500), Streams(0))
    axes = panel(trace_figure({"one": summary}).axes, "Prefix reuse")
    assert summary.prefixes is not None
    hits = summary.prefixes.hits
    assert np.asarray(axes.get_lines()[0].get_ydata()).tolist() == list(hits.values())[:-1]
    # the infinite cache is a line across
    assert np.asarray(axes.get_lines()[1].get_ydata()).tolist() == [hits[None]] * 2


@pytest.mark.parametrize(
    "times", [[0.0], [2.0, 2.0], [0.0, 1.0], list(range(100)), [0.0, 1e9], [0.0] * 99 + [0.001]]
)
def test_odd_traces_are_drawn_without_a_warning(times: list[float]) -> None:
    ones = np.ones(len(times), dtype=np.int64)
    summary = summarize(Given(block(np.array(times, dtype=float), ones, ones)), Streams(0))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        trace_figure({"odd": summary}).draw_without_rendering()


def test_the_same_bytes_again(tmp_path: Path) -> None:
    summary = summary_of()
    for name in ("a.pdf", "b.pdf"):
        save_traces({"one": summary}, tmp_path / name)
    assert (tmp_path / "a.pdf").read_bytes() == (tmp_path / "b.pdf").read_bytes()
