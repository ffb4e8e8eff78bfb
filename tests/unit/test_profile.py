"""Profiles as files: what is written is read, damage is named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from infsim.errors import InputError
from infsim.paths import data_folder
from infsim.rng import Streams
from infsim.workload.blocks import block, read_all
from infsim.workload.compare import best_profile, compare
from infsim.workload.fit import fit_profile
from infsim.workload.profile import load_profile, save_profile
from infsim.workload.readers import open_trace
from infsim.workload.requests import Requests
from infsim.workload.transform import Limit

SHIPPED = sorted(data_folder("traces").glob("*.yaml"))


def trace(n: int = 4000) -> Requests:
    generator = np.random.default_rng(4)
    lengths = generator.lognormal(4, 1, (2, n)).astype(np.int64) + 1
    return block(np.sort(generator.random(n)) * 1000, *lengths)


def test_a_saved_profile_makes_the_same_requests(tmp_path: Path) -> None:
    profile = fit_profile(trace(), source={"trace": "made: up", "licence": "none"})
    save_profile(profile, tmp_path / "p.yaml")
    loaded = load_profile(tmp_path / "p.yaml")
    assert loaded.source == profile.source
    assert loaded.counts == profile.counts
    made, expected = (read_all(p.workload().blocks(Streams(1))) for p in (loaded, profile))
    assert made.arrival_s == pytest.approx(expected.arrival_s, rel=1e-5)
    # six digits are kept, which may move a length by one
    assert np.abs(made.input_tokens - expected.input_tokens).max() <= 1
    assert np.abs(made.output_tokens - expected.output_tokens).max() <= 1
    save_profile(loaded, tmp_path / "again.yaml")
    assert (tmp_path / "again.yaml").read_text() == (tmp_path / "p.yaml").read_text()


def test_the_best_profile_knows_its_errors() -> None:
    real = trace()
    profile = best_profile(real, windows=(10, 20), seeds=range(4))
    rows = {row.name: row for row in compare(real, profile.workload(), range(4))}
    assert profile.errors["seeds"] == 4
    assert profile.errors["wait mean"]["made"] == rows["wait mean"].made
    assert profile.errors["wait mean"]["real"] == rows["wait mean"].real
    assert len(profile.counts) in (10, 20)


def test_a_profile_goes_round_and_is_drawn_anew(tmp_path: Path) -> None:
    profile = fit_profile(trace())
    twice = read_all(profile.workload(cycles=2).blocks(Streams(1)))
    assert len(twice) == 2 * 4000
    second = twice.arrival_s >= profile.duration_s
    assert second.sum() == 4000
    assert not np.isin(twice.arrival_s[second] - profile.duration_s, twice.arrival_s).any()
    endless = Limit(profile.workload(cycles=None), requests=10_000)
    assert len(read_all(endless.blocks(Streams(1)))) == 10_000


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_profiles_are_small_and_say_where_they_come_from(path: Path) -> None:
    profile = load_profile(path)
    assert path.stat().st_size < 12_000
    assert {"trace", "url", "licence", "attribution", "sha256"} <= set(profile.source)
    assert profile.errors["seeds"] >= 20
    made = read_all(Limit(profile.workload(), requests=500).blocks(Streams(0)))
    assert len(made) == 500


def test_the_shipped_sample_is_read() -> None:
    sample = read_all(open_trace(data_folder("traces") / "sample.csv").blocks(Streams(0)))
    assert len(sample) == 300


def test_too_few_requests_make_no_profile() -> None:
    with pytest.raises(InputError, match="99 requests are too few"):
        fit_profile(trace(99))
    together = block(np.ones(200), *np.ones((2, 200), dtype=np.int64))
    with pytest.raises(InputError, match="all requests arrive at once"):
        fit_profile(together)


@pytest.mark.parametrize(
    ("old", "new", "parts"),
    [
        ("kind: trace-profile", "kind: trace", ["kind: trace-profile"]),
        ("version: 2", "version: 7", ["version is 7"]),
        ("burstiness:", "burstines:", ["'burstines'", "did you mean 'burstiness'"]),
        ("dependence:", "dependance:", ["'dependance'", "did you mean 'dependence'"]),
        ("window_s: ", "window_s: -", ["window"]),
        ("burstiness:\n  - [", "burstiness:\n  - [0, ", ["burstiness", "6 numbers"]),
        ("counts: [", "counts: [many, ", ["arrivals.counts", "'many' is not a number"]),
        ("counts: [", "counts: [true, ", ["arrivals.counts", "True is not a number"]),
        ("levels: [0,", "levels: [0.001,", ["from 0 to 1"]),
        ("drift: [", "drift: [1.5, ", ["drift"]),
        ("arrivals:", "arrivals: [1", ["cannot read the profile"]),
    ],
)
def test_damaged_profiles_are_refused(tmp_path: Path, old: str, new: str, parts: list[str]) -> None:
    text = (data_folder("traces") / "azure-conv-like.yaml").read_text()
    assert old in text
    path = tmp_path / "damaged.yaml"
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(InputError) as error:
        load_profile(path)
    assert "damaged.yaml" in str(error.value)
    for part in parts:
        assert part in str(error.value)


@pytest.mark.parametrize("text", ["", "[]", "3", "\x00", "kind: trace-profile\nversion: 2\n"])
def test_other_files_are_no_profiles(tmp_path: Path, text: str) -> None:
    path = tmp_path / "other.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=r"other\.yaml"):
        load_profile(path)
    with pytest.raises(InputError, match="cannot read"):
        load_profile(tmp_path / "absent.yaml")
