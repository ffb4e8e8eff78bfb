"""Shipped profiles against the traces they were fitted to, in the terms of a queue."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from infsim.paths import data_folder
from infsim.rng import Streams
from infsim.workload.blocks import read_all, with_prefixes
from infsim.workload.compare import Row, compare
from infsim.workload.fit import fit_profile, spread_ticks
from infsim.workload.prefixes import hit_curve
from infsim.workload.profile import load_profile
from infsim.workload.readers import TraceFile, open_trace
from infsim.workload.readers.mooncake import read_mooncake
from infsim.workload.requests import Requests
from infsim.workload.statistics import dispersion, queue_wait, service
from tests.shared_data import shared

TRACES = {
    "azure-conv-like": "workload/azure-llm-2023/AzureLLMInferenceTrace_conv.csv",
    "azure-code-like": "workload/azure-llm-2023/AzureLLMInferenceTrace_code.csv",
    "mooncake-conv-like": "workload/mooncake-fast25/conversation_trace.jsonl",
}

LARGEST_ERROR = {"azure-conv-like": 0.08, "azure-code-like": 0.05, "mooncake-conv-like": 0.05}
"""Of the waits (mean, p95, p99): the mean relative error of the mean over the seeds."""


def real_trace(name: str) -> Requests:
    return read_all(open_trace(shared(TRACES[name])).blocks(Streams(0)))


def shipped(name: str) -> Path:
    return data_folder("traces") / f"{name}.yaml"


def test_the_conversation_trace_is_read_whole() -> None:
    requests = real_trace("azure-conv-like")
    assert len(requests) == 19_366
    assert requests.arrival_s[-1] == pytest.approx(3501.721937, abs=1e-6)
    assert requests.input_tokens.sum() == 22_361_870
    assert requests.output_tokens.sum() == 4_088_665


def test_mooncake_hashes_are_those_of_whole_blocks() -> None:
    requests = real_trace("mooncake-conv-like")
    assert len(requests) == 12_031
    assert requests.prefix_offsets is not None
    assert (np.diff(requests.prefix_offsets) == requests.input_tokens // 512).all()


def test_hits_of_an_lru_cache_are_those_that_were_published() -> None:
    """Mooncake conversation, with an infinite cache .366; the last, partial blocks count there."""
    path = shared(TRACES["mooncake-conv-like"])
    reader = partial(read_mooncake, partial_blocks=True)
    requests = read_all(TraceFile(path, reader).blocks(Streams(0)))
    sizes = [1000, 3000, 10_000, 30_000, 50_000, 100_000, None]
    published = [0.045, 0.065, 0.211, 0.326, 0.355, 0.364, 0.366]
    assert hit_curve(requests, sizes) == pytest.approx(published, abs=1e-3)


@pytest.mark.parametrize(
    ("name", "waits", "dispersion_1s"),
    [
        ("azure-conv-like", (4.5, 16, 34), 1.4),
        ("azure-code-like", (378, 671, 759), 13.2),
        ("mooncake-conv-like", (3.9, 14, 22), None),
    ],
)
def test_real_traces_wait_as_published(
    name: str, waits: tuple[float, ...], dispersion_1s: float | None
) -> None:
    requests = real_trace(name)
    arrival_s = spread_ticks(requests.arrival_s)
    assert queue_wait(arrival_s, service(requests)) == pytest.approx(waits, rel=0.035)
    if dispersion_1s is not None:
        assert dispersion(arrival_s, 1) == pytest.approx(dispersion_1s, abs=0.05)


@pytest.mark.parametrize("name", TRACES)
def test_shipped_profiles_keep_queueing(name: str) -> None:
    made = load_profile(shipped(name)).workload()
    rows = {row.name: row for row in compare(real_trace(name), made, range(25), hits=False)}
    waits = [rows[f"wait {part}"] for part in ("mean", "p95", "p99")]
    assert np.mean([error(row) for row in waits]) < LARGEST_ERROR[name]
    assert error(waits[0]) < 0.05
    # one trace is one draw: it should look like one of those that are made
    assert all(abs(row.made - row.real) < 2 * row.sd for row in waits)
    assert all(error(row) < 0.2 for row in rows.values() if row.name.startswith("dispersion"))
    assert rows["KS input_tokens"].made < 0.015
    assert rows["KS output_tokens"].made < 0.015
    assert error(rows["requests"]) == 0


@pytest.mark.parametrize("name", TRACES)
def test_errors_in_the_profile_are_those_it_has(name: str) -> None:
    profile = load_profile(shipped(name))
    for row in compare(real_trace(name), profile.workload(), range(8), hits=False):
        said = profile.errors[row.name]
        assert said["real"] == pytest.approx(row.real, rel=1e-3)
        # the profile tells the mean of more seeds
        error = 4 * said["sd"] / 8**0.5
        assert said["made"] == pytest.approx(row.made, rel=0.02, abs=0.02 + error)


def test_made_conversations_hit_a_cache_as_often_as_real_ones() -> None:
    """Mooncake conversation, rates that were published; partial blocks count there."""
    sizes = [1000, 10_000, 50_000, None]
    published = [0.045, 0.211, 0.355, 0.366]
    profile = load_profile(shipped("mooncake-conv-like"))
    made = []
    for seed in range(5):
        requests = read_all(profile.workload().blocks(Streams(seed)))
        made.append(hit_curve(with_partial_blocks(requests), sizes))
    assert np.mean(made, axis=0) == pytest.approx(published, abs=0.012)


def with_partial_blocks(requests: Requests) -> Requests:
    """Count the last, shorter block of each prompt; nobody else has it."""
    assert requests.prefix_offsets is not None
    assert requests.prefix_hashes is not None
    partial_block = requests.input_tokens % requests.prefix_block_tokens > 0
    at = requests.prefix_offsets[1:][partial_block]
    hashes = np.insert(requests.prefix_hashes, at, -1 - np.arange(len(at)))
    lengths = np.diff(requests.prefix_offsets) + partial_block
    return with_prefixes(requests, lengths, hashes, requests.prefix_block_tokens)


def test_what_the_parts_of_a_profile_are_for() -> None:
    """Without drift of lengths the conversation waits 20 times longer, without bursts less."""
    real = real_trace("azure-conv-like")
    profile = load_profile(shipped("azure-conv-like"))
    steady = replace(fit_profile(real, segments=1, apart=False), drift=())
    assert wait_of(compare(real, steady.workload(), range(3), hits=False)) > 50
    smooth = replace(profile, burstiness=(), drift=())
    assert wait_of(compare(real, smooth.workload(), range(3))) < 0.9 * 4.46


def error(row: Row) -> float:
    return abs(row.made - row.real) / row.real


def wait_of(rows: list[Row]) -> float:
    return next(row.made for row in rows if row.name == "wait mean")
