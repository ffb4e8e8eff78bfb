"""Networks of scenarios: which endpoint sits where, and what is between them."""

from __future__ import annotations

from math import inf
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from infsim.cluster.cluster import Cluster
from infsim.cluster.networks.distance import MEAN_LINE
from infsim.cluster.networks.geography import city, distances_km
from infsim.cost.costs import Costs
from infsim.errors import InputError
from infsim.model.deployment import Deployment
from infsim.policy.interface import Plan
from infsim.policy.placement.ordered import Uniform
from infsim.scenario.build import build_experiment, plans
from infsim.scenario.load import load
from infsim.study.api import run
from tests.graphs import LENGTH_S, SNDLIB

MATRIX = ",paris,tokyo,lyon\nparis,0,230,10\ntokyo,240,0,nan\nlyon,12,250,0\n"
BARE = "0 10 20 30\n10 0 40 50\n20 40 0 60\n30 50 60 0\n"


def scenario(
    network: dict[str, Any],
    regions: dict[str, Any] | None = None,
    nodes: list[dict[str, Any]] | None = None,
    clients: list[dict[str, Any]] | None = None,
) -> dict[str, Any]:
    regions = regions or {"paris": {}, "tokyo": {}}
    nodes = nodes or [
        {"name": f"gpu-{region}", "device": "a100-80gb", "region": region} for region in regions
    ]
    cluster: dict[str, Any] = {"nodes": nodes, "regions": regions, "network": network}
    if clients:
        cluster["clients"] = clients
    return {
        "name": "small",
        "model": "llama-3.1-8b",
        "cluster": cluster,
        "workload": {
            "arrivals": {"rate": "3 /s"},
            "lengths": {"input": 512, "output": 20},
            "requests": 20,
        },
    }


def built(data: dict[str, Any], replication: int = 0, **changes: Any) -> Cluster:
    loaded = load(data | changes)
    return build_experiment(loaded, loaded.alternatives()[0], replication).cluster


@pytest.fixture
def matrix(tmp_path: Path) -> str:
    path = tmp_path / "rtt.csv"
    path.write_text(MATRIX, encoding="utf-8")
    return str(path)


@pytest.fixture
def bare(tmp_path: Path) -> str:
    path = tmp_path / "rtt.txt"
    path.write_text(BARE, encoding="utf-8")
    return str(path)


# --- matrices -------------------------------------------------------------------------------


def test_regions_sit_on_the_rows_of_their_names(matrix: str) -> None:
    network = built(scenario({"matrix": matrix, "within_rtt": "2 ms"})).network
    # gpu-paris, gpu-tokyo, and the clients with the first node
    assert network.delay_s * 1e3 == pytest.approx(
        np.array([[0, 115, 1], [120, 0, 120], [1, 115, 0]])
    )


def test_a_region_may_sit_on_the_row_of_its_place(matrix: str) -> None:
    regions = {"eu": {"place": "lyon"}, "asia": {"place": "tokyo"}}
    network = built(scenario({"matrix": matrix}, regions)).network
    assert network.delay_s[0, 1] == pytest.approx(0.125)
    assert network.delay_s[1, 0] == pytest.approx(0.125)  # the only direction that was measured


def test_rows_may_be_told_or_counted_from_zero(matrix: str, bare: str) -> None:
    told = {"matrix": matrix, "rows": {"paris": "lyon", "tokyo": "paris"}}
    assert built(scenario(told)).network.delay_s[0, 1] == pytest.approx(0.006)
    numbered = {"matrix": bare, "rows": {"paris": 3, "tokyo": 1}}
    assert built(scenario(numbered)).network.delay_s[0, 1] == pytest.approx(0.025)


def test_sampled_rows_are_repeatable_and_differ_between_replications(bare: str) -> None:
    data = scenario({"matrix": bare, "rows": "sample", "by": "endpoint"})
    delays = [built(data, replication=r).network.delay_s for r in (0, 0, 1, 2, 3)]
    assert (delays[0] == delays[1]).all()
    assert any((delays[0] != other).any() for other in delays[2:])
    possible = {0, 5, 10, 15, 20, 25, 30}
    assert set((delays[0] * 1e3).round(6).ravel()) <= possible
    off = ~np.eye(3, dtype=bool)
    assert (delays[0][off] > 0).all()


