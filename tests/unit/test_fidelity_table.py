"""``infsim fidelity``: laws of the comparison, and the table of all recorded runs."""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infsim.cli.fidelity_text import COLUMNS
from infsim.errors import InputError
from infsim.fidelity.comparison import Part, times
from infsim.fidelity.llama_cpp import Recording
from infsim.fidelity.runs import compare_run
from infsim.paths import data_folder
from infsim.study.inputs import input_files
from tests.command import Command

RECORDED = data_folder("calibration/recorded")
LATENCIES = ("TTFT", "TPOT", "E2E")


# --- laws of the comparison -----------------------------------------------------------------

SECONDS = st.floats(1e-3, 1e3)
REQUESTS = st.lists(
    st.tuples(SECONDS, SECONDS, SECONDS, st.integers(1, 500)), min_size=1, max_size=40
)


def latencies(requests: list[tuple[float, float, float, int]], scale: float = 1.0) -> Any:
    arrival_s, wait_s, rest_s, tokens = (np.array(column) for column in zip(*requests, strict=True))
    first_s = arrival_s + wait_s
    end_s = first_s + np.where(tokens > 1, rest_s, 0.0)
    return times(scale * arrival_s, scale * first_s, scale * end_s, tokens)


@given(REQUESTS)
def test_a_run_has_no_error_against_itself(requests: list[Any]) -> None:
    same = latencies(requests)
    assert {row.error for row in Part("", same, same).rows} == {0.0}


@given(REQUESTS, st.floats(0.1, 10))
def test_a_slower_simulation_is_as_much_off_in_every_figure(
    requests: list[Any], scale: float
) -> None:
    for row in Part("", latencies(requests), latencies(requests, scale)).rows:
        off = abs(scale - 1) if row.name.endswith("MAPE") else scale - 1
        assert row.error == pytest.approx(off, abs=1e-6)


@given(REQUESTS, REQUESTS, st.floats(0.1, 10))
def test_errors_do_not_depend_on_the_unit_of_time(
    requests: list[Any], others: list[Any], scale: float
) -> None:
    count = min(len(requests), len(others))
    # lengths are those of the request, in the simulation too
    others = [(*b[:3], a[3]) for a, b in zip(requests[:count], others[:count], strict=True)]
    plain = Part("", latencies(requests[:count]), latencies(others)).rows
    scaled = Part("", latencies(requests[:count], scale), latencies(others, scale)).rows
    for one, other in zip(plain, scaled, strict=True):
        assert other.error == pytest.approx(one.error, rel=1e-6, abs=1e-6)
        assert other.real == pytest.approx(scale * one.real, rel=1e-9)


@given(REQUESTS, st.randoms(use_true_random=False))
def test_the_order_of_requests_does_not_matter(requests: list[Any], random: Any) -> None:
    shuffled = random.sample(requests, len(requests))
    made = [(a, 1.1 * b, c, n) for a, b, c, n in requests]
    made_shuffled = [(a, 1.1 * b, c, n) for a, b, c, n in shuffled]
    plain = Part("", latencies(requests), latencies(made)).rows
    other = Part("", latencies(shuffled), latencies(made_shuffled)).rows
    for one, two in zip(plain, other, strict=True):
        assert two.error == pytest.approx(one.error, abs=1e-9)


def test_figures_are_those_of_hand() -> None:
    """Three requests, of which the last has one token, and so no TPOT."""
    real = times(np.zeros(3), np.array([1.0, 2, 3]), np.array([3.0, 8, 3]), np.array([3, 4, 1]))
    made = times(np.zeros(3), np.array([1.0, 3, 3]), np.array([2.0, 9, 3]), np.array([3, 4, 1]))
    rows = {row.name: row for row in Part("", real, made).rows}
    assert rows["TTFT mean"].error == pytest.approx(7 / 6 - 1)
    assert rows["TTFT P50"].error == pytest.approx(0.5)
    assert rows["TTFT MAPE"].error == pytest.approx(0.5 / 3)
    assert rows["TPOT mean"].real == pytest.approx(1.5)
    assert rows["TPOT mean"].error == pytest.approx(1.25 / 1.5 - 1)
    assert rows["E2E P99"].real == pytest.approx(3 + 0.98 * 5)


