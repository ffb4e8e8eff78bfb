"""The figure of residuals shows every request, and the errors of the quantiles."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from infsim.figures import residuals, save

LATENCIES = ("TTFT", "TPOT", "E2E")
REAL = {name: np.random.default_rng(1).gamma(2, 0.1, 200) for name in LATENCIES}
HALF_SLOWER = {name: 1.5 * values for name, values in REAL.items()}
# no TPOT of a single token, and a time that is not there on a logarithmic axis
GAPS = REAL | {"TPOT": np.where(np.arange(200) % 2, np.nan, REAL["TPOT"])}


def test_every_request_is_a_point_and_every_quantile_an_error() -> None:
    axes = residuals({"same": (REAL, REAL), "slow": (REAL, HALF_SLOWER)}).axes
    assert [panel.get_title(loc="left") for panel in axes[:3]] == list(LATENCIES)
    for above, below, name in zip(axes[:3], axes[3:], LATENCIES, strict=True):
        same, slow, diagonal = above.get_lines()
        for line, factor in ((same, 1.0), (slow, 1.5)):
            assert np.array_equal(line.get_xdata(), REAL[name])
            assert np.array_equal(line.get_ydata(), factor * REAL[name])
        assert np.array_equal(diagonal.get_xdata(), diagonal.get_ydata())
        assert above.get_xlim() == above.get_ylim()
        assert all(
            above.get_xlim()[0] <= tick <= above.get_xlim()[1] for tick in above.get_xticks()
        )
        _, same, slow = below.get_lines()
        assert np.asarray(same.get_ydata()) == pytest.approx(0.0)
        assert np.asarray(slow.get_ydata()) == pytest.approx(0.5)
        assert below.get_ylim()[1] == -below.get_ylim()[0] > 0.5


def test_requests_without_a_time_are_left_out() -> None:
    points = residuals({"": (GAPS, GAPS)}).axes[1].get_lines()[0]
    assert len(np.asarray(points.get_xdata())) == 100


@pytest.mark.parametrize("count", [0, 1, 2])
def test_few_requests_are_drawn(tmp_path: Path, count: int) -> None:
    few = {name: values[:count] for name, values in REAL.items()}
    file = tmp_path / "few.png"
    save(residuals({"": (few, few)}), file)
    assert file.stat().st_size > 1000


def test_the_same_figure_has_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a.pdf", "b.pdf"):
        save(residuals({"run": (REAL, HALF_SLOWER)}), tmp_path / name)
    assert (tmp_path / "a.pdf").read_bytes() == (tmp_path / "b.pdf").read_bytes()
