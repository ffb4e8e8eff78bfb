"""Nodes that come and go, as scenarios describe them."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from infsim.cluster.availability import Announced, Availability, Joint, Outage, Population, Shared
from infsim.errors import InputError
from infsim.rng import Streams
from infsim.scenario.build import build_experiment
from infsim.scenario.load import load

HOUR = 3600.0


def some(availability: Availability, count: int = 40, node: str = "n") -> list[Outage]:
    return list(islice(availability.outages(Streams(0), node), count))


def cluster_of(availability: Any, **group: Any) -> list[Any]:
    gpu = {"name": "gpu", "count": 3, "device": "a100-80gb", "availability": availability} | group
    loaded = load(
        {
            "name": "small",
            "model": "llama-3.1-8b",
            "cluster": {"nodes": [gpu, gpu | {"name": "other"}]},
            "workload": {
                "arrivals": {"rate": "3 /s"},
                "lengths": {"input": 512, "output": 100},
                "requests": 20,
            },
        }
    )
    nodes = build_experiment(loaded, loaded.alternatives()[0], 0).cluster.nodes
    return [n.availability for n in nodes]


def test_a_scenario_names_a_profile() -> None:
    skype = cluster_of("skype-like")
    assert all(isinstance(one, Population) for one in skype)
    assert skype[0].rhythm.name == "skype-like"
    assert skype[0].rhythm.start_s is None
    timed = cluster_of({"profile": "skype-like", "start": "8 h", "notice": "2 min"})
    assert isinstance(timed[0], Announced)
    assert timed[0].notice_s == 120
    inner = timed[0].availability
    assert isinstance(inner, Population)
    assert inner.rhythm.start_s == 8 * HOUR


def test_zones_of_a_profile_are_groups_unless_said() -> None:
    spot = cluster_of("spot-v100-like")
    assert [one.zone for one in spot] == ["gpu"] * 3 + ["other"] * 3
    assert some(spot[0], node="gpu-0") == some(spot[2], node="gpu-2")
    assert some(spot[0]) != some(spot[3])
    same = cluster_of({"profile": "spot-v100-like", "zone": "a"})
    assert some(same[0]) == some(same[3])


def test_a_scenario_names_an_observed_trace(tmp_path: Path) -> None:
    path = tmp_path / "peers.avt"
    path.write_text("a 1 0 10\nb 1 10 30\nc 2 0 20 30 40\nd 1 15 40\n")
    ordered = cluster_of({"trace": str(path), "assign": "order", "start": "10 s", "time_scale": 2})
    # a was not up after 10 s
    assert [o[:2] for o in some(ordered[0], 2)] == [(40, 60), (100, 120)]
    assert some(ordered[1], 1)[0][:2] == (20, 40)
    sampled = cluster_of({"trace": [str(path)]})
    assert [one.index for one in sampled] == [0, 1, 2, 0, 1, 2]
    assert {one.pool for one in sampled} == {"gpu", "other"}
    with pytest.raises(InputError, match="has 4 nodes, the group has 5"):
        cluster_of({"trace": str(path)}, count=5)
    with pytest.raises(InputError, match=r"nodes\[0\].availability.* no node|no file|'nodes'"):
        cluster_of({"trace": str(tmp_path / "nodes")})


def test_outages_by_name_are_not_assigned(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    path.write_text("node,down_s,up_s\ngpu-1,5,6\nother-0,5,6\n")
    assert [some(one) for one in cluster_of({"trace": str(path)})[:2]] == [[], [(5, 6, 0)]]
    with pytest.raises(InputError, match="outages by name have no 'assign'"):
        cluster_of({"trace": str(path), "assign": "order"})
    with pytest.raises(InputError, match="in one file, not in 2"):
        cluster_of({"trace": [str(path), str(path)]})


def test_a_scenario_writes_joint_failures_and_notice() -> None:
    times = {"up": "100 s", "down": "10 s"}
    joint = cluster_of(times | {"zone": times, "region": times, "notice": "5 s", "announced": 0.5})
    assert isinstance(joint[0], Announced)
    inner = joint[0].availability
    assert isinstance(inner, Joint)
    kinds = [(p.kind, p.name) for p in inner.parts[1:] if isinstance(p, Shared)]
    assert [kind for kind, _ in kinds] == ["zone", "region"]
    assert kinds[0][1] == "gpu"
    assert joint[3].availability.parts[1].name == "other"
    named = cluster_of(times | {"zone": times | {"name": "rack"}})
    assert {one.parts[1].name for one in named} == {"rack"}


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ("skype-lick", "did you mean 'skype-like'"),
        ({"profile": "skype"}, "did you mean 'skype-like'"),
        ({"profile": "skype-like", "zome": "a"}, "unknown key 'zome'; did you mean 'zone'"),
        ({"up": "1 h", "down": "1 h", "announced": 2}, "more than 1"),
        ({"up": "1 h", "down": "1 h", "announced": 0.5}, "'announced' needs a 'notice'"),
        ({"trace": []}, "the list is empty"),
    ],
)
def test_bad_entries_are_refused(entry: Any, said: str) -> None:
    with pytest.raises(InputError, match=said):
        cluster_of(entry)


@pytest.mark.parametrize(
    ("what", "name", "said"),
    [
        ("zone", {"name": "rack"}, "the zone 'rack' is given outages of two kinds"),
        ("region", {}, "the only region is given outages of two kinds"),
    ],
)
def test_what_is_shared_is_told_alike(what: str, name: dict[str, str], said: str) -> None:
    """Otherwise the groups would be down at other times, though of one zone."""

    def scenario(second_up: str) -> dict[str, Any]:
        groups = [
            {
                "name": group,
                "device": "a100-80gb",
                "availability": {
                    "up": "50 s",
                    "down": "2 s",
                    what: name | {"up": up, "down": "5 s"},
                },
            }
            for group, up in (("a", "60 s"), ("b", second_up))
        ]
        workload = {
            "arrivals": {"rate": "2 /s"},
            "lengths": {"input": 9, "output": 9},
            "requests": 5,
        }
        return {
            "name": "two",
            "model": "llama-3.1-8b",
            "cluster": {"nodes": groups},
            "workload": workload,
        }

    load(scenario("1 min"))
    with pytest.raises(InputError, match=said):
        load(scenario("90 s"))