# --- folders of one's own -------------------------------------------------------------------


def small(folder: Path, scale: int = 1) -> Path:
    """Write a few runs of the shipped recording of llama.cpp, its times multiplied."""
    origin = RECORDED / "llama-cpp" / "F16"
    meta = json.loads((origin / "meta.json").read_text())
    meta["runs"] = [run for run in meta["runs"] if run["seed"] == 1 and run["load"] < 0.5]
    (folder / "meta.json").write_text(json.dumps(meta))
    for name in ("requests", "steps"):
        table = pq.read_table(origin / f"{name}.parquet").to_pydict()
        columns = {key: np.array(column) for key, column in table.items()}
        own = np.ones(len(table["prefill_tokens" if name == "steps" else "load"]), dtype=bool)
        if name == "requests":
            own = (columns["seed"] == 1) & (columns["load"] < 0.5)
        for key in columns:
            columns[key] = columns[key][own] * (scale if key.endswith("_us") else 1)
        pq.write_table(pa.table(columns), folder / f"{name}.parquet")
    return folder


def test_what_the_simulator_recorded_it_meets(tmp_path: Path) -> None:
    """But for times that are recorded in whole microseconds."""
    recording = Recording.load(small(tmp_path))
    table = pq.read_table(tmp_path / "requests.parquet")
    columns = {name: table[name].to_numpy().copy() for name in table.column_names}
    for load in (0.0, 0.3):
        (requests,) = recording.runs(load)
        made = recording.simulated(requests).requests
        own = np.isclose(columns["load"], load)
        parts_s = np.diff(
            [made[f"{n}_s"] for n in ("arrival", "start", "first_token", "end")], axis=0
        )
        for name, part_s in zip(("queue_us", "prefill_us", "decode_us"), parts_s, strict=True):
            columns[name][own] = np.rint(1e6 * part_s)
    pq.write_table(pa.table(columns), tmp_path / "requests.parquet")
    (comparison,) = compare_run(tmp_path)
    assert comparison.capacity is not None
    assert len(comparison.rows) == 1 + 18
    assert max(abs(row.error) for row in comparison.rows) < 1e-3


def test_errors_do_not_change_where_the_machine_is_twice_as_slow(tmp_path: Path) -> None:
    found = []
    for name, scale in (("as-it-was", 1), ("slow", 2)):
        (tmp_path / name).mkdir()
        (comparison,) = compare_run(small(tmp_path / name, scale))
        found.append([row.error for row in comparison.rows])
    assert found[1] == pytest.approx(found[0], abs=1e-9)


# --- damaged recordings ---------------------------------------------------------------------


def change_meta(change: Callable[[Any], None]) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        meta = json.loads((folder / "meta.json").read_text())
        change(meta)
        (folder / "meta.json").write_text(json.dumps(meta))

    return damage


def change_table(name: str, change: Callable[[dict[str, Any]], None]) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        table = pq.read_table(folder / f"{name}.parquet")
        columns = {key: table[key].to_numpy().copy() for key in table.column_names}
        change(columns)
        pq.write_table(pa.table(columns), folder / f"{name}.parquet")

    return damage


def cut(name: str) -> Callable[[Path], None]:
    """Leave the first half of a file."""

    def damage(folder: Path) -> None:
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: len(content) // 2])

    return damage


def put(name: str, row: int, value: float) -> Callable[[dict[str, Any]], None]:
    def change(columns: dict[str, Any]) -> None:
        columns[name] = columns[name].astype(float)
        columns[name][row] = value

    return change


