"""The run folder: complete and readable again, or not there at all."""

import errno
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from infsim.errors import InputError
from infsim.results import export
from infsim.results.folder import OUTPUTS, check_writable, whole_file, whole_folder
from infsim.results.recorder import Recorder, Status
from infsim.results.runs import TABLES, Run, digests
from infsim.study.study import Study
from tests.records import queue, record, study

RUNS = [
    Run("random", 0, queue(30, seed=0), {"plans": [], "about": "by hand"}),
    Run("random", 1, queue(30, seed=1)),
    Run(
        "a, b=2",
        0,
        record(
            [{}, {"status": Status.FAILED, "error": "node lost"}],
            incidents=[(1.0, 0, "down", -1, "power"), (2.0, 0, "up")],
        ),
    ),
]


def left_in(path: Path) -> list[str]:
    return sorted(entry.name for entry in path.iterdir())


# --- what is written ---------------------------------------------------------------------------


def test_a_study_is_the_same_when_read_again(tmp_path: Path) -> None:
    written = study(RUNS)
    written.save(tmp_path / "run", figures=(), timeline=True)
    read = Study.load(tmp_path / "run")
    assert read.to_dict() == written.to_dict()
    assert read.setup == written.setup
    assert [digests(run.record) for run in read.runs] == [digests(run.record) for run in RUNS]
    assert [dict(run.details) for run in read.runs] == [dict(run.details) for run in RUNS]


def test_the_folder_has_what_it_should(tmp_path: Path) -> None:
    study(RUNS).save(tmp_path / "run", figures=("svg",), timeline=True)
    assert left_in(tmp_path / "run") == sorted(OUTPUTS)
    assert left_in(tmp_path / "run" / "figures") == ["comparison.svg"]
    assert left_in(tmp_path / "run" / "timelines") == [
        "00-random-0.json.gz",
        "01-random-1.json.gz",
        "02-a-b=2-0.json.gz",
    ]
    assert (tmp_path / "run" / "scenario.yaml").read_text() == "name: by hand\n"


