"""Costs of whole steps of an engine: measured, fitted, kept in a file, used by scenarios."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infsim.calibrate.fit.engine_steps import Steps, fit, write_steps
from infsim.calibrate.llama_cpp import bench
from infsim.calibrate.llama_cpp.bench import LOADS, StepBench, UnsteadyError
from infsim.calibrate.llama_cpp.clock import Elasticity, Steadiness
from infsim.calibrate.llama_cpp.library import Piece
from infsim.calibrate.llama_cpp.measure import Trace, left_out
from infsim.cli.main import main
from infsim.cluster.cluster import Cluster
from infsim.cluster.device import load_device
from infsim.cluster.network import Network
from infsim.cluster.node import Client, Node, Site
from infsim.cost.costs import Costs
from infsim.cost.engine_steps import Coefficients, EngineStepCost, EngineSteps
from infsim.cost.sources import read_costs
from infsim.errors import InputError
from infsim.model.catalog import load, load_format
from infsim.model.deployment import Deployment
from infsim.scenario.build import check
from infsim.scenario.load import load as load_scenario

KNOWN = Coefficients(
    tokens_s=tuple(1e-3 + 1e-4 * n for n in range(49)),
    decodes_s=tuple(8e-4 + 2e-4 * n for n in range(9)),
    scan_s=(0.0, 1e-6, 2e-6, 5e-6, 6e-6),
    decode_scan_s=(1e-6, 2e-6, 4e-6),
    decode_s=1e-5, final_s=3e-5, pair_s=1e-8,
)  # fmt: skip
STEPS = EngineSteps("m2-ultra", "qwen2.5-0.5b", "w4a16", "made up", KNOWN, {"load 0.5": 0.01})


def test_a_step_is_the_sum_of_its_parts() -> None:
    cost = EngineStepCost(KNOWN, "made up")
    # 20 + 3 tokens, 210 + 140 pairs; 160 entries of the cache are at 2.5 times 64
    expected = 3.3e-3 + 23 * 3.5e-6 + 3e-5 + 3e-5 + 350e-8
    assert cost.step_s(20, 210, 20, 3, 140, 4) == pytest.approx(expected, rel=1e-12)
    assert (cost.calls, cost.extrapolated) == (1, 0)
    assert cost.step_s(0, 0, 0, 2, 96, 2) == pytest.approx(1.2e-3 + 2 * 3e-6, rel=1e-12)


@given(st.integers(1, 12), st.integers(1, 400))
def test_a_line_of_decodes_is_the_step(sequences: int, context: int) -> None:
    cost = EngineStepCost(KNOWN, "made up")
    base_s, entry_s, limit = cost.decode_line(sequences, context)
    assert limit >= context
    for at in np.linspace(context, limit, 5):
        step_s = cost.step_s(0, 0, 0, sequences, at, sequences)
        assert step_s == pytest.approx(base_s + entry_s * at, rel=1e-12)


def test_beyond_the_tables_is_on_their_line_and_counted() -> None:
    cost = EngineStepCost(KNOWN, "made up")
    base_s = cost.step_s(48, 0, 0, 0, 0, 0)
    assert cost.extrapolated == 0
    assert cost.step_s(148, 0, 0, 0, 0, 0) == pytest.approx(base_s + 100e-4)
    assert cost.step_s(0, 0, 0, 18, 0, 18) == pytest.approx(8e-4 + 18 * 2e-4 + 18e-6)
    # 384 entries are 6 times 64: two more, by 2e-6 each as in the second half
    assert cost.step_s(1, 0, 384, 0, 0, 0) == pytest.approx(1.1e-3 + 10e-6)
    assert (cost.calls, cost.extrapolated) == (4, 3)
    falling = EngineStepCost(replace(KNOWN, decodes_s=(0.0, 3e-3, 2e-3, 1e-3)), "made up")
    assert falling.step_s(0, 0, 0, 50, 0, 50) >= 1e-3


def test_the_file_holds_what_was_written(tmp_path: Path) -> None:
    write_steps(STEPS, tmp_path / "steps.json")
    assert read_costs(tmp_path / "steps.json") == STEPS


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda data: data.pop("model"), "no 'model' in it"),
        (lambda data: data["coefficients"].pop("scan_s"), "no 'scan_s' in it"),
        (lambda data: data["coefficients"].update(pair_s="x"), "could not convert"),
        (lambda data: data["coefficients"].update(tokens_s=3), "no list"),
        (lambda data: data["coefficients"].update(tokens_s=[1]), "two entries"),
        (lambda data: data.update(coefficients=4), "not steps of an engine"),
        (lambda data: data.update(errors=4), "not steps of an engine"),
    ],
)
def test_a_damaged_file_is_refused_with_its_name(tmp_path: Path, change: Any, said: str) -> None:
    data = json.loads(json.dumps(STEPS.to_json()))
    change(data)
    path = tmp_path / "steps.json"
    path.write_text(json.dumps(data))
    with pytest.raises(InputError, match=said) as caught:
        read_costs(path)
    assert "steps.json" in str(caught.value)


def test_steps_hold_for_the_whole_model_on_that_device_only() -> None:
    nodes = tuple(Node(name, load_device(name)) for name in ("m2-ultra", "m1-max"))
    cluster = Cluster(nodes, (Client("c"),), {"default": Site("default")}, Network.full_mesh(3))
    costs = Costs(cluster, STEPS)

    def priced(node: int, operators: Sequence[int] = (), **changed: str) -> bool:
        facts = {"model": "qwen2.5-0.5b", "form": "w4a16"} | changed
        model = load(facts["model"])
        deployment = Deployment("d", model, load_format(facts["form"]), (0, 1))
        span = operators or range(len(model.graph.operators))
        return isinstance(costs.step(node, deployment, span), EngineStepCost)

    assert priced(0)
    assert not priced(1)
    assert not priced(0, (0, 1, 2))
    assert not priced(0, form="fp16")
    assert not priced(0, model="llama-3.2-1b")
    assert costs.power(0) is None


SCENARIO = """
name: laptops
model: qwen2.5-0.5b
format: w4a16
cluster:
  nodes: [{name: laptop, device: m2-ultra}]
