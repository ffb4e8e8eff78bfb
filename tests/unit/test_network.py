"""Networks from matrices, regions and links."""

from __future__ import annotations

from math import inf

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from infsim.cluster.network import Network
from infsim.errors import InputError

seconds = st.floats(0, 1, allow_nan=False)
rates = st.one_of(st.just(inf), st.floats(1, 1e9))


@st.composite
def topologies(draw: st.DrawFn) -> nx.Graph[int]:
    """Connected graphs with delays (often zero, often equal) and bandwidths."""
    n = draw(st.integers(2, 7))
    graph: nx.Graph[int] = nx.Graph()
    graph.add_node(0)
    delays = st.one_of(st.sampled_from([0.0, 0.5]), seconds)
    for v in range(1, n):
        graph.add_edge(draw(st.integers(0, v - 1)), v, delay_s=draw(delays), bandwidth=draw(rates))
    for _ in range(draw(st.integers(0, 5))):
        u, v = draw(st.integers(0, n - 1)), draw(st.integers(0, n - 1))
        if u != v:
            graph.add_edge(u, v, delay_s=draw(delays), bandwidth=draw(rates))
    return graph


@settings(deadline=None, max_examples=40)
@given(topologies())
def test_topology_takes_shortest_paths_and_their_narrowest_link(graph: nx.Graph[int]) -> None:
    network = Network.from_topology(graph, list(graph))
    lengths = dict(nx.all_pairs_dijkstra_path_length(graph, weight="delay_s"))
    for i, u in enumerate(graph):
        for j, v in enumerate(graph):
            assert network.delay_s[i, j] == pytest.approx(lengths[u][v], abs=1e-12)
            if u == v:
                assert network.bandwidth[i, j] == inf
                continue
            # the bandwidth is that of some shortest path
            widths = {
                min(graph.edges[a, b]["bandwidth"] for a, b in nx.utils.pairwise(path))
                for path in nx.all_simple_paths(graph, u, v)
                if nx.path_weight(graph, path, "delay_s") == pytest.approx(lengths[u][v], abs=1e-12)
            }
            assert network.bandwidth[i, j] in widths


@settings(deadline=None, max_examples=40)
@given(topologies())
def test_delays_of_a_topology_are_a_metric(graph: nx.Graph[int]) -> None:
    delay = Network.from_topology(graph, list(graph)).delay_s
    assert (np.diag(delay) == 0).all()
    assert delay == pytest.approx(delay.T, abs=1e-12)
    for k in range(len(delay)):
        assert (delay <= delay[:, [k]] + delay[[k], :] + 1e-12).all()


def test_routers_are_not_endpoints_and_endpoints_may_share_a_vertex() -> None:
    graph: nx.Graph[str] = nx.Graph()
    graph.add_edge("a", "router", delay_s=0.0, bandwidth=5.0)
    graph.add_edge("router", "b", delay_s=0.01, bandwidth=3.0)
    network = Network.from_topology(graph, ["a", "b", "a"])
    assert len(network) == 3
    assert network.delay_s.tolist() == [[0, 0.01, 0], [0.01, 0, 0.01], [0, 0.01, 0]]
    assert network.bandwidth[0].tolist() == [inf, 3.0, inf]


def test_directed_links_may_differ_by_direction() -> None:
    links: nx.DiGraph[str] = nx.DiGraph()
    links.add_edge("a", "b", delay_s=0.1, bandwidth=1e6)
    links.add_edge("b", "a", delay_s=0.3, bandwidth=2e6)
    network = Network.from_topology(links, ["a", "b"])
    assert network.delay_s.tolist() == [[0, 0.1], [0.3, 0]]
    assert network.bandwidth[1, 0] == 2e6


def test_a_disconnected_network_names_its_parts() -> None:
    graph: nx.Graph[str] = nx.Graph([("paris", "lyon"), ("tokyo", "osaka"), ("x", "y")])
    with pytest.raises(InputError, match=r"falls into 2 parts: lyon, paris \| tokyo"):
        Network.from_topology(graph, ["paris", "lyon", "tokyo"])
    with pytest.raises(InputError, match="no vertex 'pariss'; did you mean 'paris'"):
        Network.from_topology(graph, ["pariss"])


def test_a_one_way_link_does_not_connect() -> None:
    graph: nx.DiGraph[str] = nx.DiGraph([("a", "b")])
    with pytest.raises(InputError, match=r"2 parts: a \| b"):
        Network.from_topology(graph, ["a", "b"])


def test_a_link_with_an_impossible_delay_is_refused() -> None:
    graph: nx.Graph[str] = nx.Graph()
    graph.add_edge("a", "b", delay_s=-1.0)
    with pytest.raises(InputError, match=r"link a - b: .* negative, got -1\.0 s"):
        Network.from_topology(graph, ["a", "b"])


# --- regions --------------------------------------------------------------------------------


@settings(deadline=None)
@given(st.lists(st.sampled_from(["eu", "us", "asia"]), min_size=1, max_size=9))
def test_regions_give_half_of_the_round_trip(regions: list[str]) -> None:
    rtt = {("eu", "us"): 0.09, ("asia", "eu"): 0.25, ("us", "asia"): 0.15}
    network = Network.from_regions(regions, rtt, 1e8, local_rtt_s=0.002, local_bandwidth=1e9)
    for i, a in enumerate(regions):
        for j, b in enumerate(regions):
            expected = 0.002 if a == b else rtt.get((a, b), rtt.get((b, a), 0.0))
            assert network.delay_s[i, j] == (0 if i == j else expected / 2)
            assert network.bandwidth[i, j] == (inf if i == j else 1e9 if a == b else 1e8)


