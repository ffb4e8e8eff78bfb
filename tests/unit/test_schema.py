"""The scenario language: what it accepts, and that a resolved scenario is the same scenario."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

import infsim
from infsim.engine.experiment import Settings
from infsim.errors import InputError
from infsim.paths import data_folder
from infsim.scenario.build.experiment import build_settings
from infsim.scenario.json_schema import MODELINE, json_schema, json_schema_text
from infsim.scenario.load import load
from infsim.scenario.schema.workload import TraceFormat
from infsim.workload.readers.trace import FORMATS

DOCS = Path(__file__).resolve().parents[2] / "docs"
SHIPPED = sorted(data_folder("scenarios").glob("*.yaml"))

SMALL = """\
name: small
model: llama-3.1-8b
cluster:
  nodes:
    - {name: gpu, count: 2, device: a100-80gb}
workload:
  arrivals: {rate: 3 /s}
  lengths: {input: 512, output: 100}
  requests: 20
"""


def small(**changes: Any) -> dict[str, Any]:
    from infsim.scenario.yaml import parse

    data: dict[str, Any] = parse(SMALL, "small")[0]
    return data | changes


def test_quantities_are_si_inside() -> None:
    spec = load(small(), set=["engine.horizon=10 min", "cluster.nodes.0.uplink=1 Gbit/s"]).spec
    assert spec.workload.arrivals is not None
    assert spec.workload.arrivals.rate == 3.0
    assert spec.engine.horizon == 600.0
    assert spec.cluster.nodes[0].uplink == 125e6


def test_a_scenario_is_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        load(small()).spec.seed = 3


def test_public_names_are_there() -> None:
    assert infsim.load is load
    assert isinstance(infsim.load(small()), infsim.Scenario)
    assert set(infsim.__all__) <= set(dir(infsim))
    with pytest.raises(AttributeError, match="no attribute 'lode'"):
        _ = infsim.lode


# --- what can be written --------------------------------------------------------------------

AVAILABILITY = [
    "always",
    {"up": "4 h", "down": "10 min"},
    {"up": {"distribution": "weibull", "mean": "4 h", "shape": 0.6}, "down": "10 min"},
    {
        "up": {"distribution": "lognormal", "median": "1 h", "sigma": 1.5},
        "down": {"distribution": "exponential", "mean": "10 min"},
        "stationary": False,
    },
    {"outages": [["10 s", "20 s"], ["1 min", "2 min"]]},
]
LENGTHS = [
    {"input": 5, "output": {"distribution": "constant", "tokens": 7}},
    {
        "input": {"distribution": "uniform", "low": 5, "high": 9},
        "output": {"distribution": "lognormal", "mean": 200, "cv": 1.5, "high": 1000},
    },
    {
        "input": {"distribution": "quantiles", "levels": [0, 0.5, 1], "values": [1, 10, 100]},
        "output": 3,
    },
]


def each(*path: str | int, values: list[Any]) -> list[Any]:
    """Return small scenarios with each of these values at a path."""
    found = []
    for value in values:
        data = small()
        inner: Any = data
        for step in path[:-1]:
            inner = inner[step]
        inner[path[-1]] = value
        found.append(data)
    return found


VALID = [
    small(),
    *each("cluster", "nodes", 0, "availability", values=AVAILABILITY),
    *each("workload", "lengths", values=LENGTHS),
    *each("workload", "sessions", values=[{}, {"turns": 2, "think_time": "10 s"}]),
    *each(
        "cluster",
        "nodes",
        0,
        "device",
        values=[
            {"name": "mine", "like": "h100-sxm", "memory": "64 GiB"},
            {
                "name": "x",
                "memory": "8 GiB",
                "bandwidth": "100 GB/s",
                "peak": {"fp32": "1 TFLOP/s"},
            },
        ],
    ),
    small(model={"name": "m", "kind": "monolithic", "parameters": "25M", "macs": "4.1G"}),
    small(
        model={
            "name": "stream",
            "kind": "graph",
            "operators": {"a": {"macs": "1G", "output_values": 10}, "b": {"parameters": "1M"}},
            "edges": [["a", "b"]],
        }
    ),
    small(format={"name": "mine", "like": "w4a16", "kv_bits": 8}),
    small(deployments=[{"format": "w8a8"}, {"name": "big", "nodes": ["gpu-0"]}]),
    small(deployments=[{"nodes": {"regions": ["local"]}}]),
    small(compare={"routing": ["random", {"name": "power-of-two", "d": 3}]}),
    small(compare={"workload.arrivals.rate": ["1 /s", "0.1 /s"], "routing": ["random"]}),
    small(compare={"engine.horizon": ["0.5 min", "90 s"], "cross": False, "seed": [1, 2]}),
    small(compare={"slo": [{"ttft": "0.5 min"}, {"ttft": "1 s", "tpot": "50 ms"}]}),
    small(compare={"list": [{"name": "a"}, {"name": "b", "seed": 3, "routing": "random"}]}),
    small(slo={"ttft": "2 s"}, engine={"warmup": "auto", "sharing": "max-min"}, seed=7),
    small(
        cluster={
            "regions": {"eu": {"carbon": "56 g/kWh", "price": "0.2 EUR/kWh", "pue": 1.2}, "us": {}},
            "nodes": [
                {"name": "a", "device": "h100-sxm", "region": "eu"},
                {"name": "b", "device": "h100-sxm", "region": "us", "count": 3},
            ],
            "network": {"within_rtt": "1 ms", "rtt": {"eu": {"us": "90 ms"}}, "jitter": 0.1},
            "clients": [{"name": "eu", "region": "eu", "weight": 3}, {"node": "b-*"}],
        }
    ),
    small(
        cluster={
            "nodes": [{"name": "a", "device": "h100-sxm", "count": 2}],
            "network": {
                "switches": ["s"],
                "links": [
                    {"between": ["a", "s"], "delay": "1 ms", "bandwidth": "1 Gbit/s"},
                    {"between": ["s", "home"], "delay": "9 ms"},
                ],
            },
            "clients": [{"name": "home"}],
        }
    ),
]


@pytest.mark.parametrize("data", VALID)
def test_a_resolved_scenario_is_the_same_scenario(data: dict[str, Any], tmp_path: Path) -> None:
    scenario = load(data)
    (tmp_path / "scenario.yaml").write_text(scenario.to_yaml())
    again = load(tmp_path / "scenario.yaml")
    assert again.to_yaml() == scenario.to_yaml()
    assert again.spec == load(scenario.to_dict()).spec
    assert [a.spec for a in again.alternatives()] == [a.spec for a in scenario.alternatives()]
    assert [a.name for a in again.alternatives()] == [a.name for a in scenario.alternatives()]


@given(st.integers(1, 10**6), st.floats(1e-3, 1e6), st.integers(0, 2**40))
def test_resolved_numbers_are_exact(rtt_us: int, rate: float, seed: int) -> None:
    network = {"within_rtt": f"{rtt_us} us"}
    data = small(seed=seed, cluster=small()["cluster"] | {"network": network})
    data["workload"]["arrivals"]["rate"] = f"{rate!r} /s"
    assert load(load(data).to_dict()).spec == load(data).spec


def test_files_become_absolute(tmp_path: Path) -> None:
    (tmp_path / "my.csv").write_text("arrival_s,input_tokens,output_tokens\n0,5,5\n")
    (tmp_path / "mine.py").write_text("")
    text = SMALL.replace("arrivals: {rate: 3 /s}", "trace: my.csv").replace("  lengths", "  #")
    (tmp_path / "s.yaml").write_text(
        text + "compare:\n  routing: [mine.py:A, random]\n  workload.trace: [my.csv]\n"
    )
    data = load(tmp_path / "s.yaml").to_dict()
    assert data["workload"]["trace"] == str(tmp_path / "my.csv")
    assert data["compare"]["routing"] == [f"{tmp_path}/mine.py:A", "random"]
    assert data["compare"]["workload.trace"] == [str(tmp_path / "my.csv")]
    # and do not change the names of alternatives
    assert [a.name for a in load(data).alternatives()] == [
        "A, trace=my.csv",
        "random, trace=my.csv",
    ]


# --- comparisons ----------------------------------------------------------------------------


def names(**compare: Any) -> list[str]:
    return [a.name for a in load(small(compare=compare)).alternatives()]


def test_without_a_comparison_there_is_one_alternative() -> None:
    (only,) = load(small()).alternatives()
    assert (only.name, only.choices) == ("small", {})


def test_axes_are_crossed_in_order() -> None:
    rates = ["1 /s", "2 /s"]
    assert names(routing=["random", "round-robin"], **{"workload.arrivals.rate": rates}) == [
        "random, rate=1 /s",
        "random, rate=2 /s",
        "round-robin, rate=1 /s",
        "round-robin, rate=2 /s",
    ]


def test_or_go_together() -> None:
    assert names(
        cross=False, routing=["random", "round-robin"], recovery=["restart", "replay"]
    ) == [
        "random, restart",
        "round-robin, replay",
    ]


def test_alternatives_have_their_values_and_choices() -> None:
    spec = {"routing": [{"name": "power-of-two", "d": 4}], "engine.prefix_cache": [True]}
    (one,) = load(small(compare=spec)).alternatives()
    assert one.spec.policies.routing == {"name": "power-of-two", "d": 4}
    assert one.spec.engine.prefix_cache is True
    assert one.spec.compare is None
    assert one.choices == {"routing": "power-of-two(d=4)", "engine.prefix_cache": "true"}


def test_a_list_of_alternatives() -> None:
    listed = [
        {"name": "plain"},
        {"name": "fast", "cluster.nodes.gpu.device": "h100-sxm", "batching": "static"},
    ]
    plain, fast = load(small(compare={"list": listed})).alternatives()
    assert plain.spec.cluster.nodes[0].device == "a100-80gb"
    assert fast.spec.cluster.nodes[0].device == "h100-sxm"
    assert fast.spec.policies.batching == "static"


# --- overrides ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "path", "value"),
    [
        ("seed=7", "seed", 7),
        ("slo.ttft=2 s", "slo.ttft", 2.0),
        ("cluster.nodes[0].count=5", "cluster.nodes.0.count", 5),
        ("cluster.nodes.0.count=5", "cluster.nodes.0.count", 5),
        ("cluster.nodes.gpu.count=5", "cluster.nodes.0.count", 5),
        ('cluster.regions."my.region".pue=1.2', "cluster.regions.my.region", None),
        ("question=why = because", "question", "why = because"),
        ("policies.routing={name: power-of-two, d: 3}", "policies.routing.d", 3),
        ("workload.requests=2k", "workload.requests", 2000),
    ],
)
def test_set(text: str, path: str, value: Any) -> None:
    found: Any = load(small(), set=[text]).spec
    if value is None:
        assert list(found.cluster.regions) == ["my.region"]
        return
    for step in path.split("."):
        if isinstance(found, tuple):
            found = found[int(step)]
        else:
            found = found[step] if isinstance(found, dict) else getattr(found, step)
    assert found == value


def test_a_parameter_of_a_policy_given_by_name() -> None:
    data = small(policies={"routing": "power-of-two"})
    spec = load(data, set=["policies.routing.d=4"]).spec
    assert spec.policies.routing == {"name": "power-of-two", "d": 4}


def test_later_overrides_win_and_the_scenario_stays_as_it_is() -> None:
    scenario = load(small())
    assert load(scenario, set=["seed=1", "seed=2"]).spec.seed == 2
    assert load(scenario, set=["seed=1"], seed=3, replications=4).spec.seed == 3
    assert scenario.spec.seed == 0


def test_all_trace_formats_can_be_named() -> None:
    assert set(get_args(TraceFormat)) == {"auto", "profile", "servegen", *FORMATS}


def test_engine_settings_are_those_of_the_engine() -> None:
    """Defaults of the language and of the engine cannot drift apart."""
    scenario = load(small())
    assert build_settings(scenario.alternatives()[0]) == Settings()


# --- JSON Schema ----------------------------------------------------------------------------


def test_the_published_schema_is_current() -> None:
    published = (DOCS / "scenario.schema.json").read_text(encoding="utf-8")
    assert published == json_schema_text(), "run: infsim schema > docs/scenario.schema.json"


@pytest.mark.parametrize("data", VALID)
def test_valid_scenarios_fit_the_json_schema(data: dict[str, Any]) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    jsonschema.Draft202012Validator(json_schema()).validate(data)


@pytest.mark.parametrize(
    "change",
    [{"sede": 3}, {"engine": {"horizon": "3 GiB"}}, {"engine": {"transfer": "pull"}}, {"model": 3}],
)
def test_what_is_invalid_does_not(change: dict[str, Any]) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    assert list(jsonschema.Draft202012Validator(json_schema()).iter_errors(small(**change)))
    with pytest.raises(InputError):
        load(small(**change))


def test_every_key_of_the_schema_is_described() -> None:
    schema = json_schema()
    parts = [schema, *schema["$defs"].values()]
    bare = [
        f"{part['title']}.{key}"
        for part in parts
        for key, entry in part.get("properties", {}).items()
        if "description" not in entry | schema["$defs"].get(entry.get("$ref", "")[8:], {})
        and "const" not in entry
    ]
    assert bare == []
    json.dumps(schema, allow_nan=False)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_scenarios_carry_the_modeline_and_a_question(path: Path) -> None:
    first = path.read_text(encoding="utf-8").splitlines()[0]
    assert first == f"{MODELINE}../docs/scenario.schema.json"
    assert load(path).spec.question
