"""The product as an unlucky user meets it: from the command line, to the exit code."""

from __future__ import annotations

import errno
import gzip
import os
import resource
import signal
import time
from pathlib import Path

import pytest

from infsim.study.study import Study
from tests.command import SCENARIO, Command, start

TRACE = SCENARIO.replace(
    "  arrivals: {rate: 5 /s}\n  lengths: {input: 512, output: 100}\n  requests: 20\n",
    "  trace: FILE\n",
)


def _names() -> list[str]:
    """Return the names of what is in the working directory, hidden files included."""
    return sorted(path.name for path in Path().iterdir())


# --- scenarios ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("modle=llama-2-7b", "did you mean 'model'?"),
        ("workload.arrivals.rate=3 GiB", "'GiB' is not a unit of rate"),
        ("policies.routing=lest-loaded", "did you mean 'least-loaded'?"),
        ("policies.routing={name: power-of-two, choices: 2}", "no parameter 'choices'"),
        ("policies.routing=mine.py:Mine", "mine.py' for policy"),
        ("cluster.nodes.gpu.device=a100-80g", "did you mean 'a100-80gb'?"),
        ("cluster.nodes.cpu.device=l4", "no item 'cpu'"),
        ("model=lama-3.1-8b", "did you mean 'llama-3.1-8b'?"),
        ("model=bloom-176b", "184.29 GiB are missing"),
        ("workload.requests=0", "0 must be more than 0"),
    ],
)
@pytest.mark.parametrize("command", ["validate", "run"])
def test_a_bad_scenario_runs_nothing(
    command: str, override: str, said: str, infsim: Command
) -> None:
    ended = infsim(command, "small.yaml", "--set", override)
    assert ended.code == 2
    assert said in ended.err
    assert ended.err.startswith("error: ")
    assert ended.out == ""
    assert not [path for path in Path().rglob("*") if path.is_file() and path.name != "small.yaml"]


# --- traces ---------------------------------------------------------------------------------

HEADER = "arrival_s,input_tokens,output_tokens\n"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "t.csv: the file is empty"),
        (HEADER, "t.csv: the file has no requests"),
        (HEADER + "5,9,9\n1,9,9\n", "t.csv:3: arrival_s is not sorted: 1.0 s after 5.0 s"),
        (HEADER + "0,9,9\n1,-7,9\n", "t.csv:3: input_tokens is -7, must be at least 1"),
        (HEADER + "0,9,9\n1,9,0\n", "t.csv:3: output_tokens is 0, must be at least 1"),
        (HEADER + "0,9,9\n1,9", "t.csv:3: 2 fields instead of 3: '1,9' (the file ends"),
        (HEADER + "0,9,9\n1,abc,9\n", "t.csv:3: input_tokens is 'abc', not a whole number"),
        (HEADER + "nan,9,9\n", "t.csv:2: arrival_s is 'nan', not a number"),
        (HEADER.replace("input", "inptu"), "t.csv:1: the header has no column 'input_tokens'"),
    ],
)
def test_a_bad_trace_is_told_by_file_line_and_value(
    content: str, said: str, infsim: Command
) -> None:
    Path("t.csv").write_text(content)
    Path("traced.yaml").write_text(TRACE.replace("FILE", "t.csv"))
    ended = infsim("run", "traced.yaml", "--out", "r")
    assert ended.code == 2
    assert said in ended.err
    assert not Path("r").exists()


def test_a_truncated_compressed_trace(infsim: Command) -> None:
    rows = "".join(f"{i},9,9\n" for i in range(100))
    Path("t.csv.gz").write_bytes(gzip.compress((HEADER + rows).encode())[:-20])
    Path("traced.yaml").write_text(TRACE.replace("FILE", "t.csv.gz"))
    ended = infsim("run", "traced.yaml")
    assert ended.code == 2
    assert "t.csv.gz: damaged gzip file" in ended.err


# --- integer programs -----------------------------------------------------------------------

LARGE = ("--set", "model=llama-2-70b", "--set", "cluster.nodes.gpu.device=l40s")
NODES = "cluster.nodes.gpu.count={}"


@pytest.mark.parametrize("policy", ["ilp-bottleneck", "ilp-latency"])
def test_an_infeasible_program_says_what_is_missing(policy: str, infsim: Command) -> None:
    # 128 GiB of weights are less than 3 x 48 GiB x 0.9 = 129.6 GiB: only whole layers do not fit
    options = [*LARGE, "--set", NODES.format(3), "--set", f"policies.placement={policy}"]
    ended = infsim("small.yaml", *options)
    assert ended.code == 2
    assert "policies.placement: 'llama-2-70b-fp16' needs" in ended.err
    assert "1.60 GiB of operators find no room" in ended.err


def test_a_program_that_stops_early_tells_its_gap(infsim: Command) -> None:
    placement = "policies.placement={name: ilp-bottleneck, node_limit: 1, gap: 0}"
    ended = infsim(
        "small.yaml", *LARGE, "--set", NODES.format(12), "--set", placement, "--out", "r"
    )
    assert ended.code == 0
    assert "Plans not proven best, the solver stopped at its node limit; gap: small" in ended.out
    notes = Study.load("r").run().details["plans"][0]["notes"]
    assert notes["status"] == "node limit"
    assert f"gap: small {notes['gap'] * 100:.1f} %" in ended.out


