"""Figures show what they are given, in bytes that do not change."""

import math
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.patches import Rectangle

from infsim.errors import InputError
from infsim.figures import comparison, latency_cdf, node_timeline, save, throughput_bars
from infsim.figures.nodes import busy_share
from infsim.figures.style import TEXT_IN
from infsim.figures.throughput import shown
from infsim.results.recorder import Recorder
from infsim.results.runs import Run
from infsim.results.statistics import Estimate
from tests.records import queue, record, study

RUNS = [Run(name, r, queue(80, r, f)) for name, f in (("a", 1.0), ("b", 2.0)) for r in range(2)]
REQUESTS = {
    name: [run.record.requests for run in RUNS if run.alternative == name] for name in ("a", "b")
}
ESTIMATES = {
    name: {
        "throughput_tokens_per_s": Estimate(value, value - 1, value + 2),
        "throughput_requests_per_s": Estimate(value / 10),
        "goodput_requests_per_s": Estimate(math.nan),
    }
    for name, value in (("a", 10.0), ("b", 20.0))
}


def test_the_curves_are_the_distributions() -> None:
    axes = latency_cdf(REQUESTS).axes
    assert [panel.get_title(loc="left") for panel in axes] == ["TTFT", "TPOT", "E2E"]
    lines = axes[2].get_lines()[:2]
    for line, runs in zip(lines, REQUESTS.values(), strict=True):
        pooled = np.concatenate([run["end_s"] - run["arrival_s"] for run in runs])
        x, y = np.asarray(line.get_xdata()), np.asarray(line.get_ydata())
        assert np.all(np.diff(x) >= 0)
        assert x[-1] == pytest.approx(pooled.max())
        share = [(pooled <= value + 1e-12).mean() for value in x]
        assert np.abs(share - y).max() <= 1.01 / len(pooled)
    assert [line.get_label() for line in lines] == ["a", "b"]


def test_answers_of_a_single_token_have_one_latency() -> None:
    one = {"output_tokens": 1, "generated_tokens": 1}
    axes = latency_cdf({"a": [record([one, one]).requests]}).axes
    assert [panel.get_title(loc="left") for panel in axes] == ["E2E"]


def test_the_bars_are_the_estimates() -> None:
    panels = throughput_bars(ESTIMATES).axes
    assert [panel.get_title(loc="left") for panel in panels] == [
        "throughput, output tokens/s",
        "throughput, requests/s",  # and no goodput, which does not exist
    ]
    assert [bar.get_width() for bar in panels[0].patches if isinstance(bar, Rectangle)] == [
        10.0,
        20.0,
    ]
    assert panels[0].get_xlim()[0] == 0
    (interval,) = panels[0].containers[1][2]
    assert interval.get_segments()[0][:, 0].tolist() == [9.0, 12.0]
    assert len(panels[1].containers) == 1  # no interval without one


def test_the_shares_of_busy_time_are_exact() -> None:
    run = record(
        segments=[
            (0, 0, 1.0, 2.5, 1, 0, 1, 0),
            (0, 0, 2.5, 3.0, 1, 0, 1, 0),
            (1, 0, 0.0, 9.0, 1, 0, 1, 0),
        ]
    )
    assert busy_share(run, 0, np.arange(6.0)).tolist() == [0, 1, 1, 0, 0]
    assert busy_share(run, 0, np.array([0.0, 2.0, 4.0])).tolist() == [0.5, 0.5]


def test_the_node_timeline_has_a_row_per_node() -> None:
    run = record(nodes=({}, {"name": "far"}), incidents=[(2.0, 1, "down"), (4.0, 1, "up")])
    (axes,) = node_timeline(run).axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["node-0", "far"]
    outages = [(p.get_x(), p.get_width(), p.get_y()) for p in axes.patches]  # type: ignore[attr-defined]
    assert outages == [(2.0, 2.0, 0.5), (4.0, 6.0, 0.5)]


@pytest.mark.parametrize("suffix", ["pdf", "png", "svg"])
def test_the_bytes_are_reproducible(tmp_path: Path, suffix: str) -> None:
    for name in ("one", "two"):
        save(comparison(REQUESTS, ESTIMATES), tmp_path / f"{name}.{suffix}")
    raw = (tmp_path / f"one.{suffix}").read_bytes()
    assert raw == (tmp_path / f"two.{suffix}").read_bytes()
    assert raw.startswith({"pdf": b"%PDF", "png": b"\x89PNG", "svg": b"<?xml"}[suffix])
    for trace in (b"CreationDate", b"dc:date", b"Software", mpl.__version__.encode()):
        assert trace not in raw


def test_nothing_global_is_touched(tmp_path: Path) -> None:
    before = dict(mpl.rcParams)
    save(latency_cdf(REQUESTS), tmp_path / "x.svg")
    assert dict(mpl.rcParams) == before


def test_the_width_is_that_of_a_paper() -> None:
    assert comparison(REQUESTS, ESTIMATES).get_size_inches()[0] == TEXT_IN


def test_an_unknown_format_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no figure format 'pgn'; did you mean 'png'"):
        save(latency_cdf(REQUESTS), tmp_path / "x.pgn")


def test_a_study_without_data_still_has_a_figure(tmp_path: Path) -> None:
    empty = study([Run("a", 0, Recorder().finish(0.0))])
    for name, figure in empty.figures().items():
        save(figure, tmp_path / f"{name}.svg")
    assert [file.name for file in tmp_path.iterdir()] == ["comparison.svg"]


def test_churn_adds_the_timeline_of_the_nodes() -> None:
    run = record(nodes=({"failures": 1},), incidents=[(2.0, 0, "down"), (4.0, 0, "up")])
    assert list(study([Run("a", 0, run)]).figures()) == ["comparison", "nodes"]


def test_the_node_timeline_says_what_it_shows() -> None:
    (axes,) = node_timeline(queue(20), "the first run of a").axes
    assert axes.get_xlabel() == "time (s) in the first run of a"


@pytest.mark.parametrize(
    ("value", "text"),
    [(9.0, "9.00"), (0.059, "0.0590"), (12.04, "12.0"), (99.97, "100"), (2289.4, "2,289")],
)
def test_bars_are_labelled_alike(value: float, text: str) -> None:
    assert shown(value) == text
