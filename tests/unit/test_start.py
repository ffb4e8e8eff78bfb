"""What is quick to start imports little."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = ("highspy", "matplotlib", "networkx", "pandas", "pulp", "pyarrow", "scipy.stats")
# what `--help` needs even less
NUMBERS = (*HEAVY, "numpy", "pydantic", "rich", "scipy", "simpy")

PROGRAM = """
import sys
from infsim.cli.main import main
try:
    main(sys.argv[2:])
except SystemExit as end:
    assert not end.code, end.code
found = [name for name in sys.argv[1].split(",") if name in sys.modules]
sys.exit(f"imported {', '.join(found)}" if found else 0)
"""


@pytest.mark.parametrize(
    ("arguments", "unwanted"),
    [
        (["--help"], NUMBERS),
        (["run", "--help"], HEAVY),
        (["--version"], NUMBERS),
        (["validate", "quickstart"], HEAVY),
        (["validate", "quickstart", "--resolved"], HEAVY),
        (["schema"], HEAVY),
        (["list", "policies"], HEAVY),
        (["list", "devices"], HEAVY),
    ],
    ids=lambda given: "-".join(given) if isinstance(given, list) else "",
)
def test_what_a_command_does_not_import(arguments: list[str], unwanted: tuple[str, ...]) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM, ",".join(unwanted), *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    assert (ended.returncode, ended.stderr) == (0, "")
