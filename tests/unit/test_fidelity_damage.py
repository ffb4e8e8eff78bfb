"""Damaged recordings are refused, with the place of the damage."""

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

from infsim.errors import InputError
from infsim.fidelity.runs import compare_run
from tests.recordings import RECORDED, small


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


def priced_by(**kernels: str) -> Callable[[Path], None]:
    """Say that the kernels of a device price the model, stored in fp32."""
    return change_meta(lambda meta: meta.update(kernels=kernels, format="fp32"))


SERVED_DAMAGES: list[tuple[Callable[[Path], None], str]] = [
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
        "of at most 48 tokens, where token_budget",
    ),
    (
        change_meta(lambda m: m.update(max_sequences=0)),
        "of at most 8 decodes, where max_sequences is 0",
    ),
    (priced_by(device="epyc-7763-core"), r"meta\.json: kernels: no 'model'"),
    (priced_by(device="h200", model="smollm2-135m"), "in fp32 were not measured on h200"),
    (priced_by(device="epyc-7763-core", model="smolm2"), "smolm2.*did you mean"),
    (change_table("requests", lambda c: c.pop("queue_us")), "no column 'queue_us'"),
    (change_table("requests", put("decode_us", 4, np.nan)), "decode_us is nan in row 5"),
    (change_table("requests", put("queue_us", 4, -1)), "queue_us is -1.0 in row 5"),
    (change_table("requests", put("input_tokens", 4, 0)), "input_tokens is 0 in row 5"),
    (change_table("requests", put("arrival_us", -9, 1)), "arrivals go backwards at load"),
    (change_table("steps", put("time_us", 4, 0)), "time_us is 0 in row 5"),
    (
        change_table("steps", lambda c: c.update(time_us=np.full(len(c["time_us"]), "x"))),
        "no numbers",
    ),
    (change_table("steps", lambda c: c.update({k: v[:0] for k, v in c.items()})), "no rows"),
]


@pytest.mark.parametrize(("damage", "said"), SERVED_DAMAGES)
def test_damaged_runs_of_an_engine_are_refused(
    tmp_path: Path, damage: Callable[[Path], None], said: str
) -> None:
    damage(small(tmp_path))
    with pytest.raises(InputError, match=said) as caught:
        compare_run(tmp_path)
    assert str(tmp_path) in str(caught.value)


PIPELINE = json.loads(gzip.decompress((RECORDED / "pipeline" / "runs.json.gz").read_bytes()))
# one format is enough, and one of each run
PIPELINE["hops_s"] = {"fp32": PIPELINE["hops_s"]["fp32"]}
PIPELINE["starts"] = [start for start in PIPELINE["starts"] if start["format"] == "fp32"]
PIPELINE["runs"] = [
    next(run for run in PIPELINE["runs"] if (run["format"], run["name"]) == ("fp32", name))
    for name in ("alone", "together", "undisturbed", "killed")
]


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
            r"runs\[0\]\.requests\[3\]: 16 tokens at 1 ",
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


def test_repeats_of_other_requests_are_told(tmp_path: Path) -> None:
    runs = damaged(["runs", 0, "requests", 2, "input_tokens"], 7)
    runs["runs"].append(PIPELINE["runs"][0])
    with pytest.raises(InputError, match=r"runs\[\d+\]: other requests than in the run 'alone'"):
        compare_run(pipeline(tmp_path, runs))


def test_a_cut_archive_is_told(tmp_path: Path) -> None:
    cut("runs.json.gz")(pipeline(tmp_path, PIPELINE))
    with pytest.raises(InputError, match=r"runs\.json\.gz: cannot be read"):
        compare_run(tmp_path)
