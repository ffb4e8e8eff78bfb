"""A study from end to end on a small scenario: run, interrupted, in parallel, repeated."""

import io
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import infsim
from infsim.errors import InputError, PolicyError
from infsim.results.runs import Run
from infsim.study import progress
from infsim.study.execute import Job, execute, plain
from infsim.study.inputs import input_files
from infsim.study.progress import ProgressBar
from infsim.study.rerun import rerun
from infsim.study.study import Study

SCENARIO: dict[str, Any] = {
    "name": "small",
    "question": "Which router?",
    "model": "llama-3.1-8b",
    "cluster": {"nodes": [{"name": "gpu", "device": "a100-80gb", "count": 2}]},
    "workload": {
        "arrivals": {"rate": "4 /s"},
        "lengths": {"input": 200, "output": 20},
        "requests": 40,
    },
    "compare": {"routing": ["random", "least-loaded"]},
    "replications": 2,
    "slo": {"ttft": "500 ms"},
}
POLICY = """
from dataclasses import dataclass
from infsim.policy.interface import Router

@dataclass
class First(Router):
    def route(self, request, view):
        return view.replicas[0]

class Broken(Router):
    def route(self, request, view):
        raise ZeroDivisionError("a bug")
"""


@pytest.fixture(scope="module")
def small() -> Study:
    return infsim.run(SCENARIO)


@pytest.fixture
def policies(tmp_path: Path) -> Path:
    file = tmp_path / "mine.py"
    file.write_text(POLICY)
    return file


def order(runs: tuple[Run, ...]) -> list[tuple[str, int]]:
    return [(run.alternative, run.replication) for run in runs]


def test_carbon_is_not_shown_as_zero_where_nobody_told_its_intensity(small: Study) -> None:
    assert "energy_j" in small.observations.metrics
    assert "carbon_g" not in small.observations.metrics
    told = infsim.run({**SCENARIO, "energy": {"carbon": "50 g/kWh"}}, replications=1)
    assert "carbon_g" in told.observations.metrics


def test_all_alternatives_run_in_all_replications(small: Study) -> None:
    assert order(small.runs) == [
        ("random", 0),
        ("random", 1),
        ("least-loaded", 0),
        ("least-loaded", 1),
    ]
    assert not small.interrupted
    assert small.summary.column("requests")[0].value == 40  # type: ignore[union-attr]


def test_alternatives_see_the_same_arrivals_and_replications_do_not(small: Study) -> None:
    arrivals = [small.requests(*key)["arrival_s"].tolist() for key in order(small.runs)]
    assert arrivals[0] == arrivals[2]
    assert arrivals[1] == arrivals[3]
    assert arrivals[0] != arrivals[1]


def test_the_number_of_processes_does_not_matter(small: Study) -> None:
    parallel = infsim.run(SCENARIO, jobs=2)
    assert order(parallel.runs) == order(small.runs)
    assert parallel.to_dict() == small.to_dict()


def test_the_engines_agree_on_the_study(small: Study) -> None:
    slow = infsim.run(SCENARIO, engine="reference")
    for name in ("e2e_mean_s", "energy_j", "throughput_tokens_per_s"):
        for one, two in zip(small.summary.column(name), slow.summary.column(name), strict=True):
            assert one.value == pytest.approx(two.value, rel=1e-9)  # type: ignore[union-attr]


def test_frames(small: Study) -> None:
    requests = small.requests("least-loaded", 1)
    assert len(requests) == 40
    assert list(requests.to_pandas()["status"].unique()) == ["completed"]
    assert requests.to_arrow().num_rows == 40
    assert "40 rows" in repr(requests)
    assert "<table>" in requests._repr_html_()
    assert small.nodes()["name"].tolist() == ["gpu-0", "gpu-1"]
    assert len(small.segments()) > 0
    assert len(small.incidents()) == 0
    with pytest.raises(KeyError, match="no column 'ttft'; there are request_id"):
        requests["ttft"]


