"""CPU time of the engine. Run on a quiet machine: ``python -m pytest -m benchmark -s``."""

from __future__ import annotations

import subprocess
import sys
from statistics import median

import pytest

from tests.shared_data import shared

pytestmark = pytest.mark.benchmark

CONVERSATION = "workload/azure-llm-2023/AzureLLMInferenceTrace_conv.csv"

PROGRAM = """
import resource, sys, time
from pathlib import Path
from infsim.engine.simulation import simulate
from tests.benchmarks.cases import one_instance, pipeline_24
case, trace, *numbers = sys.argv[1:]
if case == "one":
    experiment = one_instance(numbers[0], Path(trace), int(numbers[1]))
else:
    experiment = pipeline_24(Path(trace), float(numbers[0]), float(numbers[1]))
start = time.process_time()
record = simulate(experiment)
cpu_s = time.process_time() - start
peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
completed = int((record.requests["status"] == 0).sum())
iterations = int(record.nodes["iterations"].sum())
print(cpu_s, peak_mb, completed, iterations, record.end_s)
"""


def measure(*arguments: object, repeats: int = 5) -> tuple[float, float, int]:
    """Median CPU seconds, peak memory in MB, and completed requests, in fresh processes."""
    rows = []
    for _ in range(repeats):
        command = [sys.executable, "-c", PROGRAM, *map(str, arguments)]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        rows.append([float(value) for value in output.split()])
    cpu_s, peak_mb = median(row[0] for row in rows), max(row[1] for row in rows)
    print(f"\n{arguments[0]} {arguments[2:]}: {cpu_s:.3f} CPU s, {peak_mb:.0f} MB, {rows[0][2:]}")
    return cpu_s, peak_mb, int(rows[0][2])


@pytest.mark.parametrize("device", ["h100-sxm", "a100-80gb"])
def test_sixteen_thousand_requests_take_less_than_a_second(device: str) -> None:
    """NVIDIA Dynamo's replay of the same needs 1.9 CPU seconds, Vidur 31."""
    cpu_s, peak_mb, completed = measure("one", shared(CONVERSATION), device, 16000)
    assert completed == 16000
    assert cpu_s < 1.0
    assert peak_mb < 200


@pytest.mark.parametrize("device", ["h100-sxm", "a100-80gb"])
def test_cost_grows_linearly_with_requests(device: str) -> None:
    small, _, _ = measure("one", shared(CONVERSATION), device, 4000)
    large, _, _ = measure("one", shared(CONVERSATION), device, 16000)
    assert large / small < 4.4


def test_pipeline_of_24_nodes_for_600_seconds() -> None:
    """Helix's own simulator needs 251 CPU seconds for 660 s on such a cluster."""
    cpu_s, _, completed = measure("pipeline", shared(CONVERSATION), 1.0, 600, repeats=3)
    assert completed > 50
    assert cpu_s < 5.0


def test_help_is_quick() -> None:
    program = (
        "import resource, subprocess, sys;"
        "subprocess.run([sys.executable, '-m', 'infsim', '--help'], stdout=subprocess.DEVNULL,"
        " check=True);"
        "usage = resource.getrusage(resource.RUSAGE_CHILDREN);"
        "print(usage.ru_utime + usage.ru_stime)"
    )
    times = [
        float(
            subprocess.run([sys.executable, "-c", program], check=True, capture_output=True).stdout
        )
        for _ in range(7)
    ]
    print(f"\ninfsim --help: {median(times):.3f} CPU s")
    assert median(times) < 0.25