LLAMA_CPP_DAMAGES: list[tuple[Callable[[Path], None], str]] = [
    (cut("meta.json"), r"meta\.json: not JSON"),
    (cut("steps.parquet"), r"steps\.parquet: cannot be read"),
    (lambda folder: (folder / "steps.parquet").unlink(), r"steps\.parquet: cannot be read"),
    (change_meta(lambda m: m.pop("token_budget")), r"meta\.json: no 'token_budget'"),
    (change_meta(lambda m: m.update(max_sequences=2.5)), "max_sequences: not a whole number"),
    (change_meta(lambda m: m.update(runs={})), r"meta\.json: runs: no list, but {}"),
    (change_meta(lambda m: m.update(runs=[])), r"meta\.json: no runs in it"),
    (change_meta(lambda m: m["runs"][0].update(seed="x")), r"runs\[0\]\.seed: not a whole number"),
    (change_meta(lambda m: m["runs"][0].update(seed=9)), r"no requests at load \S+, seed 9"),
    (
        change_meta(lambda m: m.update(token_budget=4096)),
        "of at most 128 tokens, where token_budget",
    ),
    (
        change_meta(lambda m: m.update(max_sequences=0)),
        "of at most 16 decodes, where max_sequences is 0",
    ),
    (change_table("requests", lambda c: c.pop("queue_us")), "no column 'queue_us'"),
    (change_table("requests", put("decode_us", 4, np.nan)), "decode_us is nan in row 5"),
    (change_table("requests", put("queue_us", 4, -1)), "queue_us is -1.0 in row 5"),
    (change_table("requests", put("input_tokens", 4, 0)), "input_tokens is 0 in row 5"),
    (change_table("requests", put("arrival_us", -9, 1)), "arrivals go backwards at load"),
    (change_table("steps", put("time_us", 4, 0)), "time_us is 0 in row 5"),
    (
        change_table("steps", lambda c: c.update(time_us=np.full(len(c["served"]), "x"))),
        "no numbers",
    ),
    (change_table("steps", lambda c: c.update({k: v[:0] for k, v in c.items()})), "no rows"),
]


@pytest.mark.parametrize(("damage", "said"), LLAMA_CPP_DAMAGES)
def test_damaged_runs_of_llama_cpp_are_refused(
    tmp_path: Path, damage: Callable[[Path], None], said: str
) -> None:
    damage(small(tmp_path))
    with pytest.raises(InputError, match=said) as caught:
        compare_run(tmp_path)
    assert str(tmp_path) in str(caught.value)


PIPELINE = json.loads(gzip.decompress((RECORDED / "pipeline" / "runs.json.gz").read_bytes()))
# one format is enough
PIPELINE["hops_s"] = {"fp32": PIPELINE["hops_s"]["fp32"]}
for _key in ("starts", "runs"):
    PIPELINE[_key] = [entry for entry in PIPELINE[_key] if entry["format"] == "fp32"]


def pipeline(folder: Path, runs: Any) -> Path:
    """Write a recorded pipeline with these runs."""
    shutil.copy(RECORDED / "pipeline" / "steps.parquet", folder)
    (folder / "runs.json.gz").write_bytes(gzip.compress(json.dumps(runs).encode()))
    return folder


def damaged(keys: list[str | int], value: Any) -> Any:
    """Return the recorded pipeline with another value somewhere, or none at all."""
    runs = json.loads(json.dumps(PIPELINE))
    inner = runs
    for key in keys[:-1]:
        inner = inner[key]
    if value is None:
        del inner[keys[-1]]
    else:
        inner[keys[-1]] = value
    return runs