def test_parquet_names_alternative_and_replication_first(tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    export.write_tables(tmp_path, RUNS)
    for table in TABLES:
        rows = pq.read_table(tmp_path / f"{table}.parquet")
        assert rows.column_names[:2] == ["alternative", "replication"]
    requests = pq.read_table(tmp_path / "requests.parquet").to_pandas()
    assert len(requests) == 62
    assert requests["status"].tolist()[-2:] == ["completed", "failed"]
    assert requests["error"].tolist()[-1] == "node lost"
    runs = zip(requests["alternative"], requests["replication"], strict=True)
    assert Counter(runs) == {("random", 0): 30, ("random", 1): 30, ("a, b=2", 0): 2}


def test_equal_studies_are_equal_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        study(RUNS).save(tmp_path / name, figures=(), timeline=True)
    files = [p.relative_to(tmp_path / "one") for p in (tmp_path / "one").rglob("*") if p.is_file()]
    assert len(files) == 10
    for file in files:
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_the_manifest_tells_where_results_come_from(tmp_path: Path) -> None:
    study(RUNS, seed=9).save(tmp_path / "run", figures=())
    about = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert about["setup"]["seed"] == 9
    assert about["software"]["packages"]["numpy"] == np.__version__
    assert set(about["digests"]) == {*TABLES, "summary"}
    assert [run["alternative"] for run in about["runs"]] == ["random", "random", "a, b=2"]


def test_an_empty_study_can_be_written_and_read(tmp_path: Path) -> None:
    nothing = study([], alternatives=("random",))
    nothing.save(tmp_path / "none")
    assert Study.load(tmp_path / "none").runs == ()
    unborn = study([Run("random", 0, Recorder().finish(0.0))])
    unborn.save(tmp_path / "unborn")
    assert Study.load(tmp_path / "unborn").to_dict() == unborn.to_dict()


def test_writing_does_not_import_pandas(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from tests.records import record, study\n"
        "from infsim.results.runs import Run\n"
        f"study([Run('a', 0, record())]).save({str(tmp_path / 'run')!r}, figures=())\n"
        "assert 'pyarrow' in sys.modules\n"
        "assert 'pandas' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])


# --- whole or not at all -----------------------------------------------------------------------


def test_a_folder_is_not_there_before_it_is_complete(tmp_path: Path) -> None:
    with whole_folder(tmp_path / "run") as scratch:
        (scratch / "manifest.json").write_text("{}")
        assert not (tmp_path / "run").exists()
    assert left_in(tmp_path) == ["run"]
    assert left_in(tmp_path / "run") == ["manifest.json"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_nothing_is_left_of_what_failed(tmp_path: Path, error: type[BaseException]) -> None:
    def write_half() -> None:
        with whole_folder(tmp_path / "run") as scratch:
            (scratch / "requests.parquet").write_text("half")
            raise error

    with pytest.raises(error):
        write_half()
    assert left_in(tmp_path) == []


def test_a_full_disk_leaves_the_earlier_run_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "run"
    study(RUNS[:1]).save(target, figures=())
    before = {p.name: p.read_bytes() for p in target.iterdir()}

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("infsim.study.store._write_json", full)
    with pytest.raises(InputError, match="No space left on device") as caught:
        study(RUNS).save(target, figures=())
    assert caught.value.exit_code == 2
    assert str(target) in str(caught.value)
    assert left_in(tmp_path) == ["run"]
    assert {p.name: p.read_bytes() for p in target.iterdir()} == before


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_disk_that_is_really_full_is_told(tmp_path: Path) -> None:
    class Full(type(tmp_path)):  # type: ignore[misc]
        def __truediv__(self, name: str) -> Path:
            return Path("/dev/full")

    with (
        pytest.raises(InputError, match=r"cannot write.*No space left on device"),
        whole_folder(tmp_path / "run"),
    ):
        export.write_tables(Full(tmp_path), RUNS)
    assert left_in(tmp_path) == []


def test_a_replacement_that_fails_brings_the_old_run_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "run"
    study(RUNS[:1]).save(target, figures=())
    rename, calls = Path.rename, []

    def fails_second(self: Path, to: Path) -> Path:
        calls.append(to)
        if len(calls) == 2:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return rename(self, to)

    monkeypatch.setattr(Path, "rename", fails_second)
    with pytest.raises(InputError, match="Input/output error"):
        study(RUNS).save(target, figures=())
    assert left_in(tmp_path) == ["run"]
    assert len(Study.load(target).runs) == 1


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(InputError, match="Permission denied"):
        check_writable(tmp_path / "run")


def test_a_place_below_a_file_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot write") as caught:
        check_writable(tmp_path / "file" / "run")
    assert caught.value.exit_code == 2


def test_only_run_folders_are_replaced(tmp_path: Path) -> None:
    precious = tmp_path / "thesis"
    precious.mkdir()
    check_writable(precious)  # empty: nothing to lose
    (precious / "chapter.tex").write_text("x")
    for attempt in (check_writable, study(RUNS[:1]).save):
        with pytest.raises(InputError, match=r"no run folder: it holds 'chapter\.tex'"):
            attempt(precious)
    assert left_in(precious) == ["chapter.tex"]
    with pytest.raises(InputError, match="is a file"):
        check_writable(precious / "chapter.tex")


def test_checking_leaves_nothing(tmp_path: Path) -> None:
    check_writable(tmp_path / "a" / "run")
    assert left_in(tmp_path / "a") == []


def test_a_file_is_whole_too(tmp_path: Path) -> None:
    target = tmp_path / "figure.png"
    target.write_text("old")

    def write_half() -> None:
        with whole_file(target) as scratch:
            scratch.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        write_half()
    assert target.read_text() == "old"
    with whole_file(target) as scratch:
        assert scratch.suffix == ".png"
        scratch.write_text("new")
    assert left_in(tmp_path) == ["figure.png"]
    assert target.read_text() == "new"


@pytest.mark.skipif(not Path("/dev/full").is_char_device(), reason="no device that is full")
def test_a_device_stays_a_device(tmp_path: Path) -> None:
    def write(target: Path) -> None:
        with whole_file(target) as scratch:
            scratch.write_text("new")

    with pytest.raises(InputError, match="cannot write '/dev/full': No space left"):
        write(Path("/dev/full"))
    assert Path("/dev/full").is_char_device()
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    write(pipe)
    assert os.read(reader, 10) == b"new"
    os.close(reader)
    assert pipe.is_fifo()


# --- damage ------------------------------------------------------------------------------------


def test_what_is_no_run_folder_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no run folder: it has no manifest\.json"):
        Study.load(tmp_path)


@pytest.mark.parametrize("name", ["summary.json", "requests.parquet", "scenario.yaml"])
def test_a_missing_file_is_told(tmp_path: Path, name: str) -> None:
    study(RUNS).save(tmp_path / "run", figures=())
    (tmp_path / "run" / name).unlink()
    with pytest.raises(InputError, match="damaged run folder"):
        Study.load(tmp_path / "run")


@pytest.mark.parametrize("name", ["manifest.json", "summary.json", "requests.parquet"])
def test_a_truncated_file_is_told(tmp_path: Path, name: str) -> None:
    study(RUNS).save(tmp_path / "run", figures=())
    file = tmp_path / "run" / name
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(InputError, match="damaged run folder"):
        Study.load(tmp_path / "run")
