"""How fast trace files are read and described, and that a month needs the memory of a minute.

Each file is read by a process of its own, whose largest resident set is told.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

pytestmark = pytest.mark.benchmark

SHORT, LONG = 50_000, 5_000_000

READ = """
import json, resource, sys, time
from pathlib import Path
from infsim.rng import Streams
from infsim.workload.readers import open_trace
{imports}
trace = open_trace(Path(sys.argv[1]))
start = time.process_time()
rows = {what}
print(json.dumps({{
    "rows": rows,
    "cpu_s": time.process_time() - start,
    "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
}}))
"""
ROWS = READ.format(imports="", what="sum(len(part) for part in trace.blocks(Streams(0)))")
SUMMARY = READ.format(
    imports="from infsim.workload.summary import summarize",
    what="summarize(trace, Streams(0)).requests",
)


class Measured(NamedTuple):
    rows: int
    cpu_s: float
    peak_bytes: int


def csv_lines(count: int) -> Iterator[str]:
    yield "arrival_s,input_tokens,output_tokens\n"
    for i in range(count):
        yield f"{i / 8},{100 + i * 7919 % 3900},{10 + i * 104729 % 490}\n"


def json_lines(count: int) -> Iterator[str]:
    """As Mooncake has them, with four hashes each."""
    for i in range(count):
        yield (
            f'{{"timestamp": {125 * i}, "input_length": {2048 + i % 500}, '
            f'"output_length": {10 + i % 490}, "hash_ids": [0, {i % 1000}, {i}, {i + 1}]}}\n'
        )


def measured(script: str, path: Path) -> Measured:
    done = subprocess.run(
        [sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=True
    )
    return Measured(**json.loads(done.stdout))


@pytest.mark.parametrize(
    ("name", "lines", "script", "least"),
    [
        ("trace.csv", csv_lines, ROWS, 0.3e6),
        ("trace.jsonl", json_lines, ROWS, 0.08e6),
        ("trace.csv", csv_lines, SUMMARY, 0.1e6),
    ],
    ids=["csv", "jsonl", "summary of csv"],
)
def test_a_hundred_times_the_rows_need_no_more_memory(
    name: str, lines: Callable[[int], Iterator[str]], script: str, least: float, tmp_path: Path
) -> None:
    found = {}
    for count in (SHORT, LONG):
        path = tmp_path / name
        with path.open("w") as file:
            file.writelines(lines(count))
        found[count] = measured(script, path)
        path.unlink()
        assert found[count].rows == count
        rate = count / found[count].cpu_s
        print(
            f"{name}, {count:,} rows: {rate / 1e6:.2f} million per CPU second, "
            f"peak {found[count].peak_bytes / 1e6:.0f} MB"
        )
    assert found[LONG].rows / found[LONG].cpu_s > least
    assert found[LONG].peak_bytes < found[SHORT].peak_bytes + 20e6
