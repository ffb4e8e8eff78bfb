"""Readers of availability traces: what they read, and what they refuse, with its place."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from infsim.cluster.churn.readers import read_avt, read_churn, read_spot
from infsim.cluster.outages import read_outages
from infsim.errors import InputError
from infsim.rng import Streams
from tests.shared_data import shared

fuzzed = settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def written(folder: Path, text: str | bytes, name: str = "trace.avt") -> Path:
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def test_files_of_unlike_formats_are_not_one_observation(tmp_path: Path) -> None:
    peers = written(tmp_path, "a 1 0 10\n", "peers.avt")
    zone = written(tmp_path, '{"metadata": {"gap_seconds": 60}, "data": [1, 0]}', "zone.json")
    with pytest.raises(
        InputError, match=r"zone\.json' is of the format spot, .*peers\.avt' of avt"
    ):
        read_churn([peers, zone])


def test_avt(tmp_path: Path) -> None:
    trace = read_avt(written(tmp_path, "a\t2\t 0 10 30 40\n\nb 1 5 25.5\nc 2 1 2 2 3\nd 0\n"))
    assert [(node.name, node.up.tolist()) for node in trace.nodes] == [
        ("a", [[0, 10], [30, 40]]),
        ("b", [[5, 25.5]]),
        ("c", [[1, 3]]),  # uptimes that touch are one
        ("d", []),
    ]
    assert trace.duration_s == 40
    assert read_avt(tmp_path / "trace.avt", duration_s=50).duration_s == 50


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a 2 0 10\n", "trace.avt:1: 'a' announces 2 uptimes, that is 4 times, and has 2"),
        ("b 1 0 1\na x 0 10\n", "trace.avt:2: 'x' is no number of uptimes"),
        ("a\n", "trace.avt:1: '' is no number of uptimes"),
        ("a 1 0 ten\n", "trace.avt:1: 'ten' is no time in seconds"),
        ("a 1 -1 10\n", "trace.avt:1: '-1' is no time in seconds"),
        ("a 1 0 nan\n", "'nan' is no time"),
        ("a 1 0 inf\n", "'inf' is no time"),
        ("a 1 0 1_0\n", "'1_0' is no time"),
        ("a 1 20 10\n", "trace.avt:1: time 10 s comes after 20 s"),
        ("a 2 0 10 5 20\n", "time 5 s comes after 10 s"),
        ("a 1 10 10\n", "uptime from 10 s to 10 s is empty"),
        ("a 1 0 10\na 1 0 10\n", "trace.avt:2: node 'a' has a line already"),
        ("", "trace.avt: no uptime in it"),
        ("a 0\n", "no uptime in it"),
        (b"a 1 0 10\n\xff\xfe", "not UTF-8"),
        ("a " + "1" * 5000, "is no number of uptimes"),
    ],
)
def test_damaged_avt_is_refused(tmp_path: Path, text: str | bytes, said: str) -> None:
    with pytest.raises(InputError) as error:
        read_avt(written(tmp_path, text))
    assert said in str(error.value)


def test_uptimes_after_the_end_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"trace.avt:1: up until 40 s, after the end \(30 s\)"):
        read_avt(written(tmp_path, "a 1 0 40\n"), duration_s=30)


def spot(folder: Path, data: Any, gap: Any = 100, name: str = "us-east-1a_v100_1.json") -> Path:
    text = json.dumps({"metadata": {"gap_seconds": gap}, "data": data, "prices": []})
    return written(folder, text, name)


def test_spot_counts_become_nodes(tmp_path: Path) -> None:
    trace = read_spot(spot(tmp_path, [0, 2, 2, 1, 0, 1]))
    assert [(node.name, node.up.tolist()) for node in trace.nodes] == [
        ("us-east-1a-0", [[100, 400], [500, 600]]),
        ("us-east-1a-1", [[100, 300]]),
    ]
    assert {(node.zone, node.region) for node in trace.nodes} == {("us-east-1a", "us-east-1")}
    assert trace.duration_s == 600


@pytest.mark.parametrize(
    ("zone", "region"),
    [
        ("us-central1-c_c3-88.json", "us-central1"),
        ("eu-north-1b_x.json", "eu-north-1"),
        ("lab.json", "lab"),
    ],
)
def test_regions_are_in_the_names_of_zones(tmp_path: Path, zone: str, region: str) -> None:
    assert read_spot(spot(tmp_path, [1, 0], name=zone)).nodes[0].region == region


@given(st.lists(st.integers(0, 5), min_size=1, max_size=40))
@fuzzed
def test_nodes_of_a_zone_add_up_to_its_counts(tmp_path: Path, counts: list[int]) -> None:
    trace = read_spot(spot(tmp_path, counts))
    times = np.arange(len(counts)) * 100 + 50
    up = [sum(a <= t < b for node in trace.nodes for a, b in node.up) for t in times]
    assert up == counts


@pytest.mark.parametrize(
    ("data", "gap", "said"),
    [
        ([1, -1], 100, "data[1]: -1 is no number of nodes"),
        ([1, 0.5], 100, "data[1]: 0.5 is no number of nodes"),
        ([True], 100, "data[0]: True is no number"),
        ([10**9], 100, "no number of nodes"),
        ([], 100, "'data' is not a list of numbers of nodes"),
        ("x", 100, "'data' is not a list"),
        ([1], 0, "metadata.gap_seconds is 0"),
        ([1], "5", "metadata.gap_seconds is '5'"),
        ([1], None, "metadata.gap_seconds is None"),
    ],
)
def test_damaged_spot_is_refused(tmp_path: Path, data: Any, gap: Any, said: str) -> None:
    with pytest.raises(InputError) as error:
        read_spot(spot(tmp_path, data, gap))
    assert "us-east-1a_v100_1.json: " in str(error.value)
    assert said in str(error.value)


def test_a_truncated_json_is_refused_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"z.json:2: no JSON"):
        read_spot(written(tmp_path, '{"metadata":\n {"gap', "z.json"))
    for text in ("[" * 100_000, '{"data": ' + "1" * 5000 + "}"):
        with pytest.raises(InputError, match=r"z\.json: no JSON"):
            read_spot(written(tmp_path, text, "z.json"))


@given(st.binary(max_size=80))
@fuzzed
def test_readers_never_crash(tmp_path: Path, noise: bytes) -> None:
    good = b"a 2 0 10 30 40\nb 1 5 25\n"
    for text in (noise, good[: len(noise)] + noise, good + noise):
        for name in ("noise.avt", "noise.json"):
            try:
                trace = read_churn([written(tmp_path, text, name)])
            except InputError as error:
                assert name in str(error)  # noqa: PT017
            else:
                edges = [edge for node in trace.nodes for edge in node.up.ravel()]
                assert all(0 <= edge <= trace.duration_s for edge in edges)


def test_several_files_are_one_observation(tmp_path: Path) -> None:
    one = spot(tmp_path, [1, 1, 0, 1])
    other = spot(tmp_path, [0, 1], gap=150, name="us-east-1b_v100_1.json")
    trace = read_churn([one, other])
    assert trace.duration_s == 300  # that of the shortest
    assert trace.zones == ("us-east-1a", "us-east-1b")
    assert [node.up.tolist() for node in trace.nodes] == [[[0, 200]], [[150, 300]]]
    with pytest.raises(InputError, match="node 'us-east-1a-0' is in two traces"):
        read_churn([one, one])


def test_unknown_formats(tmp_path: Path) -> None:
    path = written(tmp_path, "a 1 0 1", "trace.txt")
    with pytest.raises(InputError, match=r"cannot tell the format of .*avt \(.avt\)"):
        read_churn([path])
    assert read_churn([path], "avt").duration_s == 1
    with pytest.raises(InputError, match="unknown format 'atv'; did you mean 'avt'"):
        read_churn([path], "atv")
    with pytest.raises(InputError, match="cannot read it: No such file"):
        read_churn([tmp_path / "none.avt"])
    with pytest.raises(InputError, match="no trace given"):
        read_churn([])


# --- our own CSV ----------------------------------------------------------------------------


def test_outages_with_notice(tmp_path: Path) -> None:
    path = written(tmp_path, "node,down_s,up_s,notice_s\na,1,2,\nb,3,,120\na,5,6,0.5\n", "o.csv")
    found = read_outages(path)
    assert list(found["a"].outages(Streams(0), "a")) == [(1, 2, 0), (5, 6, 0.5)]
    assert list(found["b"].outages(Streams(0), "b")) == [(3, float("inf"), 120)]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("node,down_s,up_s,notice\n", "column 'notice' instead of 'notice_s'; did you mean"),
        ("node,down_s,up_s,notice_s,x\n", "unknown column 'x'"),
        ("node,down_s,up_s,notice_s\na,1,2\n", "3 values instead of 4"),
        ("node,down_s,up_s,notice_s\na,1,2,-1\n", "o.csv:2: notice of -1 s is no time"),
        ("node,down_s,up_s,notice_s\na,1,2,inf\n", "notice of inf s is no time"),
        ("node,down_s,up_s,notice_s\na,1,2,x\n", "not numbers of seconds: '1', '2', 'x'"),
        ("node,down_s\n", "column '' instead of 'up_s'"),
    ],
)
def test_damaged_outages_are_refused(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(InputError) as error:
        read_outages(written(tmp_path, text, "o.csv"))
    assert said in str(error.value)


# --- public data ----------------------------------------------------------------------------


def test_the_skype_trace() -> None:
    trace = read_churn([shared("churn/skype/SKYPE.avt")])
    assert len(trace.nodes) == 2081
    assert trace.duration_s == 2_478_200
    assert sum(len(node.up) for node in trace.nodes) == 29_217


def test_the_spot_traces() -> None:
    folder = shared("churn/skypilot-spot")
    trace = read_churn(sorted((folder / "aws-02-15-2023").glob("*.json")))
    assert len(trace.zones) == 9
    assert trace.duration_s == 20_158 * 195
    preempted = read_churn(sorted((folder / "preempt-aws-04-22-2023").glob("*.json")))
    assert preempted.zones == ("us-east-1c", "us-east-1f", "us-west-2b", "us-west-2c")
