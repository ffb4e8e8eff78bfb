"""The command line: what goes where, and how it ends."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from infsim import __version__
from infsim.cli.main import main
from infsim.paths import data_folder

TEXT = """\
name: small
question: Which router is best?
model: llama-3.1-8b
cluster:
  nodes:
    - {name: gpu, count: 2, device: a100-80gb}
workload:
  arrivals: {rate: 3 /s}
  lengths: {input: 512, output: 20}
  requests: 20
policies: {placement: uniform}
compare: {routing: [random, least-loaded]}
output: {figures: []}
"""


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "small.yaml"
    path.write_text(TEXT)
    return path


def infsim(*arguments: object) -> int:
    with pytest.raises(SystemExit) as end:
        main([str(argument) for argument in arguments])
    code = end.value.code
    assert code is None or isinstance(code, int)
    return code or 0


def test_version_and_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert infsim("--version") == 0
    assert capsys.readouterr().out == f"{__version__}\n"
    assert infsim("--help") == 0
    assert "validate" in capsys.readouterr().out


@pytest.mark.parametrize("command", [["run"], []])
def test_run(command: list[str], file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert infsim(*command, file, "--out", "results") == 0
    said = capsys.readouterr()
    assert "Which router is best?" in said.out
    assert "least-loaded" in said.out
    assert said.err == "results in results\n"
    assert (Path("results") / "manifest.json").is_file()


def test_results_are_never_overwritten_unasked(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert infsim(file) == infsim(file) == 0
    assert capsys.readouterr().err == "results in runs/small\nresults in runs/small-2\n"


def test_stdout_is_the_result_and_the_same_for_the_same_seed(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outputs = []
    for seed in (1, 1, 2):
        assert infsim(file, "--json", "--seed", seed, "--quiet") == 0
        said = capsys.readouterr()
        outputs.append(said.out)
        assert said.err == ""
        assert json.loads(said.out)["alternatives"] == ["random", "least-loaded"]
    assert outputs[0] == outputs[1] != outputs[2]


def test_options_reach_the_scenario(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--set", "workload.requests=5", "--set", "seed=4", "--replications", 2, "--json"]
    assert infsim("run", file, *options) == 0
    found = json.loads(capsys.readouterr().out)
    assert len(found["runs"]) == 4
    assert {row["requests"]["value"] for row in _rows(found)} == {5.0}


def _rows(found: dict[str, Any]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = found["summary"]["rows"]
    return rows


def test_both_engines_agree(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    latencies = []
    for engine in ("fast", "reference"):
        assert infsim(file, "--engine", engine, "--json", "-q") == 0
        rows = _rows(json.loads(capsys.readouterr().out))
        latencies.append([row["e2e_mean_s"]["value"] for row in rows])
    assert latencies[0] == pytest.approx(latencies[1], rel=1e-9)


def test_timelines(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert infsim(file, "--out", "r", "--timeline") == 0
    assert len(list(Path("r/timelines").iterdir())) == 2
    assert infsim("timeline", "r", "--alternative", "least-loaded", "--out", "t.json") == 0
    assert capsys.readouterr().out.endswith("t.json\n")
    assert json.loads(Path("t.json").read_text())["traceEvents"]


def test_rerun_gives_equal_digests(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert infsim(file, "--out", "r", "--seed", 3) == 0
    capsys.readouterr()
    assert infsim("rerun", "r") == 0
    assert capsys.readouterr().out == "equal: all digests are the same\n"


def test_rerun_tells_what_differs(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert infsim(file, "--out", "r") == 0
    resolved = Path("r/scenario.yaml")
    resolved.write_text(resolved.read_text().replace("seed: 0", "seed: 1"))
    capsys.readouterr()
    assert infsim("rerun", "r", "--json") == 1
    found = json.loads(capsys.readouterr().out)
    assert not found["equal"]
    assert "summary" in found["differing"]


def test_validate(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert infsim("validate", file) == 0
    assert capsys.readouterr().out == f"{file}: valid; alternatives: 2, replications: 1\n"
    assert infsim("validate", file, "--resolved", "--seed", 9) == 0
    Path("again.yaml").write_text(capsys.readouterr().out)
    assert infsim("validate", "again.yaml", "--resolved") == 0
    assert capsys.readouterr().out == Path("again.yaml").read_text()


def test_schema(capsys: pytest.CaptureFixture[str]) -> None:
    assert infsim("schema") == 0
    assert json.loads(capsys.readouterr().out)["title"] == "infsim scenario"


@pytest.mark.parametrize(
    ("what", "name"),
    [
        ("policies", "least-loaded"),
        ("models", "llama-2-70b"),
        ("formats", "w4a16"),
        ("devices", "h100-sxm"),
        ("traces", "azure-conv-like"),
        ("access", "home-uk"),
        ("accuracy", None),
        ("scenarios", None),
    ],
)
def test_list(what: str, name: str | None, capsys: pytest.CaptureFixture[str]) -> None:
    assert infsim("list", what) == 0
    text = capsys.readouterr().out
    assert infsim("list", what, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert name is None or name in {row["name"] for row in found}
    assert len(text.splitlines()) == len(found) + 1


def test_shipped_scenarios_are_found_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    for path in data_folder("scenarios").glob("*.yaml"):
        assert infsim("validate", path.stem) == 0


# --- bad ends -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["rnu", "small.yaml"], "'rnu' is neither a command nor a scenario; did you mean 'run'?"),
        (["none.yaml"], "no file 'none.yaml'"),
        (["run", "small.yaml", "--set", "sede=3"], "did you mean 'seed'?"),
        (["validate", "small.yaml", "--set", "model=lama-2-7b"], "did you mean 'llama-2-7b'?"),
        (["run", "small.yaml", "--sed", "3"], "No such option: --sed"),
        (["run", "small.yaml", "--seed", "-3"], "--seed"),
        (["run", "small.yaml", "--engine", "slow"], "--engine"),
        (["run"], "Missing argument"),
        (["list", "device"], "devices"),
        (["rerun", "nowhere"], "is no run folder"),
        (["timeline", "nowhere"], "is no run folder"),
    ],
)
def test_bad_input_ends_with_2_and_a_reason(
    arguments: list[str], said: str, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert infsim(*arguments) == 2
    printed = capsys.readouterr()
    assert said in printed.err
    assert printed.out == ""


def test_an_unwritable_folder_is_found_before_the_run(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("taken").write_text("not a folder")
    assert infsim(file, "--out", "taken/r") == 2
    assert "taken" in capsys.readouterr().err


ROUTER = """
from dataclasses import dataclass
from infsim.policy.interface import Router

