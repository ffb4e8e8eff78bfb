"""The simulator against a vLLM 0.19 server that was recorded by others."""

from __future__ import annotations

import pytest

from infsim.fidelity.comparison import Row, compare
from infsim.fidelity.replay import replay
from infsim.fidelity.vllm import read_vllm
from tests.command import start
from tests.shared_data import shared

RUN = "fidelity/vllm-0.19-rtx4090-llama3.1-8b"
KERNELS = "kernels/llmservingsim-rtx4090-llama3.1-8b"

# What was found, rounded up. The rest comes from prompts that begin alike: the server found some
# of their KV (its steps are too short for all of the prompt), the recording does not say how much.
BOUNDS = {
    "TTFT mean": 0.02, "TTFT P50": 0.01, "TTFT P90": 0.02, "TTFT P95": 0.10, "TTFT P99": 0.02,
    "TPOT mean": 0.01, "TPOT P50": 0.01, "TPOT P90": 0.05, "TPOT P95": 0.05, "TPOT P99": 0.01,
    "E2E mean": 0.02, "E2E P50": 0.05, "E2E P90": 0.02, "E2E P95": 0.02, "E2E P99": 0.02,
    "time to serve all": 0.01,
    "TTFT MAPE": 0.04, "TPOT MAPE": 0.06, "E2E MAPE": 0.02,
}  # fmt: skip


@pytest.fixture(scope="module")
def rows() -> dict[str, Row]:
    recorded = read_vllm(shared(RUN))
    return {row.name: row for row in compare(recorded, replay(recorded)).rows}


@pytest.mark.parametrize("name", BOUNDS)
def test_a_real_server_is_met(rows: dict[str, Row], name: str) -> None:
    assert abs(rows[name].error) < BOUNDS[name]


def test_the_recorded_times_are_those_of_the_file(rows: dict[str, Row]) -> None:
    """As casys-kaist/LLMServingSim gives them: TTFT mean 65,456.6 ms, TPOT P95 48.1 ms."""
    assert rows["TTFT mean"].real == pytest.approx(65.4566, abs=1e-4)
    assert rows["TPOT P95"].real == pytest.approx(0.0481, abs=1e-4)


def test_the_command_prints_it() -> None:
    arguments = str(shared(RUN)), "--kernels", str(shared(KERNELS))
    process = start("fidelity", "import", *arguments)
    out, err = process.communicate()
    assert process.returncode == 0, err
    assert "300 requests, llama-3.1-8b in bf16 on rtx-4090" in out
    assert "TTFT P99" in out
