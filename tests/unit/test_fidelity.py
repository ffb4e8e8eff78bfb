"""Recorded runs: reading them, simulating them again, and how they are compared."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from infsim.errors import InputError
from infsim.fidelity.comparison import compare, worst
from infsim.fidelity.recorded import Recorded, Serving
from infsim.fidelity.replay import replay
from infsim.fidelity.vllm import read_vllm

SERVING = Serving("llama-3.2-1b", "bf16", "rtx-4090", 1, 6400, 16, 512, 32, True, True)


def recorded(**serving: Any) -> Recorded:
    """A run of the simulator itself."""
    rng = np.random.default_rng(1)
    arrival_s = np.cumsum(rng.exponential(0.02, 120))
    inputs, outputs = rng.integers(10, 900, 120), rng.integers(1, 200, 120)
    nothing = Recorded(
        "own", replace(SERVING, **serving), inputs, outputs, arrival_s, arrival_s, arrival_s
    )
    requests = replay(nothing).requests
    return replace(nothing, first_token_s=requests["first_token_s"], end_s=requests["end_s"])


def write(folder: Path, run: Recorded, **meta: Any) -> Path:
    """Write a run as vLLM's recorder does, out of order and long after the machine's start."""
    serving = run.serving
    content: dict[str, Any] = {
        "model": "meta-llama/Llama-3.2-1B-Instruct",
        "engine_kwargs": {
            "tensor_parallel_size": 1,
            "max_num_seqs": serving.max_sequences,
            "max_num_batched_tokens": serving.token_budget,
            "dtype": "bfloat16",
        },
        "kv_cache": {
            "block_size": 16,
            "enable_prefix_caching": True,
            "num_kv_tokens": serving.kv_tokens,
        },
        "hardware": {
            "device_name": "NVIDIA GeForce RTX 4090",
            "device_total_memory_bytes": 25250627584,
        },
        "resolved_config": {"scheduler_config": {"async_scheduling": True}},
    }
    for key, value in meta.items():
        content[key] = content[key] | value if isinstance(value, dict) else value
    (folder / "meta.json").write_text(json.dumps(content))
    lines = [
        json.dumps(
            {
                "request_id": f"r{i}",
                "input_toks": int(run.input_tokens[i]),
                "output_toks": int(run.output_tokens[i]),
                "queued_ts": 5000 + float(run.arrival_s[i]),
                "first_token_ts": 5000 + float(run.first_token_s[i]),
                "last_token_ts": 5000 + float(run.end_s[i]),
            }
        )
        for i in np.random.default_rng(0).permutation(len(run))
    ]
    (folder / "requests.jsonl").write_text("\n".join(lines) + "\n")
    return folder


def test_what_the_simulator_recorded_it_meets(tmp_path: Path) -> None:
    run = recorded()
    read = read_vllm(write(tmp_path, run))
    assert read.serving == SERVING
    rows = compare(read, replay(read)).rows
    assert abs(worst(rows).error) < 1e-6
    assert all(row.error < 1e-6 for row in rows if row.name.endswith("MAPE"))


@pytest.mark.parametrize("change", [{"plan_ahead": False}, {"kv_tokens": 3200}])
def test_another_engine_is_told_apart(change: dict[str, Any]) -> None:
    """A comparison that cannot fail would be none."""
    run = recorded()
    other = replay(replace(run, serving=replace(SERVING, **change)))
    assert abs(worst(compare(run, other).rows).error) > 0.01


@pytest.mark.parametrize(
    ("called", "memory", "found"),
    [
        ("NVIDIA GeForce RTX 4090", 25e9, "rtx-4090"),
        ("NVIDIA A100-SXM4-80GB", 85e9, "a100-80gb"),
        ("NVIDIA A100-SXM4-40GB", 42e9, "a100-40gb"),
        ("NVIDIA H100 80GB HBM3", 85e9, "h100-sxm"),
        ("NVIDIA H100 PCIe", 85e9, "h100-pcie"),
        ("NVIDIA L40S", 48e9, "l40s"),
        ("NVIDIA GeForce RTX 4070 Ti", 12e9, "rtx-4070-ti"),
        ("NVIDIA RTX PRO 6000 Blackwell Workstation Edition", 102e9, "rtx-pro-6000"),
        ("NVIDIA H200", 150e9, "h200"),
    ],
)
def test_devices_are_known_by_their_names(
    tmp_path: Path, called: str, memory: float, found: str
) -> None:
    hardware = {"device_name": called, "device_total_memory_bytes": memory}
    read = read_vllm(write(tmp_path, recorded(), hardware=hardware))
    assert read.serving.device == found


@pytest.mark.parametrize(
    ("meta", "said"),
    [
        ({"hardware": {"device_name": "Abacus"}}, "'Abacus' is not in the catalogue"),
        ({"model": "acme/unheard-of"}, "'acme/unheard-of' is not in the catalogue"),
        ({"engine_kwargs": {"pipeline_parallel_size": 2}}, "pipeline_parallel_size = 2"),
        ({"kv_cache": {"num_kv_tokens": None}}, "num_kv_tokens is None"),
        ({"hardware": None}, "no 'hardware'"),
        ({"kv_cache": None, "model": "meta-llama/Llama-3.1-70B"}, "does not fit on 1 x rtx-4090"),
        ({"resolved_config": {"speculative_config": {"k": 2}}}, "speculative"),
    ],
)
def test_what_cannot_be_simulated_is_refused(
    tmp_path: Path, meta: dict[str, Any], said: str
) -> None:
    with pytest.raises(InputError, match=said) as caught:
        read_vllm(write(tmp_path, recorded(), **meta))
    assert "meta.json" in str(caught.value)


@pytest.mark.parametrize(
    ("called", "engine", "model", "form"),
    [
        ("meta-llama/Meta-Llama-3.1-8B-Instruct", {}, "llama-3.1-8b", "bf16"),
        ("/data/Llama-3.3-70B-Instruct", {"dtype": "half"}, "llama-3.1-70b", "fp16"),
        ("Qwen/Qwen3-30B-A3B-Instruct-2507", {"quantization": "fp8"}, "qwen3-30b-a3b", "fp8"),
        ("a/Qwen3-32B-AWQ", {"quantization": "awq_marlin"}, "qwen3-32b", "w4a16"),
        ("b/Llama-3.1-8B-FP8", {"quantization": "modelopt"}, "llama-3.1-8b", "fp8"),
        (
            "c/Llama-3.1-8B",
            {"quantization": "fp8", "kv_cache_dtype": "fp8_e4m3"},
            "llama-3.1-8b",
            "fp8-kv8",
        ),
    ],
)
def test_models_and_formats_are_known_by_their_names(
    tmp_path: Path, called: str, engine: dict[str, Any], model: str, form: str
) -> None:
    serving = read_vllm(write(tmp_path, recorded(), model=called, engine_kwargs=engine)).serving
    assert (serving.model, serving.format) == (model, form)


def test_an_unknown_quantization_can_be_named(tmp_path: Path) -> None:
    folder = write(tmp_path, recorded(), engine_kwargs={"quantization": "compressed-tensors"})
    with pytest.raises(InputError, match="'compressed-tensors' is no format"):
        read_vllm(folder)
    assert read_vllm(folder, form="w8a8").serving.format == "w8a8"


def test_what_older_recordings_do_not_tell_is_assumed(tmp_path: Path) -> None:
    meta = {"kv_cache": None, "hardware": None, "resolved_config": None, "vllm_version": "0.19.0"}
    read = read_vllm(write(tmp_path, recorded(), **meta), device="rtx-4090")
    assert read.serving.plan_ahead
    assert read.serving.prefix_cache
    # 0.9 x 24 GiB less 1.24 G weights of 2 bytes, at 32 KiB a token
    assert read.serving.kv_tokens == pytest.approx(632_000, rel=0.01)
    assert "no 'kv_cache' in it" in read.notes[0]
    read = read_vllm(write(tmp_path, recorded(), **meta | {"vllm_version": "0.8.5"}), "rtx-4090")
    assert not read.serving.plan_ahead


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('"input_toks"', '"intput_toks"', "input_toks is None"),
        ('"queued_ts": 5', '"queued_ts": 9', "before the arrival"),
        ("{", "", "not JSON"),
        ('"output_toks": ', '"output_toks": -', "without tokens"),
    ],
)
def test_damaged_requests_are_refused(tmp_path: Path, old: str, new: str, said: str) -> None:
    folder = write(tmp_path, recorded())
    path = folder / "requests.jsonl"
    lines = path.read_text().splitlines()
    lines[7] = lines[7].replace(old, new, 1)
    path.write_text("\n".join(lines))
    with pytest.raises(InputError, match=said) as caught:
        read_vllm(folder)
    assert "requests.jsonl" in str(caught.value)


def test_prompts_beyond_the_cache_are_told() -> None:
    run = recorded()
    with pytest.raises(InputError, match="requests are not served"):
        replay(replace(run, serving=replace(SERVING, kv_tokens=160)))