# --- where results go -------------------------------------------------------------------------


@pytest.fixture
def no_simulation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("infsim.study.run.execute", lambda *_: pytest.fail("something was run"))


@pytest.mark.usefixtures("no_simulation")
@pytest.mark.parametrize(
    ("out", "said"),
    [
        ("/proc/nowhere/r", "cannot write '/proc/nowhere/r'"),
        ("small.yaml", "is a file, not a folder"),
        ("small.yaml/r", "cannot write 'small.yaml/r'"),
        ("thesis", "is no run folder: it holds 'chapter.tex'"),
        (".", "is no run folder"),
    ],
)
def test_a_folder_that_cannot_be_written_is_told_before_anything_runs(
    out: str, said: str, infsim: Command
) -> None:
    Path("thesis").mkdir()
    Path("thesis/chapter.tex").write_text("mine")
    ended = infsim("small.yaml", "--out", out)
    assert ended.code == 2
    assert said in ended.err
    assert ended.out == ""
    assert _names() == ["small.yaml", "thesis"]
    assert Path("thesis/chapter.tex").read_text() == "mine"


@pytest.mark.parametrize("writer", ["write_tables", "_write_json", "_write_figures"])
def test_a_full_disk_costs_neither_the_result_nor_the_earlier_run(
    writer: str, infsim: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    figures = ("--set", "output.figures=[svg]")
    assert infsim("small.yaml", "--out", "r").code == 0
    before = Path("r/manifest.json").read_bytes()
    monkeypatch.setattr(f"infsim.study.store.{writer}", full)
    ended = infsim("small.yaml", "--out", "r", "--seed", 9, *figures)
    assert ended.code == 2
    assert "cannot write 'r': No space left on device" in ended.err
    assert "throughput" in ended.out
    assert _names() == ["r", "small.yaml"]
    assert Path("r/manifest.json").read_bytes() == before


def test_files_that_may_not_grow(infsim: Command) -> None:
    """A real write that fails half-way, in a figure."""
    limit = 15_000
    process = start(
        *("small.yaml", "--out", "r", "--set", "output.figures=[png]"),
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )
    out, err = process.communicate(timeout=60)
    assert process.returncode == 2
    assert err.startswith("error: --out: cannot write 'r': ")
    assert "File too large" in err
    assert "throughput" in out
    assert _names() == ["small.yaml"]


def test_a_full_disk_below_stdout(infsim: Command) -> None:
    with Path("/dev/full").open("w") as full:
        process = start("schema", stdout=full)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert err == "error: [Errno 28] No space left on device\n"


# --- Ctrl-C ---------------------------------------------------------------------------------

WAITS = """\
from dataclasses import dataclass
from pathlib import Path
from infsim.policy.interface import Router

@dataclass
class Mine(Router):
    def route(self, request, view):
        if request.request_id == 20_000:
            Path("under-way").touch()
        return view.replicas[0]
"""


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_ctrl_c_keeps_whole_partial_results(jobs: str, infsim: Command) -> None:
    Path("mine.py").write_text(WAITS)
    overrides = [
        "workload.requests=1M",
        "workload.lengths.output=5",
        "compare={cross: false, routing: [random, round-robin, mine.py:Mine],"
        " workload.requests: [10, 20, 1M]}",
    ]
    arguments = ["small.yaml", "--out", "r", "--jobs", jobs]
    process = start(*arguments, *(word for o in overrides for word in ("--set", o)))
    limit = time.monotonic() + 60
    while not Path("under-way").exists() and process.poll() is None:
        assert time.monotonic() < limit
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    # of two processes one takes up the last run when the other may still be at its first
    ended = next(n for n in (2, 1) if f"Interrupted: {n} of 3 runs have ended." in out)
    assert "Traceback" not in err
    # nothing half-written beside the folder, and the folder can be read
    assert _names() == ["mine.py", "r", "small.yaml", "under-way"]
    study = Study.load("r")
    assert study.interrupted
    assert not study.runs[0].record.interrupted
    if jobs == "1":  # the run under way is kept as well; other processes are ended
        assert ended == 2
        assert study.runs[2].record.interrupted
        assert (study.runs[2].record.requests["status"] == 0).sum() > 19_000


# --- stdout ---------------------------------------------------------------------------------


def test_stdout_does_not_depend_on_the_process(infsim: Command) -> None:
    """Equal bytes whatever the hash seed, the folder, the number of processes."""
    said = set()
    for seed, jobs in (("1", "1"), ("2", "2")):
        options = ["--jobs", jobs, "--replications", "2", "--seed", "7"]
        process = start("small.yaml", "--out", seed, *options, env={"PYTHONHASHSEED": seed})
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0
        assert err == f"results in {seed}\n"
        said.add(out)
    assert len(said) == 1
