"""The parts of the conformance kit: changed experiments, guarded views, watched policies."""

from dataclasses import dataclass, replace

import numpy as np
import pytest

from infsim.cluster.availability import Exponential, Renewal, TraceAvailability
from infsim.cluster.networks.tcp import Tcp
from infsim.engine.simulation import simulate
from infsim.errors import InputError
from infsim.policy.interface import MeshView, Router
from infsim.policy.routing.greedy_latency import GreedyLatency
from infsim.policy.routing.least_loaded import LeastLoaded
from infsim.results.recorder import RunRecord
from infsim.testing.experiments import EXPERIMENTS, Given, replicas
from infsim.testing.laws import same_bytes, same_results
from infsim.testing.variants import renamed, scaled, scaled_policy, with_outputs
from infsim.testing.views import Replica, RoutingSight, request
from infsim.testing.watch import Guard, PeekError, Watch, watched

WHOSE = ("here", "there")


@pytest.fixture(scope="module")
def record() -> RunRecord:
    return simulate(replicas())


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_experiments_are_worth_running(name: str) -> None:
    """Each is busy enough that something waits, and does what its name says."""
    run = simulate(EXPERIMENTS[name]())
    rows, nodes = run.requests, run.nodes
    assert (rows["start_s"] - rows["arrival_s"] > 0.02).sum() > 3
    assert (nodes["failures"].sum() > 5) == ("volatile" in name or "stale" in name)
    if "tiers" in name:
        assert len(np.unique(rows["deployment"])) == 4
        assert set(rows["correct"].tolist()) == {0, 1}
    else:
        assert rows["preemptions"].sum() > 1
        assert (nodes["peak_kv_bytes"] > 0.95 * nodes["kv_capacity_bytes"]).any()
    assert (rows["cached_tokens"].sum() > 0) == (name == "sessions")


def test_scaling_there_and_back_changes_nothing(record: RunRecord) -> None:
    again = simulate(scaled(scaled(replicas(), 8.0), 0.125))
    assert list(same_bytes(record, again)) == []


def test_what_cannot_be_scaled_is_refused() -> None:
    plain = replicas()
    network = plain.cluster.network.with_effects(tcp=Tcp())
    with pytest.raises(InputError, match=r"network .* cannot be scaled"):
        scaled(replace(plain, cluster=replace(plain.cluster, network=network)), 2.0)
    drawn = Renewal(Exponential(10), Exponential(1))
    nodes = tuple(replace(node, availability=drawn) for node in plain.cluster.nodes)
    with pytest.raises(InputError, match="Renewal cannot be scaled"):
        scaled(replace(plain, cluster=replace(plain.cluster, nodes=nodes)), 2.0)


def test_notices_of_outages_are_scaled() -> None:
    plain = replicas()
    told = TraceAvailability(((3.0, 4.0),), (1.0,))
    nodes = tuple(replace(node, availability=told) for node in plain.cluster.nodes)
    slow = scaled(replace(plain, cluster=replace(plain.cluster, nodes=nodes)), 2.0)
    assert slow.cluster.nodes[0].availability == TraceAvailability(((6.0, 8.0),), (2.0,))


def test_differences_are_found(record: RunRecord) -> None:
    twice = simulate(scaled(replicas(), 2.0))
    assert list(same_results(record, twice, WHOSE, 2.0)) == []
    assert "request 0: arrival_s is" in next(same_results(record, twice, WHOSE))
    assert " here, " in next(same_results(record, twice, WHOSE))
    assert " again" in next(same_bytes(record, twice))


def test_new_names_are_in_another_order() -> None:
    experiment = replicas()
    old, new = experiment.cluster, renamed(experiment).cluster
    names = [node.name for node in new.nodes]
    assert [node.name for node in old.nodes] == sorted(node.name for node in old.nodes)
    assert names == sorted(names, reverse=True)
    assert new.network is old.network


def test_other_outputs() -> None:
    experiment = replicas()
    assert isinstance(experiment.workload, Given)
    ones = np.ones(len(experiment.workload.requests), dtype=np.int64)
    assert set(simulate(with_outputs(experiment, ones)).requests["generated_tokens"]) == {1}


@dataclass
class Timed(LeastLoaded):
    wait_s: float = 3.0
    refill_per_s: float = 4.0
    limit_s: float | None = None
    weight: float = 5.0


def test_times_of_a_policy_are_known_by_their_names() -> None:
    given = Timed()
    assert scaled_policy(given, 2.0) == Timed(wait_s=6.0, refill_per_s=2.0)
    assert given == Timed()


def test_a_guard_shows_what_is_declared() -> None:
    watch = Watch()
    sight = RoutingSight([Replica(0, waiting=3), Replica(1)])
    view = Guard(sight, MeshView, watch)
    assert [(replica.index, replica.waiting) for replica in view.replicas] == [(0, 3), (1, 0)]
    assert view.replicas[0] == view.hosts[0] != view.replicas[1]
    assert 0 <= view.uniform() < 1
    assert watch.peeks == []
    with pytest.raises(PeekError, match=r"MeshView\.client_s is not declared"):
        _ = view.client_s
    with pytest.raises(PeekError, match=r"ReplicaView\.cached is not declared"):
        _ = view.replicas[1].cached
    assert watch.peeks == ["MeshView.client_s", "ReplicaView.cached"]


def test_a_watched_policy_is_a_copy_that_answers_the_same() -> None:
    watch = Watch()
    policy = GreedyLatency(output_tokens=7)
    copy = watched(policy, "greedy", watch, guarded=True)
    sight = RoutingSight([Replica(0, delay_s=0.2), Replica(1)], now=1.5)
    assert copy.route(request(4), sight) is sight.replicas[1]
    assert watch.decisions == [(1.5, ("route", 4, 1))]
    assert watch.before(1.5) == []
    assert copy.output_tokens == 7
    assert type(policy) is GreedyLatency


def test_what_a_policy_does_not_answer_is_not_added() -> None:
    copy = watched(LeastLoaded(), "x", Watch(), guarded=False)
    assert type(copy).path is Router.path
    assert type(copy).route is not LeastLoaded.route