@pytest.mark.parametrize(
    ("keys", "value", "said"),
    [
        (["hops_s"], None, "no 'hops_s'"),
        (["meta", "links"], None, "meta: no 'links'"),
        (["meta", "token_budget"], 10**6, "token_budget is 1000000, not 1 to 128"),
        (["meta", "stage_bytes"], [], "stages is 0"),
        (["meta", "heartbeat_s"], 5.0, "time-out less half a heartbeat"),
        (["hops_s"], {"int4": 1.0}, "format 'int4'"),
        (["hops_s", "fp32"], 1e-6, "hops_s of fp32"),
        (["starts"], [], "no start of stage 0 in fp32"),
        (["starts", 3, "load_s"], 0, r"load_s of starts\[3\] is 0"),
        (["runs"], [], "no runs in fp32"),
        (["runs", 0, "format"], "int4", r"runs\[0\]: format 'int4'"),
        (["runs", 0, "requests"], [], r"runs\[0\]: no requests"),
        (
            ["runs", 0, "requests", 3, "times_s"],
            [1.0],
            r"runs\[0\]\.requests\[3\]: 24 tokens at 1 ",
        ),
        (["runs", 0, "requests", 3, "times_s", 5], 0.0, "times go backwards"),
        (["runs", 0, "requests", 3, "times_s", 5], "x", r"times_s\[5\]: not a number, but \"x\""),
        (["runs", 0, "requests", 3, "arrival_s"], 0.0, "arrivals go backwards"),
        (["runs", 0, "requests", 3, "input_tokens"], 0, "a prompt without tokens"),
        (["runs", 2, "name"], "calm", "no run 'undisturbed' of the same requests"),
        (["runs", 3, "failure", "stage"], 3, "there is no stage 3"),
        (["runs", 3, "failure", "up_s"], None, r"failure: no 'up_s'"),
        (["runs", 3, "failure", "ready_s"], 1.0, "its times go backwards"),
        (["runs", 3, "failure", "ready_s"], 1e3, "no token was made after it"),
    ],
)
def test_damaged_pipelines_are_refused(
    tmp_path: Path, keys: list[str | int], value: Any, said: str
) -> None:
    with pytest.raises(InputError, match=said) as caught:
        compare_run(pipeline(tmp_path, damaged(keys, value)))
    assert str(tmp_path) in str(caught.value)


def places(value: Any, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """Return the paths of all values, of lists the first four."""
    inner = value.items() if isinstance(value, dict) else enumerate(value[:4])
    found = []
    for key, content in inner:
        found.append((*path, key))
        if isinstance(content, dict | list):
            found += places(content, (*path, key))
    return found


@given(
    keys=st.sampled_from(places(PIPELINE)),
    value=st.sampled_from([None, -1, 0, 1, 1e9, "", [], {}, [1.0], True]),
)
@settings(max_examples=60, deadline=None)
def test_whatever_is_damaged_is_told_or_harmless(
    tmp_path_factory: pytest.TempPathFactory, keys: tuple[str | int, ...], value: Any
) -> None:
    folder = pipeline(tmp_path_factory.mktemp("pipeline"), damaged(list(keys), value))
    with suppress(InputError):
        for comparison in compare_run(folder):
            assert all(np.isfinite(row.simulated) for row in comparison.rows)


def test_a_cut_archive_is_told(tmp_path: Path) -> None:
    cut("runs.json.gz")(pipeline(tmp_path, PIPELINE))
    with pytest.raises(InputError, match=r"runs\.json\.gz: cannot be read"):
        compare_run(tmp_path)


# --- the command ----------------------------------------------------------------------------


def test_the_table_has_every_run_and_figure(infsim: Command) -> None:
    ended = infsim("fidelity")
    assert ended.code == 0
    assert ended.err == ""
    blocks = ended.out.split("\n\n")
    assert [b.partition("\n")[0] for b in blocks if "capacity bias" in b] == [
        "llama.cpp F16", "llama.cpp Q4_0", "llama.cpp Q8_0",
        "pipeline fp32", "pipeline fp16", "pipeline int8",
    ]  # fmt: skip
    tables = [block.splitlines() for block in blocks if "MAPE\n" in block]
    assert [line.split()[3:] for line, *_ in tables] == [list(COLUMNS)] * 6
    assert [len(table) - 1 for table in tables] == [9, 9, 9, 12, 12, 12]
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
    assert len(names) == 7
    for run in found:
        assert len(run["figures"]) >= 18
        for name, row in run["figures"].items():
            if not name.endswith("MAPE"):
                assert row["error"] == pytest.approx(row["simulated"] / row["real"] - 1)
    assert found[0]["capacity_bias"] == found[0]["figures"]["capacity (requests/s)"]["error"]
    assert found[3]["capacity_bias"] is None
    drawn = {path.name for path in (tmp_path / "drawn").iterdir()}
    assert len(drawn) == 7
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
    cut("requests.parquet")(small(own))
    ended = infsim("fidelity", "--run", own)
    assert ended.code == 2
    assert ended.out == ""
    assert "own/requests.parquet: cannot be read" in ended.err


def test_a_scenario_that_says_recorded_does_not_read_the_recordings() -> None:
    assert input_files({"name": "recorded", "tags": ["accuracy", "churn", "energy"]}) == set()
