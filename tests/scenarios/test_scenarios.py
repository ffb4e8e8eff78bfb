"""Every scenario that infsim ships: valid as it is, and it runs when it is made small."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import infsim
from infsim.paths import data_folder
from infsim.results.recorder import Status
from infsim.scenario.load import load
from infsim.study.rerun import rerun
from infsim.study.study import Study

FILES = sorted(data_folder("scenarios").glob("*.yaml"))

# What makes a scenario small, beside one replication. A new scenario needs an entry.
SMALL: dict[str, list[str]] = {
    "quickstart": ["workload.requests=60"],
    "community-70b": [
        "workload.duration=4 min",
        "compare.list.ilp-latency.placement={name: ilp-latency, replicas: 1, node_limit: 1}",
        "compare.list.ilp-bottleneck.placement={name: ilp-bottleneck, replicas: 2, node_limit: 1}",
    ],
    "nearby-vs-far": ["workload.requests=15"],
    "idn-tiers": ["workload.duration=0.5 s"],
    "stream-dag": ["workload.requests=40"],
}

each = pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)


def small(file: Path, replications: int = 1, out: Path | None = None) -> Study:
    assert file.stem in SMALL, f"say in SMALL what makes {file.name} small"
    changes = [*SMALL[file.stem], "output.figures=[]"]
    return infsim.run(file, set=changes, replications=replications, out=out, progress=False)


def test_there_are_scenarios() -> None:
    assert {file.stem for file in FILES} == SMALL.keys()


@each
def test_a_scenario_is_valid_and_asks_something(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    assert text.startswith("# yaml-language-server: $schema=../docs/scenario.schema.json\n")
    assert (file.parent / "../docs/scenario.schema.json").is_file()
    spec = load(file).spec
    assert spec.name == file.stem
    assert (spec.question or "").endswith("?")
    assert spec.compare is not None, "a question is answered by a comparison"
    assert spec.replications > 1, "differences need intervals"


@each
def test_every_alternative_completes_requests(file: Path) -> None:
    study = small(file)
    assert study.alternatives == tuple(one.name for one in load(file).alternatives())
    for run in study.runs:
        status = run.record.requests["status"]
        assert len(status) > 5
        assert np.mean(status == Status.COMPLETED) > 0.9, run.alternative
    shown = study.text(width=100)
    assert "TTFT p50" in shown or "E2E p50" in shown


def test_a_scenario_runs_again_to_the_same_bytes(tmp_path: Path) -> None:
    (file,) = (file for file in FILES if file.stem == "quickstart")
    small(file, replications=2, out=tmp_path / "first")
    found = rerun(tmp_path / "first", progress=False)
    assert found.equal, found.differing
