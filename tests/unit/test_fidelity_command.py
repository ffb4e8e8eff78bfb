"""``infsim fidelity``: the table of recorded runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from infsim.cli.fidelity_text import COLUMNS
from infsim.paths import data_folder
from infsim.study.inputs import input_files
from tests.command import Command
from tests.recordings import small
from tests.unit.test_fidelity import recorded, write

LATENCIES = ("TTFT", "TPOT", "E2E")


def test_the_table_has_every_run_and_figure(infsim: Command) -> None:
    ended = infsim("fidelity")
    assert ended.code == 0
    assert ended.err == ""
    blocks = ended.out.split("\n\n")
    assert [b.partition("\n")[0] for b in blocks if "capacity bias" in b] == [
        "llama.cpp F16", "llama.cpp Q4_0", "llama.cpp Q8_0",
        "pipeline fp32", "pipeline fp16", "pipeline int8", "torch fp32",
    ]  # fmt: skip
    tables = [block.splitlines() for block in blocks if "MAPE\n" in block]
    assert [line.split()[3:] for line, *_ in tables] == [list(COLUMNS)] * 7
    assert [len(table) - 1 for table in tables] == [9, 9, 9, 12, 12, 12, 6]
    for line in (line for table in tables for line in table[1:]):
        assert sum(cell in LATENCIES for cell in line.split()) == 1
        *errors, mape = map(float, line.split()[-6:])
        assert mape >= 0
        assert mape < 50 > max(map(abs, errors))
    for figure in ("detection", "weights loaded", "replay", "mean delay of requests"):
        assert ended.out.count(figure) == 3
    assert "casys-kaist/LLMServingSim" in ended.out
    assert infsim("fidelity").out == ended.out


def test_json_has_all_figures_and_the_runs_that_are_given(infsim: Command, tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.mkdir()
    ended = infsim("fidelity", "--json", "--run", small(own), "--figures", "drawn")
    found = json.loads(ended.out)
    names = [run["name"] for run in found]
    assert names.count("llama.cpp F16") == 2
    assert len(names) == 8
    for run in found:
        assert len(run["figures"]) >= 18
        for name, row in run["figures"].items():
            if not name.endswith("MAPE"):
                assert row["error"] == pytest.approx(row["simulated"] / row["real"] - 1)
    assert found[0]["capacity_bias"] == found[0]["figures"]["capacity (requests/s)"]["error"]
    for run in found:
        if "pipeline" in run["name"]:
            assert abs(run["capacity_bias"]) < (0.04 if "fp16" in run["name"] else 0.02)
    drawn = {path.name for path in (tmp_path / "drawn").iterdir()}
    assert len(drawn) == 8
    assert {"llama-cpp-f16.pdf", "llama-cpp-f16-2.pdf", "pipeline-int8.pdf"} <= drawn


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--run", "nowhere"], "nowhere: no such folder"),
        (["--run", "."], ".: no recorded run in it (a run of vLLM has meta.json and"),
        (["--json", "import", "."], "options belong behind the command"),
    ],
)
def test_what_cannot_be_compared_ends_with_2(
    infsim: Command, arguments: list[str], said: str
) -> None:
    ended = infsim("fidelity", *arguments)
    assert ended.code == 2
    assert ended.out == ""
    assert said in ended.err


def test_a_damaged_run_ends_with_2(infsim: Command, tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.mkdir()
    (small(own) / "requests.parquet").write_bytes(b"PAR1")
    ended = infsim("fidelity", "--run", own)
    assert ended.code == 2
    assert ended.out == ""
    assert "own/requests.parquet: cannot be read" in ended.err


def test_a_scenario_that_says_recorded_does_not_read_the_recordings() -> None:
    assert input_files({"name": "recorded", "tags": ["accuracy", "churn", "energy"]}) == set()


@pytest.mark.parametrize("fitted", [False, True])
def test_kernels_of_ones_own_are_used(infsim: Command, tmp_path: Path, fitted: bool) -> None:
    """What `calibrate run` wrote, or `calibrate fit` made of it: those that ship, in this case."""
    serving = {"model": "qwen2.5-0.5b", "device": "epyc-9655-core"}
    write(tmp_path, recorded(**serving))
    options = [word for name, value in serving.items() for word in (f"--{name}", value)]
    kernels = data_folder("calibration/epyc-9655-core")
    with_kernels = ["--kernels", kernels / "costs.json" if fitted else kernels]
    shipped = infsim("fidelity", "import", tmp_path, *options, "--json")
    own = infsim("fidelity", "import", tmp_path, *options, *with_kernels, "--json")
    assert own.code == 0
    for name, row in json.loads(own.out).items():
        assert row["error"] == pytest.approx(json.loads(shipped.out)[name]["error"], abs=0.02)
        assert abs(row["error"]) < 0.02


def test_prompts_are_read(infsim: Command, tmp_path: Path) -> None:
    write(tmp_path, recorded())
    ended = infsim("fidelity", "import", tmp_path, "--prompts", "none.jsonl")
    assert ended.code == 2
    assert "none.jsonl: cannot be read" in ended.err
