"""Response time of a lone tuple: the critical path of its operator graph, summed by hand.

The graph splits and joins, ``source -> (left -> long | right) -> join``; nodes compute in whole
milliseconds and links carry a byte in a microsecond, so that each placement is a sum on paper.
"""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from infsim.engine.experiment import Experiment
from infsim.engine.simulation import simulate
from infsim.scenario.build import build_experiment
from infsim.scenario.load import load

MS = 1e-3
NODES = ("a", "b", "c")
SPEED = {"a": 1, "b": 2, "c": 4}
WORK_MS = {"source": 4, "left": 8, "long": 12, "right": 16, "join": 4}
"""Time of each operator on node a; b is twice as fast, c four times."""
EDGES = {
    ("source", "left"): 2000,
    ("source", "right"): 3000,
    ("left", "long"): 500,
    ("long", "join"): 100,
    ("right", "join"): 200,
}
"""Bytes of a tuple on each edge: 2 ms, 3 ms, ... on a link."""
DELAY_MS = {("a", "b"): 10, ("a", "c"): 30, ("b", "c"): 20}


def device(name: str) -> dict[str, Any]:
    # 1 ms of a node of speed 1 is 1e6 multiply-accumulates; memory is too fast to matter
    return {
        "name": name,
        "memory": "1 GiB",
        "bandwidth": "1e9 GB/s",
        "peak": {"fp32": f"{2 * SPEED[name]} GFLOP/s"},
        "compute_efficiency": 1.0,
        "idle_power": "1 W",
        "active_power": "3 W",
        "overhead": 0,
        "layer_overhead": 0,
    }


def experiment(
    pinned: dict[str, str], uplink: str | None = None, rate: str = "0.1 /s", requests: int = 1
) -> Experiment:
    """One stream from a client at node a, its operators where ``pinned`` says."""
    operators = {name: {"macs": f"{work}M", "output_values": 1} for name, work in WORK_MS.items()}
    links = [
        {"between": list(pair), "delay": f"{ms} ms", "bandwidth": "1 MB/s"}
        for pair, ms in DELAY_MS.items()
    ]
    nodes = [{"name": n, "device": device(n)} for n in NODES]
    if uplink is not None:
        nodes[0]["uplink"] = uplink
    placement = {"name": "odp", "batch": 1, "gap": 0, "pinned": pinned}
    made = load(
        {
            "name": "stream",
            "format": {"name": "bytes", "like": "fp32", "activation_bits": 8.0},
            "deployments": [
                {
                    "model": {
                        "kind": "graph",
                        "name": "diamond",
                        "operators": operators,
                        "edges": [[*edge, size] for edge, size in EDGES.items()],
                    },
                }
            ],
            "cluster": {
                "nodes": nodes,
                "network": {"links": links},
                "clients": [{"node": "a"}],
            },
            "workload": {
                "arrivals": {"process": "deterministic", "rate": rate},
                "requests": requests,
            },
            "policies": {
                "placement": placement,
                "batching": {"name": "continuous", "token_budget": 1},
            },
        }
    )
    return build_experiment(made, made.alternatives()[0])


def response_s(made: Experiment) -> list[float]:
    requests = simulate(made).requests
    taken: list[float] = (requests["end_s"] - requests["arrival_s"]).tolist()
    return taken


def at(source: str, left: str, long: str, right: str, join: str) -> dict[str, str]:
    return dict(zip(WORK_MS, (source, left, long, right, join), strict=True))


@pytest.mark.parametrize(
    ("placed", "expected_ms"),
    [
        # one node computes everything, one after the other
        (at("a", "a", "a", "a", "a"), 4 + 8 + 12 + 16 + 4),
        # all but the source on c: left comes first, and right waits for it and long; 30 ms back
        (at("a", "c", "c", "c", "c"), 4 + (2 + 30) + (8 + 12 + 16 + 4) / 4 + 30),
        # branches on two nodes, joined on c: the right one is later
        #   left:  (2 + 10) + (8 + 12) / 2 + (0.1 + 20) = 42.1
        #   right: (3 + 30) + 16 / 4                    = 37
        (at("a", "b", "b", "c", "c"), 4 + 42.1 + 4 / 4 + 30),
        # the other way round
        #   left:  (2 + 30) + (8 + 12) / 4              = 37
        #   right: (3 + 10) + 16 / 2 + (0.2 + 20)       = 41.2
        (at("a", "c", "c", "b", "c"), 4 + 41.2 + 4 / 4 + 30),
        # there and back within a branch: b computes left, then right; the join is at the client
        #   left:  (2 + 10) + 8 / 2 + (0.5 + 20) + 12 / 4 + (0.1 + 30) = 69.6
        (at("a", "b", "c", "b", "a"), 4 + 69.6 + 4),
        # a sends left on its way, and computes right meanwhile; the join waits for left and long
        #   left:  (2 + 10) + (8 + 12) / 2  = 22
        #   right: 16 + (0.2 + 10)          = 26.2
        (at("a", "b", "b", "a", "b"), 4 + 26.2 + 4 / 2 + 10),
    ],
)
def test_a_lone_tuple_takes_its_critical_path(placed: dict[str, str], expected_ms: float) -> None:
    (taken,) = response_s(experiment(placed))
    assert taken == pytest.approx(expected_ms * MS, abs=1e-9)


def test_streams_that_leave_together_share_the_uplink() -> None:
    # 1 MB/s is no narrower than either link, but there is only one: left goes first, 2 ms
    placed = at("a", "b", "b", "c", "c")
    (alone,) = response_s(experiment(placed))
    (shared,) = response_s(experiment(placed, uplink="1 MB/s"))
    assert shared == pytest.approx(alone)  # right starts 2 ms later, and had 5.1 ms of slack
    placed = at("a", "c", "c", "b", "c")
    (alone,) = response_s(experiment(placed))
    (shared,) = response_s(experiment(placed, uplink="1 MB/s"))
    # now right is critical: it leaves second if the messages go in the order of the stages
    assert shared - alone in (pytest.approx(0.0, abs=1e-9), pytest.approx(2 * MS, abs=1e-9))


def test_tuples_far_apart_do_not_meet_and_close_ones_queue() -> None:
    placed = at("a", "b", "b", "b", "c")
    (alone,) = response_s(experiment(placed))
    apart = response_s(experiment(placed, requests=5))
    assert apart == pytest.approx([alone] * 5)
    # b works 18 ms on a tuple: each waits 3 ms more than the one before
    close = response_s(experiment(placed, rate=f"{1 / (15 * MS)} /s", requests=5))
    assert close == pytest.approx([alone + i * 3 * MS for i in range(5)])


PLACEMENTS = [at("a", *rest) for rest in itertools.product(NODES, repeat=4)]


def promised_s(made: Experiment) -> float:
    promise: float = made.plans[0].notes["metrics"]["response_time"]
    return promise


@pytest.mark.parametrize("placed", PLACEMENTS, ids=lambda p: "".join(p.values()))
def test_a_plan_promises_what_happens_or_less(placed: dict[str, str]) -> None:
    made = experiment(placed)
    (taken,) = response_s(made)
    # the plan lets the branches work side by side on a node, and pass each other on a link
    assert promised_s(made) <= taken + 1e-9
    if placed["right"] not in {placed["left"], placed["long"]}:
        assert promised_s(made) == pytest.approx(taken)  # here they do neither


def test_the_optimum_is_the_least_promise() -> None:
    free = experiment({"source": "a"})
    promises = [promised_s(experiment(placed)) for placed in PLACEMENTS]
    assert promised_s(free) == pytest.approx(min(promises))