@dataclass
class Mine(Router):
    def route(self, request, view):
        if request.request_id == 3:
            {what}
        return view.replicas[0]
"""


@pytest.mark.parametrize(
    ("what", "said"), [("return 'home'", "home"), ("return 1 / 0", "division by zero")]
)
def test_a_policy_that_fails_ends_with_3(
    what: str, said: str, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("mine.py").write_text(ROUTER.format(what=what))
    assert infsim(file, "--set", "compare.routing=[mine.py:Mine]") == 3
    printed = capsys.readouterr()
    assert "Mine" in printed.err
    assert "request 3" in printed.err
    assert said in printed.err
    assert "Traceback" not in printed.err
    assert not Path("runs/small").exists()


def test_where_a_policy_raised(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("mine.py").write_text(ROUTER.format(what="return 1 / 0"))
    assert infsim(file, "--set", "compare.routing=[mine.py:Mine]") == 3
    assert "mine.py:9: return 1 / 0" in capsys.readouterr().err


def test_ctrl_c_keeps_what_there_is_and_ends_with_130(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("mine.py").write_text(ROUTER.format(what="raise KeyboardInterrupt"))
    assert infsim(file, "--out", "r", "--set", "compare.routing=[random, mine.py:Mine]") == 130
    assert "Interrupted: 1 of 2 runs have ended" in capsys.readouterr().out
    assert json.loads(Path("r/manifest.json").read_text())["interrupted"] is True


def test_ctrl_c_elsewhere_ends_with_130_too(
    file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(scenario: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("infsim.scenario.build.check", interrupted)
    assert infsim("validate", file) == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_all_problems_of_a_scenario_are_told(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file.write_text(TEXT.replace("3 /s", "3").replace("count: 2", "count: two"))
    assert infsim("validate", file) == 2
    lines = capsys.readouterr().err.splitlines()
    assert [line.startswith(f"error: {file}:") for line in lines] == [True, True]