def test_a_client_at_a_node_sits_where_the_node_is(bare: str) -> None:
    clients = [{"node": "gpu-tokyo"}]
    data = scenario({"matrix": bare, "rows": "sample", "by": "endpoint"}, clients=clients)
    network = built(data).network
    assert network.delay_s[2, 1] == 0
    assert network.delay_s[2, 0] == network.delay_s[1, 0] > 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rows": {"paris": "paris"}}, "rows: the region 'tokyo' has none"),
        ({"rows": {"paris": "pari", "tokyo": "tokyo"}}, "no row 'pari'; did you mean 'paris'"),
        ({"by": "endpoint"}, "no row 'gpu-paris'"),
        ({"by": "endpoint", "rows": "sample", "unit": "1"}, "unit"),
        ({"matrx": 1}, "matrx"),
    ],
)
def test_wrong_rows_are_refused(matrix: str, change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        built(scenario({"matrix": matrix, **change}))


def test_more_endpoints_than_rows_are_refused(bare: str) -> None:
    nodes = [{"name": "gpu", "count": 9, "device": "a100-80gb", "region": "paris"}]
    with pytest.raises(InputError, match=r"10 rows are wanted of rtt\.txt, which has 4"):
        built(scenario({"matrix": bare, "rows": "sample", "by": "endpoint"}, nodes=nodes))


PLACES: dict[str, Any] = {name: {} for name in ("paris", "tokyo", "lyon")}


@pytest.mark.parametrize(
    "network",
    [
        {"within_rtt": "10 ms", "between_rtt": "80 ms", "jitter": 0.3},
        {"distance": {}},
        {"matrix": "large.txt", "rows": "sample", "by": "endpoint"},
        {"matrix": "large.txt", "rows": "sample"},
        {"distance": {}, "variation": {}},
    ],
    ids=str,
)
def test_a_further_node_changes_nothing_between_the_others(
    network: dict[str, Any], tmp_path: Path
) -> None:
    if "matrix" in network:
        size = 300  # of so many rows, these few endpoints hardly want the same
        times = np.arange(1, size * size + 1).reshape(size, size)
        np.savetxt(tmp_path / "large.txt", times, fmt="%d")
        network = network | {"matrix": str(tmp_path / "large.txt")}
    own = [
        {"name": region, "device": "l40s", "region": region, "access": "home-cable"}
        for region in ("tokyo", "lyon")
    ]
    new = {"name": "new", "count": 2, "device": "l40s", "region": "paris"}
    clients = [{"name": "here", "region": "paris"}, {"name": "there", "region": "tokyo"}]
    before = built(scenario(network, PLACES, own, clients))
    after = built(scenario(network, PLACES, [own[0], new, own[1]], clients))
    rows = [0, 3, 4, 5]
    assert (after.network.delay_s[np.ix_(rows, rows)] == before.network.delay_s).all()
    assert after.nodes[3] == before.nodes[1]
    one, other = before.network, after.network
    assert one.propagation_s(1, 3, 9000.0) == other.propagation_s(3, 5, 9000.0)


def test_jitter_is_symmetric_and_uniform() -> None:
    nodes = [{"name": "gpu", "count": 60, "device": "l40s", "region": "paris"}]
    network = {"within_rtt": "2 s", "jitter": 0.25}
    delay_s = built(scenario(network, {"paris": {}}, nodes)).network.delay_s
    assert (delay_s == delay_s.T).all()
    drawn = np.sort(delay_s[np.triu_indices(60, 1)])
    exact = np.linspace(0.75, 1.25, len(drawn))
    assert np.abs(drawn - exact).max() < 0.5 * 1.9 / len(drawn) ** 0.5  # KS at a level of .1 %


@pytest.mark.parametrize(
    ("network", "access", "asked"),
    [
        ({"between_rtt": "80 ms"}, None, 1),
        ({"between_rtt": "80 ms"}, "home-cable", 3),
        ({"distance": {}}, None, 3),
        ({"between_rtt": "80 ms", "jitter": 0.1}, None, 3),
    ],
)
def test_placements_see_what_is_drawn_for_each_replication(
    network: dict[str, Any], access: str | None, asked: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def place(self: Uniform, deployment: Deployment, cluster: Cluster, costs: Costs) -> Plan:
        seen.append((cluster.network.delay_s[0, 1], cluster.nodes[0].downlink_bytes_per_s))
        return asked_for(self, deployment, cluster, costs)

    asked_for = Uniform.place
    monkeypatch.setattr(Uniform, "place", place)
    monkeypatch.setattr(plans, "_known", {})
    nodes = [
        {"name": region, "device": "a100-80gb", "region": region}
        | ({"access": access} if access else {})
        for region in ("paris", "tokyo")
    ]
    data = scenario(network, nodes=nodes) | {"policies": {"placement": "uniform"}}
    for replication in (0, 1, 2, 0):
        built(data, replication)
    assert len(seen) == len(set(seen)) == asked


# --- distances and graphs -------------------------------------------------------------------


def test_distances_without_scatter_lie_on_the_line() -> None:
    regions: dict[str, Any] = {
        "paris": {},
        "far": {"place": {"latitude": 35.68, "longitude": 139.69}},
    }
    network = built(scenario({"distance": {"scatter": False}}, regions)).network
    km = distances_km([city("paris"), city("tokyo")])[0, 1]
    expected = (MEAN_LINE.base_s + MEAN_LINE.per_km_s * km) / 2
    assert network.delay_s[0, 1] == pytest.approx(expected, rel=1e-3)


def test_distances_scatter_by_replication() -> None:
    data = scenario({"distance": {}, "between_bandwidth": "1 Gbit/s"})
    networks = [built(data, replication=r).network for r in (0, 0, 1)]
    assert (networks[0].delay_s == networks[1].delay_s).all()
    assert networks[0].delay_s[0, 1] != networks[2].delay_s[0, 1]
    assert networks[0].delay_s[0, 1] > 9_713 * 5e-6
    assert networks[0].bandwidth[0, 1] == 125e6
    assert networks[0].bandwidth[0, 2] == inf


def test_a_region_without_a_place_is_refused_where_one_is_needed() -> None:
    regions: dict[str, Any] = {"paris": {}, "moon": {}}
    with pytest.raises(InputError, match="the region 'moon' has no place"):
        built(scenario({"distance": {}}, regions))
    wrong = {"paris": {"place": "pariss"}, "tokyo": {}}
    with pytest.raises(InputError, match="unknown city 'pariss'; did you mean 'paris'"):
        built(scenario({"distance": {}}, wrong))


def test_regions_sit_on_the_vertices_of_a_graph(tmp_path: Path) -> None:
    path = tmp_path / "graph.xml"
    path.write_text(SNDLIB, encoding="utf-8")
    rows = {"paris": "Paris", "tokyo": "Lyon"}
    part = {"topology": str(path), "rows": rows, "route_factor": 2, "capacity_unit": "1 Mbit/s"}
    network = built(scenario(part)).network
    assert network.delay_s[0, 1] == pytest.approx(2 * LENGTH_S, rel=2e-3)
    assert network.bandwidth[0, 1] == pytest.approx(5e8)
    sampled = built(scenario({"topology": str(path), "rows": "sample"})).network
    assert sampled.delay_s[0, 1] == pytest.approx(LENGTH_S, rel=2e-3)
    with pytest.raises(InputError, match="3 vertices are wanted"):
        built(scenario({"topology": str(path), "rows": "sample", "by": "endpoint"}))


# --- effects and access lines ---------------------------------------------------------------


def test_variation_and_tcp_are_what_the_scenario_says() -> None:
    part = {
        "between_rtt": "100 ms",
        "variation": {"daily_swing": 0.2, "scale": 0},
        "tcp": {"connection": "fresh", "window": "1 MiB", "overhead": "1 ms"},
    }
    network = built(scenario(part)).network
    noon_s = 12 * 3600.0
    assert network.propagation_s(0, 1, 0.0) == pytest.approx(0.06)
    assert network.propagation_s(0, 1, noon_s) == pytest.approx(0.04)
    assert network.bandwidth[0, 1] == pytest.approx(2**20 / 0.1)
    assert network.message_extra_s(0, 1, 100.0, 0.0) == pytest.approx(0.12 + 0.001)
    assert network.message_extra_s(0, 2, 100.0, 0.0) == 0


def test_access_classes_give_what_is_not_said() -> None:
    nodes = [
        {
            "name": "home",
            "count": 3,
            "device": "rtx-4090",
            "region": "paris",
            "access": "home-uk",
            "downlink": "1 Gbit/s",
        }
    ]
    cluster = built(scenario({"between_rtt": "10 ms"}, nodes=nodes))
    assert [node.downlink_bytes_per_s for node in cluster.nodes] == [125e6] * 3
    ups = {node.uplink_bytes_per_s for node in cluster.nodes}
    assert len(ups) == 3
    assert max(ups) < 125e6
    nodes[0]["access"] = "home-uc"
    with pytest.raises(InputError, match="unknown access class 'home-uc'; did you mean 'home-u"):
        built(scenario({"between_rtt": "10 ms"}, nodes=nodes))


def first_tokens_s(network: dict[str, Any], client: str) -> np.ndarray:
    nodes = [{"name": "gpu", "device": "a100-80gb", "region": "tokyo"}]
    clients = [{"name": "users", "region": client}]
    study = run(scenario(network, nodes=nodes, clients=clients), replications=1)
    requests = study.requests()
    times: np.ndarray = np.array(requests["first_token_s"]) - np.array(requests["arrival_s"])
    return times


def test_a_run_pays_delays_and_handshakes(matrix: str) -> None:
    near = first_tokens_s({"matrix": matrix}, "tokyo")
    far = first_tokens_s({"matrix": matrix}, "paris")
    # the prompt goes to Tokyo, the first token comes back
    assert np.median(far - near) == pytest.approx(0.115 + 0.120, abs=0.01)
    fresh = {"matrix": matrix, "tcp": {"connection": "fresh", "overhead": 0}}
    assert np.median(first_tokens_s(fresh, "paris") - far) == pytest.approx(0.235, abs=0.01)