def test_a_wrong_name_is_told(small: Study) -> None:
    with pytest.raises(InputError, match="no alternative 'randm'; did you mean 'random'"):
        small.requests("randm")
    with pytest.raises(InputError, match="'random' has no replication 7"):
        small.requests("random", 7)


def test_what_people_see(small: Study) -> None:
    text = small.text()
    assert text.startswith("small\nWhich router?\n")
    assert "Uncalibrated" not in text  # the kernels of the device are known
    html = small._repr_html_()
    assert html.count("<table>") == len(small.comparison)
    json.dumps(small.to_dict(), allow_nan=False)


# --- Python API --------------------------------------------------------------------------------


def test_compare_replaces_the_alternatives(policies: Path) -> None:
    study = infsim.compare(
        SCENARIO, routing=["round-robin", f"{policies}:First"], replications=1, seed=3
    )
    assert study.alternatives == ("round-robin", "First")
    assert study.setup.seed == 3
    assert set(study.nodes("First")["iterations"].tolist()) >= {0}  # all went to one node
    assert str(policies) in [entry["path"] for entry in study.setup.inputs]


def test_compare_takes_any_path() -> None:
    study = infsim.compare(SCENARIO, {"workload.requests": [10, 20]}, replications=1)
    assert [len(study.requests(name)) for name in study.alternatives] == [10, 20]


# --- the run folder ----------------------------------------------------------------------------


def test_a_rerun_is_equal(tmp_path: Path, policies: Path) -> None:
    infsim.compare(SCENARIO, routing=["random", f"{policies}:First"], out=tmp_path / "run")
    again = rerun(tmp_path / "run", out=tmp_path / "again")
    assert again.equal
    assert again.changed_inputs == again.changed_software == ()
    summaries = [(tmp_path / name / "summary.json").read_text() for name in ("run", "again")]
    assert summaries[0] == summaries[1]


def test_a_rerun_tells_what_differs(tmp_path: Path, policies: Path) -> None:
    infsim.compare(SCENARIO, routing=["random", f"{policies}:First"], out=tmp_path / "run")
    policies.write_text(POLICY.replace("replicas[0]", "replicas[-1]"))
    manifest = tmp_path / "run" / "manifest.json"
    about = json.loads(manifest.read_text())
    about["software"]["packages"]["numpy"] = "0.1"
    manifest.write_text(json.dumps(about))
    again = rerun(tmp_path / "run")
    assert not again.equal
    assert "requests of 'First', replication 0" in again.differing
    assert not any("random" in what for what in again.differing)
    assert again.changed_inputs == (str(policies),)
    assert again.changed_software[0].startswith("numpy 0.1 -> ")


def test_a_folder_that_cannot_be_written_is_told_before_the_first_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "notes.txt").write_text("x")
    monkeypatch.setattr("infsim.study.run.execute", pytest.fail)
    with pytest.raises(InputError, match="no run folder"):
        infsim.run(SCENARIO, out=tmp_path)


# --- trouble -----------------------------------------------------------------------------------


def interrupt_at(number: int) -> Callable[..., Run]:
    calls = iter(range(100))

    def execute_or_stop(*arguments: Any) -> Run:
        if next(calls) == number:
            raise KeyboardInterrupt
        return execute(*arguments)

    return execute_or_stop


def test_what_ended_before_an_interruption_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("infsim.study.run.execute", interrupt_at(3))
    study = infsim.run(SCENARIO, out=tmp_path / "run")
    assert study.interrupted
    # replication by replication: the first one is complete
    assert order(study.runs) == [("random", 0), ("random", 1), ("least-loaded", 0)]
    assert "Interrupted: 3 of 4 runs have ended." in study.text()
    read = Study.load(tmp_path / "run")
    assert read.interrupted
    assert read.to_dict() == study.to_dict()
    monkeypatch.undo()
    assert rerun(tmp_path / "run").equal


