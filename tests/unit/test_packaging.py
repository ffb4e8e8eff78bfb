"""What is built can be installed and used far from the checkout."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import tarfile
from pathlib import Path
from zipfile import ZipFile

import pytest

from infsim.cli.listing import What

pytestmark = pytest.mark.packaging

ROOT = Path(__file__).parents[2]
DATA = ("scenarios", "traces", "calibration")


def call(*command: object, cwd: Path) -> str:
    """Return the stdout of a command that has to succeed, and does not see the checkout."""
    env = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
    ended = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the unpacked source distribution."""
    folder = tmp_path_factory.mktemp("sdist")
    call(sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", folder, cwd=ROOT)
    (archive,) = folder.iterdir()
    with tarfile.open(archive) as packed:
        packed.extractall(folder, filter="data")
    return folder / archive.name.removesuffix(".tar.gz")


@pytest.fixture(scope="module")
def wheel(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the wheel, built from the source distribution."""
    folder = tmp_path_factory.mktemp("wheel")
    call(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder, cwd=source)
    (built,) = folder.iterdir()
    return built


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the interpreter of a new environment that has the wheel.

    Its dependencies are those of this environment, through a path file: that leaves out an
    editable installation of the checkout.
    """
    folder = tmp_path_factory.mktemp("installed")
    call(sys.executable, "-m", "venv", "env", cwd=folder)
    python = folder / "env" / "bin" / "python"
    call(python, "-m", "pip", "install", "-q", "--no-deps", "--no-index", wheel, cwd=folder)
    print_path = "import sysconfig; print(sysconfig.get_path('purelib'))"
    packages = Path(call(python, "-c", print_path, cwd=folder).strip())
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return python


def test_the_source_distribution_has_all_but_the_machinery(source: Path) -> None:
    names = {path.name for path in source.iterdir()}
    assert {"infsim", "tests", "docs", "pyproject.toml", "LICENSE", *DATA} <= names
    assert not {".ci", ".git", "runs"} & names


def test_the_wheel_has_the_data_and_no_tests(wheel: Path) -> None:
    names = ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == {"infsim"}
    tracked = subprocess.run(
        ["git", "ls-files", *DATA], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.splitlines()
    assert {f"infsim/data/{name}" for name in tracked} <= set(names)
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert "infsim/py.typed" in names


def test_the_installed_one_is_not_the_checkout(python: Path, tmp_path: Path) -> None:
    home = call(python, "-c", "import infsim; print(infsim.__file__)", cwd=tmp_path)
    assert Path(home.strip()).is_relative_to(python.parents[1])


def test_it_finds_its_data(python: Path, tmp_path: Path) -> None:
    infsim = python.with_name("infsim")
    for what in What:
        mine = json.loads(call(sys.executable, "-m", "infsim", "list", what, "--json", cwd=ROOT))
        assert json.loads(call(infsim, "list", what, "--json", cwd=tmp_path)) == mine
    fetched = call(sys.executable, "-m", "infsim", "trace", "fetch", "--list", cwd=ROOT)
    assert call(infsim, "trace", "fetch", "--list", cwd=tmp_path) == fetched
    assert call(infsim, "schema", cwd=tmp_path) == (
        ROOT / "docs" / "scenario.schema.json"
    ).read_text(encoding="utf-8")


def test_it_prints_the_same_fidelity_table(python: Path, tmp_path: Path) -> None:
    table = call(sys.executable, "-m", "infsim", "fidelity", cwd=ROOT)
    assert call(python.with_name("infsim"), "fidelity", cwd=tmp_path) == table


def test_it_runs_what_it_ships(python: Path, tmp_path: Path) -> None:
    for path in (ROOT / "scenarios").glob("*.yaml"):
        assert "valid" in call(python, "-m", "infsim", "validate", path.stem, cwd=tmp_path)
    small = ["--set", "workload.requests=50", "--replications", "1"]
    out = call(python, "-m", "infsim", "quickstart", *small, "--out", "r", cwd=tmp_path)
    assert "throughput" in out
    assert (tmp_path / "r" / "manifest.json").is_file()
    assert call(python, "-m", "infsim", "rerun", "r", cwd=tmp_path).startswith("equal")
