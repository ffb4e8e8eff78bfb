"""Fits of profiles to traces that are unlike those that are shipped."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from infsim.errors import InputError
from infsim.rng import Streams
from infsim.workload.arrivals import Poisson
from infsim.workload.blocks import block, read_all
from infsim.workload.compare import compare
from infsim.workload.fit import fit_profile
from infsim.workload.lengths import Independent, Lognormal
from infsim.workload.merge import Merge
from infsim.workload.profile import load_profile, save_profile
from infsim.workload.rank_grid import Busy, arrivals_before
from infsim.workload.requests import Requests
from infsim.workload.synthetic import Synthetic
from infsim.workload.transform import Limit


def test_lengths_that_are_all_equal_do_not_drift() -> None:
    """Equal lengths were once ranked in order of arrival, which looked like a drift."""
    generator = np.random.default_rng(3)
    n = 10_000
    arrival_s = np.sort(generator.random(n)) * 3600
    requests = block(arrival_s, generator.integers(10, 5000, n), np.full(n, 100))
    assert sum(fit_profile(requests, segments=12).drift) < 0.01


def test_a_trace_that_is_idle_for_days() -> None:
    """Two half hours, three days apart: no piece of time has requests in both of its halves."""
    generator = np.random.default_rng(3)
    arrival_s = np.cumsum(generator.exponential(1, 3000))
    arrival_s[1500:] += 3 * 86400
    tokens = generator.lognormal(5, 1, (2, 3000)).astype(np.int64) + 1
    made = read_all(fit_profile(block(arrival_s, *tokens)).workload().blocks(Streams(0)))
    assert len(made) == 3000
    assert np.diff(made.arrival_s).max() == pytest.approx(3 * 86400, rel=0.03)
    assert np.median(np.diff(made.arrival_s)) == pytest.approx(np.log(2), rel=0.3)


class Bursts:
    """Bursts of 40 requests in 2 s, at random times."""

    def times(self, streams: Streams, block: int):  # type: ignore[no-untyped-def]
        generator = streams.stream("workload", "arrivals")
        starts = np.cumsum(generator.exponential(40, 200))
        yield np.sort((starts[:, None] + 2 * generator.random(40)).ravel())


def mixed() -> Requests:
    """Chats at a steady rate with long outputs, and bursts of requests with short ones."""
    chats = Synthetic(Poisson(1.0), Independent(Lognormal(500, 1), Lognormal(300, 0.5)))
    code = Synthetic(Bursts(), Independent(Lognormal(500, 1), Lognormal(20, 0.5)))
    return read_all(Limit(Merge([chats, code]), duration_s=7000).blocks(Streams(2)))


def test_services_with_unlike_bursts(tmp_path: Path) -> None:
    """Short outputs come in bursts; to know of it halves the excess of the wait, and more."""
    real = mixed()
    profile = fit_profile(real)
    assert profile.busy is not None
    assert 0.5 <= profile.busy.lag_s <= 5
    save_profile(profile, tmp_path / "mixed.yaml")
    loaded = load_profile(tmp_path / "mixed.yaml")
    assert loaded.busy == profile.busy
    cells = np.array(profile.cells).reshape(len(profile.busy.above), profile.busy.levels, -1)
    unaware = replace(profile, busy=None, cells=cells.sum(axis=1).tolist())
    waits = []
    for each in (loaded, unaware):
        rows = {row.name: row for row in compare(real, each.workload(), range(4), hits=False)}
        waits.append(rows["wait mean"].made - rows["wait mean"].real)
        assert rows["KS output_tokens"].made < 0.03
    assert 0 < waits[0] < 0.5 * waits[1]


def test_lengths_that_do_not_depend_on_bursts() -> None:
    arrival_s = next(Bursts().times(Streams(1), 0))
    generator = np.random.default_rng(1)
    tokens = generator.lognormal(5, 1, (2, len(arrival_s))).astype(np.int64) + 1
    assert fit_profile(block(arrival_s, *tokens)).busy is None


def test_arrivals_are_counted_across_blocks() -> None:
    times = np.sort(np.random.default_rng(0).random(500)) * 100
    whole = arrivals_before(times, 3.0, np.zeros(0))
    expected = [int(((times >= t - 3) & (times < t)).sum()) for t in times]
    assert whole.tolist() == expected
    late = arrivals_before(times[200:], 3.0, times[100:200])
    assert late.tolist() == expected[200:]


def test_blocks_do_not_change_who_is_busy() -> None:
    profile = fit_profile(mixed())
    whole = read_all(profile.workload().blocks(Streams(1)))
    plain = profile.workload()
    assert isinstance(plain, Synthetic)
    parts = read_all(Synthetic(plain.arrivals, plain.lengths, 100).blocks(Streams(1)))
    assert parts.output_tokens.tolist() == whole.output_tokens.tolist()


@pytest.mark.parametrize(
    ("lag_s", "above"), [(0.0, [[1]]), (1.0, []), (1.0, [[]]), (1.0, [[1], [1, 2]])]
)
def test_thresholds_that_make_no_sense(lag_s: float, above: list[list[int]]) -> None:
    with pytest.raises(InputError):
        Busy(lag_s, above)


@pytest.mark.parametrize(
    "arrival_s",
    [
        np.repeat([0.0, 100.0], 200),
        np.arange(400) * 0.5,
        np.concatenate([np.zeros(399), [1e7]]),
        np.repeat(np.arange(40) * 3.0, 10),
        np.sort(np.random.default_rng(1).pareto(0.3, 400)),
    ],
    ids=["two times", "equal gaps", "one late", "ticks", "heavy tail"],
)
def test_odd_arrivals_make_a_profile(arrival_s: np.ndarray) -> None:
    n = len(arrival_s)
    trace = block(arrival_s.astype(np.float64), np.arange(1, n + 1), np.full(n, 3))
    made = read_all(fit_profile(trace).workload().blocks(Streams(0)))
    assert len(made) == n
    assert made.arrival_s.max() <= (arrival_s[-1] - arrival_s[0]) * 1.2 + 1
