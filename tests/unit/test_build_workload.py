"""Workloads of scenarios that make no sense, and are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from infsim.errors import InputError
from infsim.scenario.build import check
from infsim.scenario.load import load


def scenario(workload: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": "small",
        "model": "llama-3.1-8b",
        "cluster": {"nodes": [{"name": "gpu", "count": 2, "device": "a100-80gb"}]},
        "workload": workload,
    }


def test_a_start_after_the_end_of_a_trace_is_refused() -> None:
    late = scenario({"trace": "sample", "start": "10 days", "requests": 5})
    with pytest.raises(InputError, match=r"workload\.start: no request arrives after 10\.0 d"):
        check(load(late))
    check(load(scenario({"trace": "sample", "start": "80 s", "requests": 5})))


@pytest.mark.parametrize(
    "workload",
    [
        {"arrivals": {"rate": "2 /s"}, "requests": 5},
        {"closed_loop": {"users": 2, "think_time": "1 s"}, "requests": 5},
    ],
)
def test_a_model_that_generates_needs_lengths(workload: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"lengths are missing, and 'llama-3\.1-8b' generates"):
        check(load(scenario(workload)))


@pytest.mark.parametrize(
    ("told", "option"),
    [({"columns": {"input_tokens": "x"}}, "columns"), ({"time_unit": "1 ms"}, "time unit")],
)
@pytest.mark.parametrize("trace", ["azure.csv", "azure-conv-like", "clients.tar"])
def test_formats_with_columns_of_their_own_are_told_none(
    trace: str, told: dict[str, Any], option: str, tmp_path: Path
) -> None:
    (tmp_path / "azure.csv").write_text(
        "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46.68,3,4\n"
    )
    (tmp_path / "clients.tar").write_bytes(b"")
    file = str(tmp_path / trace) if "." in trace else trace
    with pytest.raises(InputError, match=f"{option} is for plain CSV and Parquet"):
        check(load(scenario({"trace": {"file": file, **told}, "requests": 1})))
