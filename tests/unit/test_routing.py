"""What each router answers when the view is known."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infsim.policy.interface import Router
from infsim.policy.routing.greedy_latency import GreedyLatency
from infsim.policy.routing.kv_affinity import KvAffinity
from infsim.policy.routing.least_loaded import LeastLoaded
from infsim.policy.routing.power_of_two import PowerOfTwo
from infsim.policy.routing.random_choice import Random
from infsim.policy.routing.round_robin import RoundRobin
from infsim.policy.routing.weighted_round_robin import WeightedRoundRobin
from infsim.testing.views import Replica, RoutingSight, request, uniform


def indices(router: Router, view: RoutingSight, count: int) -> list[int]:
    return [router.route(request(i), view).index for i in range(count)]


def test_random_is_uniform() -> None:
    counts = Counter(indices(Random(), RoutingSight([Replica(i) for i in range(4)]), 8000))
    # chi-square with 3 degrees of freedom: 16.27 is its 0.999 quantile
    assert sum((counts[i] - 2000) ** 2 / 2000 for i in range(4)) < 16.27


def test_round_robin_goes_on_after_a_failure_and_a_return() -> None:
    router = RoundRobin()
    everyone = [Replica(i) for i in range(4)]
    assert indices(router, RoutingSight(everyone), 2) == [0, 1]
    assert indices(router, RoutingSight([everyone[0], everyone[1], everyone[3]]), 2) == [3, 0]
    assert indices(router, RoutingSight(everyone), 5) == [1, 2, 3, 0, 1]


def test_round_robin_keeps_a_round_for_each_place_of_a_mesh() -> None:
    router = RoundRobin()
    first = RoutingSight([Replica(0, end=2), Replica(1, end=2)])
    second = RoutingSight([Replica(2, start=2, end=4), Replica(3, start=2, end=4)])
    path = [
        (router.route(request(i), first).index, router.route(request(i), second).index)
        for i in range(3)
    ]
    assert path == [(0, 2), (1, 3), (0, 2)]


def test_weighted_round_robin_is_interleaved() -> None:
    view = RoutingSight([Replica(i) for i in range(3)])
    assert indices(WeightedRoundRobin((5, 1, 1)), view, 7) == [0, 0, 1, 0, 2, 0, 0]


def test_weighted_round_robin_weighs_by_decode_speed() -> None:
    view = RoutingSight([Replica(0, decode_token_s=0.01), Replica(1, decode_token_s=0.03)])
    assert Counter(indices(WeightedRoundRobin(), view, 400)) == {0: 300, 1: 100}


def test_weighted_round_robin_without_the_heavy_ones() -> None:
    router = WeightedRoundRobin((1, 0, 0))
    assert indices(router, RoutingSight([Replica(0), Replica(1)]), 3) == [0, 0, 0]
    assert indices(router, RoutingSight([Replica(1), Replica(2)]), 4) == [1, 2, 1, 2]


@pytest.mark.parametrize("weights", [(1.0, -1.0), (0.0, 0.0)])
def test_weighted_round_robin_refuses_weights(weights: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="weights must not be negative"):
        WeightedRoundRobin(weights)


def test_weighted_round_robin_refuses_too_few_weights() -> None:
    with pytest.raises(ValueError, match="2 weights, but a replica has the index 2"):
        WeightedRoundRobin((1, 1)).route(request(), RoutingSight([Replica(0), Replica(2)]))


def test_least_loaded_by_requests_and_by_tokens() -> None:
    view = RoutingSight(
        [
            Replica(0, waiting=2, running=3, queued_tokens=100),
            Replica(1, waiting=0, running=4, queued_tokens=900),
            Replica(2, waiting=5, running=0, queued_tokens=400),
        ]
    )
    assert LeastLoaded().route(request(), view).index == 1
    assert LeastLoaded(by="tokens").route(request(), view).index == 0


def test_least_loaded_prefers_the_nearer_of_equals() -> None:
    view = RoutingSight([Replica(0, delay_s=0.2), Replica(1, delay_s=0.1), Replica(2, waiting=1)])
    assert LeastLoaded().route(request(), view).index == 1
    assert LeastLoaded(by="tokens").route(request(), view).index == 1


@given(st.lists(st.integers(0, 50), min_size=1, max_size=12), st.integers(1, 14))
def test_power_of_d_takes_the_least_of_d_different_ones(loads: list[int], d: int) -> None:
    view = RoutingSight([Replica(i, waiting=load) for i, load in enumerate(loads)])
    chosen = PowerOfTwo(d).route(request(), view)
    # of d different replicas one is at least as lightly loaded as d - 1 others
    at_least = sum(load >= chosen.waiting for load in loads)
    assert at_least >= min(d, len(loads))


def test_power_of_two_draws_every_pair_equally_often() -> None:
    view = RoutingSight([Replica(i, waiting=i) for i in range(4)])
    counts = Counter(indices(PowerOfTwo(2), view, 12_000))
    # the least of a random pair of 4: 3, 2 and 1 pairs of 6 (chi-square, 2 degrees: 13.82)
    expected = {0: 6000, 1: 4000, 2: 2000}
    assert sum((counts[i] - n) ** 2 / n for i, n in expected.items()) < 13.82
    assert counts[3] == 0


def test_power_of_two_refuses_no_choice() -> None:
    with pytest.raises(ValueError, match="d must be at least 1, got 0"):
        PowerOfTwo(0)


class TestKvAffinity:
    def test_longest_prefix_wins_above_the_threshold(self) -> None:
        view = RoutingSight(
            [Replica(0, waiting=9, cached={7: 31}), Replica(1, cached={7: 30}), Replica(2)]
        )
        assert KvAffinity().route(request(7), view).index == 0

    def test_a_short_prefix_does_not_count(self) -> None:
        view = RoutingSight([Replica(0), Replica(1, cached={7: 30})])
        assert KvAffinity().route(request(7), view).index == 0

    def test_new_prompts_go_to_the_smallest_cache(self) -> None:
        router = KvAffinity()
        view = RoutingSight([Replica(0), Replica(1), Replica(2)])
        sizes = [500, 100, 100, 100, 400]
        chosen = [router.route(request(i, n), view).index for i, n in enumerate(sizes)]
        assert chosen == [0, 1, 2, 1, 2]

    @pytest.mark.parametrize(
        ("loads", "expected"),
        [((65, 0), 1), ((64, 0), 0), ((195, 130), 0), ((196, 130), 1)],
    )
    def test_out_of_balance_needs_both_conditions(
        self, loads: tuple[int, int], expected: int
    ) -> None:
        view = RoutingSight(
            [Replica(0, running=loads[0], cached={7: 100}), Replica(1, running=loads[1])]
        )
        assert KvAffinity().route(request(7), view).index == expected

    def test_sessions_stay_until_they_are_moved(self) -> None:
        router = KvAffinity()
        calm = RoutingSight([Replica(0), Replica(1)])
        first = router.route(request(0, session_id=3), calm).index
        again = [router.route(request(i, session_id=3), calm).index for i in range(1, 4)]
        assert again == [first] * 3
        loaded = [Replica(i, running=100 if i == first else 0) for i in range(2)]
        moved = router.route(request(4, session_id=3), RoutingSight(loaded)).index
        assert moved != first
        assert router.route(request(5, session_id=3), calm).index == moved

    def test_sessions_are_not_kept_where_nobody_is(self) -> None:
        router = KvAffinity()
        first = router.route(request(0, session_id=3), RoutingSight([Replica(0), Replica(1)]))
        other = Replica(1 - first.index)
        assert router.route(request(1, session_id=3), RoutingSight([other])) is other

    def test_not_sticky(self) -> None:
        router = KvAffinity(sticky=False)
        view = RoutingSight([Replica(0), Replica(1)])
        chosen = [router.route(request(i, session_id=3), view).index for i in range(4)]
        assert chosen == [0, 1, 0, 1]


class TestGreedyLatency:
    def test_near_and_slow_against_far_and_fast(self) -> None:
        near = Replica(0, delay_s=0.01, decode_token_s=0.02)
        far = Replica(1, delay_s=0.5, decode_token_s=0.01)
        view = RoutingSight([near, far])
        assert GreedyLatency(output_tokens=10).route(request(), view) is near
        assert GreedyLatency(output_tokens=100).route(request(), view) is far

    def test_queued_prompts_count(self) -> None:
        busy = Replica(0, waiting=2, queued_tokens=6000)
        view = RoutingSight([busy, Replica(1, delay_s=0.5)])
        assert GreedyLatency().route(request(), view).index == 1
        busy.queued_tokens = 4000
        assert GreedyLatency().route(request(), view).index == 0

    def test_full_memory_counts(self) -> None:
        full = Replica(0, waiting=4, running=8, kv_used=1.0)  # half a generation: 1 s
        view = RoutingSight([full, Replica(1, delay_s=0.9)])
        assert GreedyLatency().route(request(), view).index == 1
        full.kv_used = 0.5
        assert GreedyLatency().route(request(), view).index == 0

    def test_cached_prefix_counts(self) -> None:
        view = RoutingSight([Replica(0), Replica(1, delay_s=0.005, cached={7: 80})])
        assert GreedyLatency().route(request(7), view).index == 1
        assert GreedyLatency().route(request(8), view).index == 0

    def petals(self) -> RoutingSight:
        """The example of the planning reference; 18 ms per hop to a server as compute."""
        spans = [(0, 4), (4, 8), (0, 8), (4, 8)]
        rates = [200.0, 100.0, 50.0, 400.0]
        hosts = [
            Replica(i, start=s, end=e, decode_token_s=0.0, prefill_token_s=(e - s) / rate)
            for i, ((s, e), rate) in enumerate(zip(spans, rates, strict=True))
        ]
        far = 10.0  # seconds, between hosts that do not follow one another
        between = [
            [0.0, 0.010, far, 0.080],
            [0.010, 0.0, far, far],
            [far, far, 0.0, far],
            [0.080, far, far, 0.0],
        ]
        return RoutingSight(
            hosts, operators=8, between_s=between, client_s=[0.010, 0.015, 0.005, 0.100]
        )

    def test_path_of_petals(self) -> None:
        path = GreedyLatency(output_tokens=0).path(request(0, 1), self.petals())
        assert path is not None
        # A, B: 10 + 20 + 10 + 40 + 15 = 95 ms; A, D: 300 ms; C: 170 ms
        assert [host.index for host in path] == [0, 1]

    def test_a_queue_is_avoided(self) -> None:
        view = self.petals()
        view.replicas[1].queued_tokens = 20  # 0.8 s on B
        path = GreedyLatency(output_tokens=0).path(request(0, 1), view)
        assert path is not None
        assert [host.index for host in path] == [2]

    def test_a_gap_gives_the_request_back(self) -> None:
        view = self.petals()
        view.replicas = view.replicas[1:2]
        assert GreedyLatency().path(request(), view) is None

    def test_hosts_that_go_and_come_back(self) -> None:
        router, view = GreedyLatency(output_tokens=0), self.petals()
        everyone = view.replicas
        chosen = []
        for hosts in (everyone, [everyone[0], everyone[3]], everyone[2:], everyone):
            view.replicas = hosts
            path = router.path(request(0, 1), view)
            assert path is not None
            chosen.append([host.index for host in path])
        assert chosen == [[0, 1], [0, 3], [2], [0, 1]]


def test_fakes_are_deterministic() -> None:
    assert [uniform(3)() for _ in range(2)] == [uniform(3)()] * 2
