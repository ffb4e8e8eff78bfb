"""From scenarios to experiments: what was written is what is built."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from infsim.cluster.availability import AlwaysUp, Exponential, Lognormal, Renewal, Weibull
from infsim.engine.experiment import Experiment, Settings
from infsim.errors import InputError
from infsim.policy.routing.power_of_two import PowerOfTwo
from infsim.rng import Streams
from infsim.scenario.build import build_experiment
from infsim.scenario.load import load
from infsim.workload.requests import Requests


def scenario(**changes: Any) -> dict[str, Any]:
    small = {
        "name": "small",
        "model": "llama-3.1-8b",
        "cluster": {"nodes": [{"name": "gpu", "count": 2, "device": "a100-80gb"}]},
        "workload": {
            "arrivals": {"rate": "3 /s"},
            "lengths": {"input": 512, "output": 100},
            "requests": 20,
        },
    }
    return small | changes


def built(data: dict[str, Any], alternative: int = 0, replication: int = 0) -> Experiment:
    loaded = load(data)
    return build_experiment(loaded, loaded.alternatives()[alternative], replication)


def nodes(*groups: dict[str, Any], **cluster: Any) -> dict[str, Any]:
    return scenario(cluster={"nodes": list(groups), **cluster})


def requests(experiment: Experiment) -> Requests:
    (block,) = experiment.workload.blocks(experiment.streams)
    return block


GPU = {"name": "gpu", "count": 2, "device": "a100-80gb"}


# --- cluster --------------------------------------------------------------------------------


def test_nodes_of_a_group_are_numbered() -> None:
    cluster = built(nodes(GPU, {"name": "one", "device": "h100-sxm", "devices": 4})).cluster
    assert [node.name for node in cluster.nodes] == ["gpu-0", "gpu-1", "one"]
    assert [node.count for node in cluster.nodes] == [1, 1, 4]


def test_figures_of_nodes_are_si() -> None:
    group = GPU | {"uplink": "1 Gbit/s", "load_rate": "2 GB/s", "memory_fraction": "80 %"}
    node = built(nodes(group)).cluster.nodes[0]
    assert (node.uplink_bytes_per_s, node.load_bytes_per_s) == (125e6, 2e9)
    assert node.memory_fraction == 0.8
    assert node.downlink_bytes_per_s == float("inf")


def test_a_device_like_another_one() -> None:
    group = GPU | {"device": {"name": "half", "like": "a100-80gb", "memory": "40 GiB"}}
    half = built(nodes(group)).cluster.nodes[0].device
    whole = built(nodes(GPU)).cluster.nodes[0].device
    assert (half.name, half.memory_bytes) == ("half", 40 * 2**30)
    assert half.bandwidth_bytes_per_s == whole.bandwidth_bytes_per_s


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ("always", AlwaysUp()),
        ({"up": "4 h", "down": "10 min"}, Renewal(Exponential(14400.0), Exponential(600.0))),
        (
            {
                "up": {"distribution": "weibull", "mean": "1 h", "shape": 0.6},
                "down": {"distribution": "weibull", "scale": "1 min", "shape": 2},
                "stationary": False,
            },
            Renewal(Weibull.from_mean(3600.0, 0.6), Weibull(2.0, 60.0), stationary=False),
        ),
        (
            {
                "up": {"distribution": "lognormal", "mean": "1 h", "sigma": 1},
                "down": {"distribution": "lognormal", "median": "100 s", "sigma": 0.5},
            },
            Renewal(Lognormal.from_mean(3600.0, 1.0), Lognormal(np.log(100.0), 0.5)),
        ),
    ],
)
def test_availability(entry: Any, expected: Any) -> None:
    assert built(nodes(GPU | {"availability": entry})).cluster.nodes[1].availability == expected


def test_outages_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "out.csv").write_text("node,down_s,up_s\ngpu-1,5,6\ngpu-1,7,\n")
    path = str(tmp_path / "out.csv")
    cluster = built(nodes(GPU | {"availability": {"trace": path}})).cluster
    first, second = (
        [outage[:2] for outage in node.availability.outages(Streams(0), node.name)]
        for node in cluster.nodes[:2]
    )
    assert first == []
    assert second == [(5.0, 6.0), (7.0, float("inf"))]


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ("node,down,up_s\n", r"out\.csv:1: column 'down' instead of 'down_s'"),
        ("node,down_s,up_s\ngpu-1,5\n", r"out\.csv:2: 2 values instead of 3"),
        ("node,down_s,up_s\ngpu-1,5,x\n", r"out\.csv:2: not numbers of seconds: '5', 'x'"),
        ("node,down_s,up_s\ngpu-1,5,4\n", r"out\.csv:2: down at 5 s and up at 4 s is no outage"),
        ("node,down_s,up_s\ngpu-1,5,9\ngpu-1,8,10\n", r"out\.csv:3: .*goes down at 8 s"),
        ("node,down_s,up_s\ncpu-1,5,9\n", "has no outage of gpu-0, gpu-1; did you mean 'cpu-1'"),
    ],
)
def test_damaged_outages_are_refused(tmp_path: Path, rows: str, said: str) -> None:
    (tmp_path / "out.csv").write_text(rows)
    path = str(tmp_path / "out.csv")
    with pytest.raises(InputError, match=said):
        built(nodes(GPU | {"availability": {"trace": path}}))


def test_sites_take_what_they_do_not_say_from_the_scenario() -> None:
    data = nodes(
        GPU | {"region": "eu"}, regions={"eu": {"carbon": "30 g/kWh"}, "us": {"pue": 1.5}}
    ) | {"energy": {"carbon": "400 g/kWh", "price": "0.1 EUR/kWh", "pue": 1.1}}
    sites = built(data).cluster.sites
    assert (sites["eu"].carbon.at(0), sites["us"].carbon.at(0)) == (30.0, 400.0)
    assert (sites["eu"].price.at(0), sites["us"].price.at(0)) == (0.1, 0.1)
    assert (sites["eu"].pue, sites["us"].pue) == (1.1, 1.5)


def test_carbon_that_nobody_told_is_not_zero() -> None:
    told = nodes(GPU | {"region": "eu"}, regions={"eu": {"carbon": "0 g/kWh"}, "us": {}})
    sites = built(told).cluster.sites
    assert sites["eu"].carbon.integral(0, 10) == 0
    assert math.isnan(sites["us"].carbon.integral(0, 10))


def test_carbon_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "c.csv").write_text("time,g\n2024-01-01T00:00,40\n2024-01-01T01:00,60\n")
    carbon = {"file": str(tmp_path / "c.csv"), "start": "2024-01-01T00:30"}
    data = nodes(GPU, regions={"eu": {"carbon": carbon}})
    site = built(data).cluster.sites["eu"]
    assert (site.carbon.at(0), site.carbon.at(1799), site.carbon.at(1801)) == (40.0, 40.0, 60.0)


# --- network and clients --------------------------------------------------------------------

REGIONS = {
    "regions": {"eu": {}, "us": {}, "asia": {}},
    "network": {
        "within_rtt": "2 ms",
        "rtt": {"eu": {"us": "90 ms"}},
        "between_rtt": "200 ms",
        "bandwidth": {"us": {"eu": "1 Gbit/s"}},
    },
}
FAR: list[dict[str, Any]] = [
    {"name": "a", "device": "h100-sxm", "region": "eu", "count": 2},
    {"name": "b", "device": "h100-sxm", "region": "us"},
    {"name": "c", "device": "h100-sxm", "region": "asia"},
]


def test_a_network_of_regions() -> None:
    network = built(nodes(*FAR, **REGIONS)).cluster.network
    assert network.delay_s[0, :4] == pytest.approx([0, 0.001, 0.045, 0.1])
    assert (network.delay_s == network.delay_s.T).all()
    assert network.bandwidth[0, 2] == network.bandwidth[2, 0] == 125e6
    assert network.bandwidth[0, 3] == float("inf")


def test_without_clients_there_is_one_where_the_first_node_is() -> None:
    cluster = built(nodes(*FAR, **REGIONS)).cluster
    assert [(client.name, client.site) for client in cluster.clients] == [("clients", "eu")]


def test_clients_at_nodes_are_there() -> None:
    clients = [{"node": "a", "weight": 2}, {"name": "far", "region": "asia", "weight": 6}]
    experiment = built(nodes(*FAR, **REGIONS, clients=clients))
    cluster = experiment.cluster
    assert [(c.name, c.node) for c in cluster.clients] == [
        ("client@a-0", "a-0"),
        ("client@a-1", "a-1"),
        ("far", None),
    ]
    assert (cluster.network.delay_s[4] == cluster.network.delay_s[0]).all()
    many = built(nodes(*FAR, **REGIONS, clients=clients) | {"workload": workload(requests="8k")})
    shares = np.bincount(requests(many).client, minlength=3) / 8000
    # a group's weight is shared by its clients: 1 : 1 : 6, within four standard deviations
    assert shares == pytest.approx([0.125, 0.125, 0.75], abs=4 * 0.5 / 8000**0.5)


def test_links_of_groups_and_switches() -> None:
    network = {
        "switches": ["hub"],
        "links": [
            {"between": ["gpu", "hub"], "delay": "1 ms", "bandwidth": "1 Gbit/s"},
            {"between": ["hub", "home"], "delay": "9 ms", "bandwidth": "100 Mbit/s"},
        ],
    }
    found = built(nodes(GPU, network=network, clients=[{"name": "home"}])).cluster.network
    assert found.delay_s[0, 1:] == pytest.approx([0.002, 0.010])
    assert found.bandwidth[0, 1:] == pytest.approx([125e6, 12.5e6])


def test_jitter_is_drawn_anew_in_each_replication_and_the_same_for_all_alternatives() -> None:
    cluster = {"nodes": [GPU | {"count": 3}], "network": {"within_rtt": "10 ms", "jitter": 0.2}}
    data = scenario(cluster=cluster, compare={"routing": ["random", "round-robin"]})
    delays = [built(data, a, r).cluster.network.delay_s for a, r in [(0, 0), (1, 0), (0, 1)]]
    assert (delays[0] == delays[1]).all()
    assert not (delays[0] == delays[2]).all()


# --- models, workload, policies -------------------------------------------------------------


def test_deployments_take_model_and_format_from_the_scenario() -> None:
    parts = [{"format": "w8a8", "nodes": ["gpu-1"]}, {"name": "big", "model": "llama-2-7b"}]
    found = built(scenario(format="fp8", deployments=parts)).deployments
    assert [d.name for d in found] == ["llama-3.1-8b-w8a8", "big"]
    assert [(d.model.name, d.format.name) for d in found] == [
        ("llama-3.1-8b", "w8a8"),
        ("llama-2-7b", "fp8"),
    ]
    assert [d.nodes for d in found] == [(1,), (0, 1)]
    assert [d.index for d in found] == [0, 1]


def test_planning_prices_a_single_input_where_nothing_is_generated() -> None:
    parts = [{"name": "text"}, {"name": "image", "model": "resnet50"}]
    found = built(scenario(deployments=parts)).deployments
    assert [d.expected_context for d in found] == [1024, 1]
    parts = [{**part, "expected_context": 7} for part in parts]
    found = built(scenario(deployments=parts)).deployments
    assert [d.expected_context for d in found] == [7, 7]


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        (["a"], (0, 1)),
        (["a-1", "c"], (1, 3)),
        (["*"], (0, 1, 2, 3)),
        ({"regions": ["us", "as*"]}, (2, 3)),
        ({"tiers": ["edge"]}, (0, 1, 3)),
        ({"tiers": ["edge"], "regions": ["eu"]}, (0, 1)),
    ],
)
def test_selectors_of_nodes(selector: Any, expected: tuple[int, ...]) -> None:
    tiers = ["edge", "cloud", "edge"]
    groups = [group | {"tier": tier} for group, tier in zip(FAR, tiers, strict=True)]
    data = nodes(*groups, **REGIONS) | {"deployments": [{"nodes": selector}]}
    assert built(data).deployments[0].nodes == expected


def test_models_and_formats_written_out() -> None:
    model = {"name": "net", "kind": "monolithic", "parameters": "25M", "macs": "4.1G"}
    data = scenario(model=model, format={"name": "mine", "like": "fp16", "weight_bits": 4})
    (deployment,) = built(data).deployments
    (operator,) = deployment.model.graph.operators
    assert not deployment.model.generative
    assert (operator.parameters, operator.macs_per_token) == (25e6, 4.1e9)
    assert (deployment.format.weight_bits, deployment.format.kv_bits) == (4, 16)


def test_models_of_a_table_of_accuracy() -> None:
    model = {"name": "net", "kind": "monolithic", "accuracy": "cnn"}
    experiment = built(scenario(model=model, accuracy="fashion-mnist"))
    table = experiment.accuracy
    assert table is not None
    assert experiment.accuracy_validation is table.validation
    (operator,) = experiment.deployments[0].model.graph.operators
    facts = table.facts["cnn"]
    assert (operator.parameters, operator.macs_per_token) == (facts.parameters, facts.macs)
    samples = requests(experiment).sample_id
    assert 0 <= samples.min() < samples.max() < table.samples


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"accuracy": "fashion-minst"}, "no folder 'fashion-minst'; did you mean 'fashion-mnist'"),
        (
            {"accuracy": "fashion-mnist", "model": {"accuracy": "cmn"}},
            "model.accuracy: the table of accuracy has no model 'cmn'; did you mean 'cnn'",
        ),
        ({"model": {"accuracy": "cnn"}}, "the scenario has no table of accuracy"),
        ({"model": {"macs": "1M"}}, "model 'net' needs 'parameters'"),
    ],
)
def test_models_that_are_in_no_table_are_refused(changes: dict[str, Any], said: str) -> None:
    if "model" in changes:
        changes = changes | {"model": {"name": "net", "kind": "monolithic", **changes["model"]}}
    with pytest.raises(InputError, match=said):
        built(scenario(**changes))


def workload(**changes: Any) -> dict[str, Any]:
    return {
        "arrivals": {"rate": "3 /s", "process": "deterministic"},
        "lengths": {"input": 512, "output": 100},
        "requests": 20,
    } | changes


def trace(
    folder: Path, rows: int = 10, columns: str = "arrival_s,input_tokens,output_tokens"
) -> str:
    path = folder / "t.csv"
    extra = ",gpu-c" if "client" in columns else ""
    lines = [columns, *(f"{2 * i},{i + 1},{i + 2}{extra}" for i in range(rows))]
    path.write_text("\n".join(lines) + "\n")
    return str(path)


@pytest.mark.parametrize(
    ("shape", "times"),
    [
        ({}, [2.0 * i for i in range(10)]),
        ({"requests": 3}, [0, 2, 4]),
        ({"start": "5 s"}, [1, 3, 5, 7, 9, 11, 13]),
        ({"duration": "5 s"}, [0, 2, 4]),
        ({"rate": "5 /s"}, [0.2 * i for i in range(10)]),
        ({"rate": "5 /s", "requests": 3}, [0, 0.2, 0.4]),
        ({"start": "5 s", "rate": "1 /s", "duration": "3 s"}, [0.5, 1.5, 2.5]),
    ],
)
def test_a_trace_is_cut_and_stretched(tmp_path: Path, shape: Any, times: list[float]) -> None:
    data = scenario(workload={"trace": trace(tmp_path), **shape})
    assert requests(built(data)).arrival_s == pytest.approx(times)


def test_a_trace_may_name_its_clients(tmp_path: Path) -> None:
    file = trace(tmp_path, columns="arrival_s,input_tokens,output_tokens,client")
    cluster = {"nodes": [GPU], "clients": [{"name": "x"}, {"name": "gpu-c"}]}
    block = requests(built(scenario(workload={"trace": file}, cluster=cluster)))
    assert block.client.tolist() == [1] * 10


def test_a_trace_with_columns_of_its_own(tmp_path: Path) -> None:
    file = trace(tmp_path, columns="ms,prompt,output_tokens")
    columns = {"arrival_s": "ms", "input_tokens": "prompt"}
    entry = {"file": file, "format": "csv", "columns": columns, "time_unit": "1 ms"}
    block = requests(built(scenario(workload={"trace": entry})))
    assert block.arrival_s[:3] == pytest.approx([0, 0.002, 0.004])
    assert block.input_tokens[:3].tolist() == [1, 2, 3]


def test_a_shipped_profile_lasts_as_long_as_it_is_asked_to() -> None:
    data = scenario(workload={"trace": "azure-conv-like", "requests": 500, "rate": "10 /s"})
    block = requests(built(data))
    assert len(block) == 500
    assert 20 < block.arrival_s[-1] < 120


def test_lengths_drawn_from_a_profile_are_those_of_its_trace() -> None:
    entry = {"trace": "azure-conv-like"}
    data = scenario(workload=workload(lengths=entry) | {"requests": 4000})
    block = requests(built(data))
    assert np.mean(block.input_tokens) == pytest.approx(1155, rel=0.06)  # of the real trace
    assert np.mean(block.output_tokens) == pytest.approx(211.1, rel=0.06)


def test_lengths_drawn_from_a_trace_keep_their_pairs(tmp_path: Path) -> None:
    data = scenario(workload=workload(lengths={"trace": trace(tmp_path)}))
    block = requests(built(data))
    assert (block.output_tokens == block.input_tokens + 1).all()
    assert len(set(block.input_tokens.tolist())) > 3


def test_lengths_from_a_table_with_weights(tmp_path: Path) -> None:
    (tmp_path / "l.csv").write_text("input_tokens,output_tokens,weight\n10,1,1\n20,2,0\n30,3,1\n")
    data = scenario(workload=workload(lengths={"table": str(tmp_path / "l.csv")}))
    block = requests(built(data))
    pairs = zip(block.input_tokens.tolist(), block.output_tokens.tolist(), strict=True)
    assert set(pairs) == {(10, 1), (30, 3)}


def test_sessions_share_prefixes() -> None:
    data = scenario(workload=workload(sessions={"turns": 4, "system_tokens": 256}, requests=200))
    block = requests(built(data))
    assert block.prefix_hashes is not None
    sizes = np.bincount(block.session_id)
    assert sizes.max() > 1


def test_alternatives_see_the_same_requests_and_replications_other_ones() -> None:
    data = scenario(
        workload=workload(arrivals={"rate": "3 /s"}),
        compare={"routing": ["random", "least-loaded"]},
    )
    times = [requests(built(data, a, r)).arrival_s for a, r in [(0, 0), (1, 0), (0, 1)]]
    assert (times[0] == times[1]).all()
    assert not (times[0] == times[2]).all()


def test_policies_and_settings() -> None:
    data = scenario(
        policies={"routing": {"name": "power-of-two", "d": 3}},
        engine={"horizon": "10 min", "staleness": "5 s", "warmup": "1 min", "token_bytes": "8 B"},
    )
    experiment = built(data)
    assert experiment.router == PowerOfTwo(3)
    assert experiment.settings == Settings(staleness_s=5.0, horizon_s=600.0, token_bytes=8)
    assert built(scenario()).settings == Settings()


def test_plans_are_made_once(tmp_path: Path) -> None:
    data = scenario(compare={"routing": ["random", "least-loaded"]})
    assert built(data, 0).plans is built(data, 1).plans
    assert built(data, 0).plans is built(data, 0, 1).plans
    other = load(data, set=["cluster.nodes.0.count=3"])
    assert build_experiment(other, other.alternatives()[0], 0).plans is not built(data).plans


def test_later_deployments_see_the_memory_that_is_left() -> None:
    # two models of 15 GiB do not fit into 0.9 x 24 GiB
    data = scenario(deployments=[{"name": "a"}, {"name": "b"}])
    data["cluster"] = {"nodes": [{"name": "gpu", "device": "rtx-4090"}]}
    with pytest.raises(InputError, match=r"'b' needs .* GiB are missing"):
        built(data)