workload: {trace: azure-conv-like, requests: 20, rate: 0.5 /s}
"""


def test_a_scenario_takes_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "scenario.yaml").write_text(SCENARIO)
    write_steps(STEPS, tmp_path / "steps.json")
    arguments = ["run", str(tmp_path / "scenario.yaml"), "--out", str(tmp_path / "out")]
    with pytest.raises(SystemExit) as ended:
        main([*arguments, "--set", f"costs={tmp_path / 'steps.json'}"])
    assert not ended.value.code, capsys.readouterr().err
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert "made up" in json.dumps(manifest)


@pytest.mark.parametrize(
    "given", ["format=fp16", "model=llama-3.2-1b", "cluster.nodes.0.device=m1-max"]
)
def test_steps_that_price_nothing_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], given: str
) -> None:
    (tmp_path / "scenario.yaml").write_text(SCENARIO + "costs: steps.json\n")
    write_steps(STEPS, tmp_path / "steps.json")
    arguments = ["validate", str(tmp_path / "scenario.yaml")]
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert not ended.value.code
    with pytest.raises(SystemExit) as ended:
        main([*arguments, "--set", given])
    assert ended.value.code == 2
    out = tmp_path / "out"
    with pytest.raises(SystemExit) as ended:
        main(["run", *arguments[1:], "--set", given, "--out", str(out)])
    assert ended.value.code == 2
    assert not out.exists()
    said = capsys.readouterr().err
    assert said.count("scenario.yaml:8") == 2
    assert said.count("qwen2.5-0.5b in w4a16 on one m2-ultra, and the scenario has none") == 2


def test_one_alternative_that_they_price_is_enough(tmp_path: Path) -> None:
    (tmp_path / "scenario.yaml").write_text(
        SCENARIO + "costs: steps.json\ncompare: {format: [fp16, w4a16]}\n"
    )
    write_steps(STEPS, tmp_path / "steps.json")
    check(load_scenario(tmp_path / "scenario.yaml"))


class Pretended:
    """An engine, and the clock by which it takes its time."""

    elasticity = Elasticity(1.0, 0.0)

    def __init__(self, moved: float = 0.0) -> None:
        self.step_s = 0.0
        self.moved = moved

    def step(self, pieces: Sequence[Piece]) -> list[int]:
        self.step_s = 1e-3 + 1e-4 * sum(len(piece.tokens) for piece in pieces)
        return [0 for piece in pieces if piece.wants_token]

    def forget(self, sequence: int, start: int = 0) -> None: ...
    def start(self) -> None: ...
    def refresh(self) -> None: ...
    def watch(self) -> None: ...
    def stop(self, tokens: int) -> float:
        return self.step_s

    def watched(self) -> Steadiness:
        return Steadiness(1.0, self.moved, 6e-3)

    def readings(self) -> Any:
        return np.ones((100, 3))


def test_traces_are_served_and_their_cost_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "REQUESTS", 80)
    said: list[str] = []
    pretended = Pretended()
    stand = StepBench(pretended, 100, pretended, say=said.append)
    traces = [Trace(*found) for found in stand.measure(repeats=2)]
    assert [trace.load for trace in traces] == [*LOADS, *LOADS]
    errors = left_out(traces)
    assert errors.keys() == {"load 0.2", "load 0.5", "load 0.8", "all at once"}
    assert max(map(abs, errors.values())) < 0.01
    cost = EngineStepCost(fit(Steps.of([s for trace in traces for s in trace.steps])), "")
    assert cost.step_s(30, 465, 30, 4, 100, 5) == pytest.approx(4.4e-3, rel=0.02)
    assert any("requests/s" in line for line in said)


def test_a_machine_that_does_not_stand_still_is_given_up() -> None:
    said: list[str] = []
    restless = Pretended(moved=0.4)
    stand = StepBench(restless, 100, restless, say=said.append)
    with pytest.raises(UnsteadyError, match="close other programs"):
        stand.serve(stand.trace(1.0, 10, 1), 1)
    assert len(stand.refused) == bench.ATTEMPTS


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--tokens", "0"], "must be positive"),
        (["--tokens", "4"], "--tokens must be --sequences at least, got 4 and 8"),
    ],
)
def test_options_that_make_no_sense_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], said: str
) -> None:
    words = "--device m2-ultra --model qwen2.5-0.5b --format w4a16"
    given = ["calibrate", "llama-cpp", "none.gguf", "--out", str(tmp_path / "out"), *words.split()]
    with pytest.raises(SystemExit) as ended:
        main([*given, *options])
    assert ended.value.code == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_the_library_is_asked_for_where_it_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("infsim.calibrate.llama_cpp.library._release", lambda: None)
    words = "--device m2-ultra --model qwen2.5-0.5b --format w4a16"
    given = ["calibrate", "llama-cpp", "none.gguf", "--out", str(tmp_path / "out"), *words.split()]
    with pytest.raises(SystemExit) as ended:
        main(given)
    assert ended.value.code == 2
    assert "infsim[llama-cpp]" in capsys.readouterr().err
