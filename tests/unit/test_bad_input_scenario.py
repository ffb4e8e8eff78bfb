"""What is wrong in a scenario is told with file, line, column, the value, and what was meant."""

from __future__ import annotations

from pathlib import Path

import pytest

from infsim.errors import InfeasibleError, InputError, PolicyError
from infsim.scenario.build import build_experiment, check
from infsim.scenario.load import load

GOOD = """\
name: small
model: llama-3.1-8b
cluster:
  regions:
    eu: {carbon: 56 g/kWh}
    us: {}
  nodes:
    - name: gpu
      count: 2
      device: a100-80gb
      region: eu
  network:
    rtt: {eu: {us: 90 ms}}
workload:
  arrivals: {rate: 3 /s}
  lengths: {input: 512, output: 100}
  requests: 20
policies:
  routing: least-loaded
"""


def refused(folder: Path, text: str, *overrides: str) -> InputError:
    """Return the error of a scenario, wherever on the way to an experiment it comes up."""
    (folder / "s.yaml").write_text(text)
    with pytest.raises(InputError) as caught:
        check(load(folder / "s.yaml", set=overrides))
    return caught.value


def test_the_good_one_is_good(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text(GOOD)
    check(load(tmp_path / "s.yaml"))


# what to replace, by what, and what is said: place, path, and the words
CASES = {
    "misspelt key": ("model:", "modle:", "2:1: modle: unknown key 'modle'; did you mean 'model'?"),
    "misspelt inner key": (
        "device: a100-80gb",
        "devise: a100-80gb",
        "10:7: cluster.nodes[0].devise: unknown key 'devise'; did you mean 'device'?",
    ),
    "wrong dimension": (
        "rtt: {eu: {us: 90 ms}}",
        "rtt: {eu: {us: 90 GB}}",
        "13:20: cluster.network.rtt.eu.us: '90 GB': 'GB' is not a unit of time",
    ),
    "missing unit": (
        "rate: 3 /s",
        "rate: 3",
        "15:20: workload.arrivals.rate: 3 has no unit; write a rate such as 3.2 /s",
    ),
    "nearly a unit": (
        "device: a100-80gb",
        "device: {name: x, like: a100-80gb, memory: 24 GBit}",
        "10:50: cluster.nodes[0].device.memory: '24 GBit': 'GBit' is not a unit of memory;"
        " did you mean 'GB'?",
    ),
    "unknown policy": (
        "routing: least-loaded",
        "routing: lest-loaded",
        "19:12: policies.routing: unknown routing policy 'lest-loaded';"
        " did you mean 'least-loaded'?",
    ),
    "unknown parameter of a policy": (
        "routing: least-loaded",
        "routing: {name: power-of-two, c: 2, by: requests}",
        "19:33: policies.routing.c: routing policy 'power-of-two' has no parameter 'c'",
    ),
    "wrong type of a parameter": (
        "routing: least-loaded",
        "routing: {name: power-of-two, d: many}",
        "19:33: policies.routing.d: routing policy 'power-of-two': d = 'many':",
    ),
    "unknown kind of policy": (
        "routing: least-loaded",
        "rooting: least-loaded",
        "19:3: policies.rooting: unknown key 'rooting'; did you mean 'routing'?",
    ),
    "unknown device": (
        "device: a100-80gb",
        "device: a100-80g",
        "10:15: cluster.nodes[0].device: unknown device 'a100-80g'; did you mean 'a100-80gb'?",
    ),
    "unknown model": (
        "model: llama-3.1-8b",
        "model: lama-3.1-8b",
        "2:8: model: unknown model 'lama-3.1-8b'; did you mean 'llama-3.1-8b'?",
    ),
    "unknown format": (
        "model: llama-3.1-8b",
        "model: llama-3.1-8b\nformat: int-8",
        "3:9: format: unknown format 'int-8'",
    ),
    "unknown region": (
        "region: eu",
        "region: euu",
        "11:15: cluster.nodes[0].region: unknown region 'euu'; did you mean 'eu'?",
    ),
    "missing region": (
        "      region: eu\n",
        "",
        "8:7: cluster.nodes[0]: the region is missing (one of eu, us)",
    ),
    "region only in the network": (
        "rtt: {eu: {us: 90 ms}}",
        "rtt: {eu: {uss: 90 ms}}",
        "'uss' is not one of the regions: eu, us",
    ),
    "no delay between regions": (
        "    rtt: {eu: {us: 90 ms}}\n",
        "    within_rtt: 1 ms\n  clients: [{name: far, region: us}]\n",
        "13:5: cluster.network: no round-trip time between the regions 'eu' and 'us'",
    ),
    "duplicate key": (
        "  requests: 20",
        "  requests: 20\n  requests: 30",
        "18:3: workload.requests: key 'requests' is given twice (first in line 17)",
    ),
    "duplicate node": (
        "  network:",
        "    - {name: gpu-1, device: h100-sxm, region: us}\n  network:",
        "4:3: cluster: two nodes or clients are named 'gpu-1'",
    ),
    "not one of the words": (
        "requests: 20",
        "requests: 20\nengine: {transfer: puhs}",
        "18:20: engine.transfer: 'puhs' is not one of push, relay; did you mean 'push'?",
    ),
    "text for a number": (
        "requests: 20",
        "requests: 20\nseed: one",
        "18:7: seed: input should be a valid integer, got 'one'",
    ),
    "number for a text": ("name: small", "name: 3", "1:7: name: input should be a valid string"),
    "no is not a boolean": (
        "requests: 20",
        "requests: 20\nengine: {prefix_cache: no}",
        "18:24: engine.prefix_cache: input should be a valid boolean, got 'no'",
    ),
    "missing key": ("      device: a100-80gb\n", "", "8:7: cluster.nodes[0]: 'device' is missing"),
    "missing workload": (
        "  arrivals: {rate: 3 /s}\n",
        "",
        "15:3: workload: give either a trace, or arrivals, or closed_loop",
    ),
    "endless": ("  requests: 20\n", "", "1:1: arrivals go on for ever; give workload.requests"),
    "unknown kind of model": (
        "model: llama-3.1-8b",
        "model: {name: m, kind: monolitic, parameters: 1M, macs: 1M}",
        "2:24: model.kind: unknown kind 'monolitic'; did you mean 'monolithic'?",
    ),
    "kind of model missing": (
        "model: llama-3.1-8b",
        "model: {name: m, parameters: 1M, macs: 1M}",
        "2:8: model: 'kind' is missing",
    ),
    "unknown distribution": (
        "output: 100",
        "output: {distribution: lognorml, mean: 3, cv: 1}",
        "16:48: workload.lengths.output.distribution: unknown distribution 'lognorml';"
        " did you mean 'lognormal'?",
    ),
    "mean and scale": (
        "region: eu\n",
        "region: eu\n"
        "      availability: {up: {distribution: weibull, shape: 1, mean: 1 h, scale: 1 h},"
        " down: 1 s}\n",
        "12:26: cluster.nodes[0].availability.up: give exactly one of mean and scale",
    ),
    "outages out of order": (
        "region: eu\n",
        "region: eu\n      availability: {outages: [[9 s, 12 s], [1 s, 2 s]]}\n",
        "12:21: cluster.nodes[0].availability: availability interval 1",
    ),
    "no trace": (
        "  arrivals: {rate: 3 /s}\n  lengths: {input: 512, output: 100}\n",
        "  trace: azure-conv-lik\n",
        "15:10: workload.trace: no file 'azure-conv-lik', and none of this name in traces;"
        " did you mean 'azure-conv-like'?",
    ),
    "no nodes of this name": (
        "policies:",
        "deployments: [{nodes: [cpu-*]}]\npolicies:",
        "18:23: deployments[0].nodes: no node is named 'cpu-*'; did you mean 'gpu-1'?",
    ),
    "misspelt axis": (
        "policies:",
        "compare: {ruting: [random]}\npolicies:",
        "18:11: compare.ruting: unknown key 'ruting'; did you mean 'routing'?",
    ),
    "bad value in an axis": (
        "policies:",
        "compare: {workload.arrivals.rate: [1 /s, 2 GB]}\npolicies:",
        "18:42: workload.arrivals.rate: '2 GB': 'GB' is not a unit of rate",
    ),
    "bad policy in an axis": (
        "policies:",
        "compare: {routing: [random, least-loadd]}\npolicies:",
        "18:29: policies.routing: unknown routing policy 'least-loadd';"
        " did you mean 'least-loaded'?",
    ),
    "axis that leads nowhere": (
        "policies:",
        "compare: {cluster.nodes.cpu.count: [1, 2]}\npolicies:",
        "18:11: compare.\"cluster.nodes.cpu.count\": 'cluster.nodes.cpu.count': no item 'cpu' in a"
        " list of 1 items: gpu; did you mean 'gpu'?",
    ),
    "same alternative twice": (
        "policies:",
        "compare: {routing: [random, random]}\npolicies:",
        "18:10: compare: two alternatives are named 'random'",
    ),
    "axes of different length": (
        "policies:",
        "compare: {cross: false, routing: [random], seed: [1, 2]}\npolicies:",
        "18:10: compare: without 'cross' all keys need as many values, got routing 1, seed 2",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_errors_say_where_what_and_what_was_meant(case: str, tmp_path: Path) -> None:
    old, new, said = CASES[case]
    assert GOOD.count(old) == 1
    message = str(refused(tmp_path, GOOD.replace(old, new)))
    assert said in message
    assert message.startswith(f"{tmp_path / 's.yaml'}:")


def test_all_problems_are_told_in_order(tmp_path: Path) -> None:
    text = GOOD.replace("3 /s", "3 GB").replace("90 ms", "90")
    error = refused(tmp_path, text)
    assert "13:20: cluster.network.rtt.eu.us" in str(error)
    assert ["15:20: workload.arrivals.rate" in note for note in error.__notes__] == [True]


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("sede=3", "--set sede=3: sede: unknown key 'sede'; did you mean 'seed'?"),
        ("seed", "--set seed: no '=' in an override"),
        ("seed=[1", "--set seed=[1:2:1: not valid YAML"),
        ("engine.horizon=3", "--set engine.horizon=3: engine.horizon: 3 has no unit"),
        ("cluster.nodes[2].count=3", "no item '2' in a list of 1 items: gpu"),
        ("cluster.nodes.cpu.count=3", "did you mean 'gpu'?"),
        ("model.name=x", "model is 'llama-3.1-8b', not a mapping"),
        ("cluster..nodes=3", "'cluster..nodes' is not a dotted path"),
        ("=3", "the path is empty"),
        ("routing=random", "unknown key 'routing'"),
    ],
)
def test_bad_overrides_name_the_override(override: str, said: str, tmp_path: Path) -> None:
    assert said in str(refused(tmp_path, GOOD, override))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "s.yaml: the scenario is empty"),
        (b"# nothing\n", "s.yaml: the scenario is empty"),
        (b"- 1\n", "s.yaml:1:1: a scenario is a mapping, not [1]"),
        (b"name: \xff\xfe\n", "s.yaml: not UTF-8 text"),
        (b"name: a\n  model: b\n", "s.yaml:2:8: not valid YAML"),
    ],
)
def test_files_that_are_no_scenario(content: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_bytes(content)
    with pytest.raises(InputError) as caught:
        load(tmp_path / "s.yaml")
    assert said in str(caught.value)


def test_a_scenario_that_does_not_exist() -> None:
    with pytest.raises(InputError, match=r"no file 'quickstrt\.yaml'"):
        load("quickstrt.yaml")


def test_a_damaged_trace_is_found_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("arrival_s,input_tokens,output_tokens\n0,5,5\n1,-5,5\n")
    text = GOOD.replace("  arrivals: {rate: 3 /s}\n", "  trace: t.csv\n")
    text = text.replace("  lengths: {input: 512, output: 100}\n", "")
    assert f"{tmp_path}/t.csv:3:" in str(refused(tmp_path, text))


def test_a_model_that_fits_nowhere_says_what_is_missing(tmp_path: Path) -> None:
    error = refused(tmp_path, GOOD.replace("llama-3.1-8b", "bloom-176b"))
    assert isinstance(error, InfeasibleError)
    assert "2:8: model: 'bloom-176b-fp16' needs 328 GiB for its weights" in str(error)
    # 2 x 80 GiB x 0.9
    assert "have 144 GiB: 184.29 GiB are missing" in str(error)


def test_a_disconnected_cluster_names_its_parts(tmp_path: Path) -> None:
    links = "links: [{between: [gpu-0, home]}]\n  clients: [{name: home, region: eu}]\n"
    error = refused(tmp_path, GOOD.replace("rtt: {eu: {us: 90 ms}}\n", links))
    assert "cluster.network: the network is disconnected" in str(error)
    assert "gpu-0, home | gpu-1" in str(error)


def test_a_link_to_nowhere(tmp_path: Path) -> None:
    links = "links: [{between: [gpu, hom]}]\n  clients: [{name: home, region: eu}]\n"
    error = refused(tmp_path, GOOD.replace("rtt: {eu: {us: 90 ms}}\n", links))
    assert "a link ends at 'hom', which is no node, client or switch; did you mean 'home'?" in str(
        error
    )


PLACEMENT = """
from dataclasses import dataclass
from infsim.policy.interface import Placement, Plan, Stage

@dataclass
class Mine(Placement):
    def place(self, deployment, cluster, costs):
        return {answer}
"""


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ("None", "None is not a Plan"),
        ("1 / 0", "it raised ZeroDivisionError: division by zero"),
        ("Plan((Stage(7, (0,)),), None)", "is on a node that it may not use"),
        ("Plan((Stage(0, (99,)),), None)", "holds operators that do not exist"),
        ("Plan((Stage(0, (0, 1)),), None)", "operators .* are nowhere"),
        ("Plan((Stage(0, tuple(range(32))),), ((0, 0),))", "holds an operator twice"),
        ("Plan((Stage(0, tuple(range(32))),), ((1,),))", "a stage that does not exist"),
        ("Plan((Stage(0, tuple(range(32))),), ())", "it has no pipeline"),
    ],
)
def test_a_placement_that_answers_nonsense(answer: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(PLACEMENT.format(answer=answer))
    (tmp_path / "s.yaml").write_text(GOOD)
    scenario = load(tmp_path / "s.yaml", set=["policies.placement=mine.py:Mine"])
    with pytest.raises(PolicyError, match=f"placement policy '.*mine.py:Mine': .*{said}"):
        build_experiment(scenario, scenario.alternatives()[0])