def test_an_interruption_at_once_leaves_an_empty_study(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("infsim.study.run.execute", interrupt_at(0))
    study = infsim.run(SCENARIO, out=tmp_path / "run")
    assert study.interrupted
    assert Study.load(tmp_path / "run").runs == ()


def test_an_interrupted_engine_ends_the_study(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def stops(scenario: Any, job: Job, engine: Any, tell: Any) -> Run:
        def interrupt(ended: int) -> None:
            seen.append(ended)
            if len(seen) == 50:
                raise KeyboardInterrupt

        return execute(scenario, job, engine, interrupt)

    monkeypatch.setattr("infsim.study.run.execute", stops)
    study = infsim.run(SCENARIO)
    assert study.interrupted
    assert [run.record.interrupted for run in study.runs] == [False, True]
    assert len(study.requests("random")) == 40
    assert len(study.requests("least-loaded")) < 40


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_policy_that_fails_is_named(policies: Path, jobs: int) -> None:
    with pytest.raises(PolicyError, match="ZeroDivisionError") as caught:
        infsim.compare(SCENARIO, routing=["random", f"{policies}:Broken"], jobs=jobs)
    assert caught.value.exit_code == 3
    assert caught.value.request_id == 0


def test_the_number_of_jobs_is_checked() -> None:
    with pytest.raises(InputError, match="at least 1, not 0"):
        infsim.run(SCENARIO, jobs=0)


# --- parts -------------------------------------------------------------------------------------


def test_input_files(tmp_path: Path) -> None:
    trace, policy = tmp_path / "trace.csv", tmp_path / "mine.py"
    for file in (trace, policy):
        file.write_text("")
    resolved = {
        "name": "sample of something",
        "workload": {"trace": str(trace), "other": [{"file": str(tmp_path / "gone.csv")}]},
        "policies": {"routing": {"name": f"{policy}:Mine"}},
    }
    assert input_files(resolved) == {trace, policy}
    (shipped,) = input_files({"trace": "sample"})
    assert shipped.name == "sample.csv"


def test_plans_of_graphs_name_their_operators() -> None:
    operators = {"split": {"macs": "1M"}, "left": {"macs": "1M"}, "right": {"macs": "1M"}}
    edges = [["split", "left"], ["split", "right"]]
    study = infsim.run(
        {
            "name": "fork",
            "model": {"kind": "graph", "name": "fork", "operators": operators, "edges": edges},
            "cluster": {"nodes": [{"name": "gpu", "device": "l4"}]},
            "workload": {"arrivals": {"rate": "1 /s"}, "requests": 2},
            "policies": {"placement": "odp"},
        },
        progress=False,
    )
    (plan,) = study.runs[0].details["plans"]
    assert [stage["operators"] for stage in plan["stages"]] == [["split"], ["left"], ["right"]]


def test_details_become_plain_data() -> None:
    import numpy as np

    given = {
        "gap": np.float64(0.5),
        1: np.arange(2),
        "bound": float("inf"),
        "set": {3},
        "path": Path("a"),
        "bool": np.bool_(True),
    }
    assert plain(given) == {
        "gap": 0.5,
        "1": [0, 1],
        "bound": None,
        "set": [3],
        "path": "a",
        "bool": True,
    }


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("err", "wanted", "expected"),
    [
        (io.StringIO(), None, False),
        (Terminal(), None, True),
        (Terminal(), False, False),
        (io.StringIO(), True, True),
    ],
)
def test_progress_is_silent_for_two_seconds_and_where_there_is_no_terminal(
    monkeypatch: pytest.MonkeyPatch, err: io.StringIO, wanted: bool | None, expected: bool
) -> None:
    now = [0.0]
    monkeypatch.setattr(progress, "time", type("Clock", (), {"monotonic": lambda: now[0]}))
    monkeypatch.setattr("sys.stderr", err)
    monkeypatch.setenv("TERM", "xterm")
    with ProgressBar(3, wanted) as bar:
        bar.requests(128)
        assert err.getvalue() == ""
        now[0] = 2.5
        bar.run_ended()
        bar.requests(256)
    assert ("1/3" in err.getvalue()) is expected


def test_progress_costs_little() -> None:
    with ProgressBar(1, False) as bar:
        started = time.process_time()
        for ended in range(100_000):
            bar.requests(ended)
        assert time.process_time() - started < 0.3