def test_a_region_may_have_its_own_distance_within() -> None:
    network = Network.from_regions(
        ["eu", "eu"], {("eu", "eu"): 0.02}, {("eu", "eu"): 1e7}, local_rtt_s=0.001
    )
    assert network.delay_s[0, 1] == 0.01
    assert network.bandwidth[0, 1] == 1e7


def test_delays_are_multiplied_by_a_factor_of_each_pair() -> None:
    factor = np.array([[1, 2, 3], [2, 1, 4], [3, 4, 1]])
    network = Network.from_regions(
        ["eu", "eu", "us"], {("eu", "us"): 0.1}, local_rtt_s=0.01, factor=factor
    )
    expected = [[0, 0.01, 0.15], [0.01, 0, 0.2], [0.15, 0.2, 0]]
    assert network.delay_s == pytest.approx(np.array(expected))


def test_a_missing_pair_of_regions_is_named() -> None:
    with pytest.raises(
        InputError, match="no RTT between the regions 'eu' and 'uss'; did you mean 'us'"
    ):
        Network.from_regions(["eu", "uss"], {("eu", "us"): 0.1})


# --- what changes over time, and what the transport protocol costs ---------------------------


class Doubling:
    """Delays double each second, and differ by pair."""

    def factor(self, x: int, y: int, time_s: float) -> float:
        return float((1 + min(x, y)) * 2.0**time_s)


class OneRound:
    """Every message costs a round trip and its serialization once more."""

    def extra_s(self, size_bytes: float, rtt_s: float, rate_bytes_per_s: float) -> float:
        return rtt_s + size_bytes / rate_bytes_per_s

    def most_bytes_per_s(self, rtt_s: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.full(rtt_s.shape, 1000.0)


def test_without_effects_delays_are_constant_and_messages_cost_nothing_more() -> None:
    network = Network([[0, 0.1], [0.2, 0]], [[inf, 5], [5, inf]])
    assert network.propagation_s(0, 1, 7.0) == 0.1
    assert network.message_extra_s(0, 1, 1e6, 7.0) == 0.0


def test_delays_follow_the_variation() -> None:
    network = Network.full_mesh(3, 0.1).with_effects(variation=Doubling())
    assert network.propagation_s(0, 1, 0.0) == 0.1
    assert network.propagation_s(2, 1, 1.0) == pytest.approx(0.4)
    assert network.propagation_s(1, 1, 1.0) == 0.0


def test_the_protocol_knows_round_trip_and_narrowest_rate() -> None:
    access = [[inf, 100.0], [20.0, inf]]
    network = Network([[0, 0.1], [0.3, 0]], np.full((2, 2), 5000.0)).with_effects(
        variation=Doubling(), tcp=OneRound(), access=access
    )
    assert network.bandwidth.tolist() == [[inf, 1000.0], [1000.0, inf]]
    assert network.message_extra_s(0, 1, 100.0, 0.0) == pytest.approx(0.4 + 100 / 1000)
    assert network.message_extra_s(1, 0, 100.0, 1.0) == pytest.approx(0.8 + 100 / 20)
    with pytest.raises(InputError, match=r"access must be of shape \(2, 2\)"):
        network.with_effects(access=[[1.0], [1.0]])


def test_an_attached_endpoint_shares_the_variation_of_its_host() -> None:
    network = Network.full_mesh(4, 0.1).with_effects(variation=Doubling(), tcp=OneRound())
    attached = network.attach(3, 1)
    assert attached.propagation_s(3, 2, 0.0) == attached.propagation_s(1, 2, 0.0) == 0.2
    assert attached.message_extra_s(3, 1, 1e6, 0.0) == 0.0
    assert attached.message_extra_s(3, 2, 0.0, 0.0) == pytest.approx(0.4)


# --- matrices -------------------------------------------------------------------------------


@settings(deadline=None)
@given(st.integers(2, 6), st.data())
def test_an_attached_endpoint_is_where_its_host_is(n: int, data: st.DataObject) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    network = Network(rng.random((n, n)), 1 + rng.random((n, n)))
    endpoint, host = data.draw(st.permutations(range(n)))[:2]
    attached = network.attach(endpoint, host)
    assert attached.delay_s[endpoint, host] == attached.delay_s[host, endpoint] == 0
    assert attached.bandwidth[endpoint, host] == inf
    for other in set(range(n)) - {endpoint, host}:
        assert attached.delay_s[endpoint, other] == network.delay_s[host, other]
        assert attached.delay_s[other, endpoint] == network.delay_s[other, host]
        assert attached.bandwidth[endpoint, other] == network.bandwidth[host, other]
        assert attached.delay_s[other, host] == network.delay_s[other, host]


def test_full_mesh() -> None:
    network = Network.full_mesh(3, delay_s=0.01, bandwidth=1e9)
    assert network.delay_s.tolist() == [[0, 0.01, 0.01], [0.01, 0, 0.01], [0.01, 0.01, 0]]
    assert (np.diag(network.bandwidth) == inf).all()


@pytest.mark.parametrize(
    ("delay", "bandwidth", "message"),
    [
        ([[0, 1]], [[1, 1]], "square and of one size"),
        ([[0.0]], [[1, 1], [1, 1]], "square and of one size"),
        ([[0, -1], [1, 0]], [[1, 1], [1, 1]], "delay from endpoint 0 to 1 is .*-1.0.* s"),
        ([[0, inf], [1, 0]], [[1, 1], [1, 1]], "delay from endpoint 0 to 1"),
        ([[0, 1], [1, 0]], [[1, 1], [0, 1]], "bandwidth from endpoint 1 to 0"),
    ],
)
def test_impossible_matrices_are_refused(
    delay: list[list[float]], bandwidth: list[list[float]], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        Network(delay, bandwidth)
