"""Public kernel tables: every row is accounted for, and values are those of an independent read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from infsim.calibrate.audit import audit
from infsim.calibrate.bounds import least_time_s
from infsim.calibrate.importers.formats import detect, read
from infsim.calibrate.table import KernelTable
from infsim.cluster.device import load_device
from tests.shared_data import shared

IMPOSSIBLE = "faster than the hardware allows"
CONTRADICTING = "repeats contradict each other"
OUTLYING = "three times off its neighbours"

TABLES = {
    "vidur-a100": ("vidur", "a100-80gb", 27186, 26975, {OUTLYING: 2}),
    "frontier-a800-llama2-7b": ("vidur", "a800", 24554, 23886, {}),
    "llmservingsim-rtx4090-llama3.1-8b": ("llmservingsim", "rtx-4090", 10091, 10091, {}),
    # five runs whose prefill of 64 prompts took a ninth of what four A100 need for it
    "splitwise-a100-llama2-70b/perf_model_a100.csv": (
        "splitwise", "a100-80gb", 840, 127, {IMPOSSIBLE: 5}
    ),
    "aiconfigurator/a100_sxm": ("aiconfigurator", "a100-80gb", 74488, 74223, {OUTLYING: 13}),
    "aiconfigurator/l40s": (
        "aiconfigurator", "l40s", 262435, 262092, {CONTRADICTING: 10, OUTLYING: 86}
    ),
}  # fmt: skip


def imported(folder: str) -> KernelTable:
    return read(shared(f"kernels/{folder}"), TABLES[folder][1]).table


@pytest.mark.parametrize("folder", TABLES)
def test_every_row_is_kept_merged_or_refused_with_a_reason(folder: str, tmp_path: Path) -> None:
    kind, device, rows, kept, refused = TABLES[folder]
    path = shared(f"kernels/{folder}")
    assert detect(path) == kind
    found = read(path, device)
    assert len(found.table) == rows
    table = audit(found, load_device(device)).table
    assert len(table) == kept
    assert table.meta.refused == refused
    table.write(tmp_path)
    assert len(KernelTable.read(tmp_path)) == kept
    assert (least_time_s(table, load_device(device)) <= 1.1 * table["time_s"]).all()


def same_points(table: KernelTable, raw: pd.DataFrame, columns: dict[str, str]) -> None:
    """The rows of a table are those of a frame, whose last column is the time in seconds."""
    left = pd.DataFrame({name: table[name] for name in columns}).astype(float)
    right = raw.rename(columns={v: k for k, v in columns.items()})[list(columns)].astype(float)
    order = list(columns)
    left, right = (f.sort_values(order, ignore_index=True) for f in (left, right))
    assert len(left) == len(right) > 0
    np.testing.assert_allclose(left.to_numpy(), right.to_numpy(), rtol=1e-12)


def test_aiconfigurator_products() -> None:
    raw = pd.read_parquet(shared("kernels/aiconfigurator/l40s/gemm/trtllm/1.0.0/gemm_perf.parquet"))
    raw["seconds"] = raw.latency / 1e3
    table = imported("aiconfigurator/l40s")
    for theirs, ours in {"int4_wo": "w4a16", "sq": "w8a8", "int8_wo": "w8a16"}.items():
        part = table.select(format=ours)
        columns = {"tokens": "m", "n": "n", "k": "k", "time_s": "seconds"}
        same_points(part, raw[raw.gemm_dtype == theirs], columns)


def test_aiconfigurator_decode_attention() -> None:
    folder = "kernels/aiconfigurator/a100_sxm/attention/sglang/0.5.10"
    raw = pd.read_parquet(shared(f"{folder}/generation_attention_perf.parquet"))
    raw["seconds"], raw["entries"] = raw.latency / 1e3, raw.isl + raw.step
    table = imported("aiconfigurator/a100_sxm").select(kernel="attention", prefills=0)
    columns = {"decodes": "batch_size", "context": "entries", "heads": "num_heads"}
    columns |= {"kv_heads": "num_key_value_heads", "time_s": "seconds"}
    same_points(table, raw, columns)


def test_aiconfigurator_messages_are_in_bytes() -> None:
    table = imported("aiconfigurator/a100_sxm").select(kernel="collective", name="all_reduce")
    nccl = table.take(np.array(["NCCL" in word for word in table["library"]]))
    largest = nccl.select(devices=8, bytes=2**29)
    assert len(largest) == 2  # of half and of int8: the same bytes
    assert largest["time_s"].max() < 1.1 * largest["time_s"].min()
    # 512 MiB at the bus bandwidth of NVLink 3: 2 x 7/8 of the bytes at 200 to 300 GB/s
    bus = 2 * 7 / 8 * 2**29 / largest["time_s"]
    assert ((bus > 200e9) & (bus < 300e9)).all()


@pytest.mark.parametrize(
    ("operation", "name", "n", "k"),
    [
        ("attn_pre_proj", "qkv", (4096 + 2 * 1024) // 4, 4096),
        ("mlp_up_proj", "gate_up", 2 * 14336 // 4, 4096),
        ("mlp_down_proj", "down", 4096, 14336 // 4),
        ("input_layernorm", "input_norm", 4096, 0),
    ],
)
def test_vidur_layers(operation: str, name: str, n: int, k: int) -> None:
    raw = pd.read_csv(shared("kernels/vidur-a100/llama3-8b-mlp.csv.gz"))
    raw = raw[raw.num_tensor_parallel_workers == 4]
    raw["seconds"] = raw[f"time_stats.{operation}.median"] / 1e3
    table = imported("vidur-a100").select(name=name, devices=4)
    assert set(table["n"]) == {n}
    assert set(table["k"]) == {k}
    same_points(table, raw, {"tokens": "num_tokens", "time_s": "seconds"})


def test_frontier_attention() -> None:
    raw = pd.read_csv(shared("kernels/frontier-a800-llama2-7b/attention.csv.gz"))
    table = imported("frontier-a800-llama2-7b").select(kernel="attention")
    decode, prefill = raw[~raw.is_prefill].copy(), raw[raw.is_prefill].copy()
    decode["seconds"] = decode["time_stats.attn_decode.median"] / 1e3
    prefill["seconds"] = prefill["time_stats.attn_prefill.median"] / 1e3
    columns = {"decodes": "batch_size", "context": "kv_cache_size", "time_s": "seconds"}
    same_points(table.select(prefills=0), decode, columns)
    columns = {"prefills": "batch_size", "chunk": "prefill_chunk_size", "prefix": "kv_cache_size"}
    same_points(table.select(decodes=0), prefill, columns | {"time_s": "seconds"})


def test_llmservingsim_layers_and_mixed_attention() -> None:
    folder = shared("kernels/llmservingsim-rtx4090-llama3.1-8b")
    table = imported("llmservingsim-rtx4090-llama3.1-8b")
    dense = pd.read_csv(folder / "dense.csv")
    dense["seconds"] = dense.time_us / 1e6
    for layer, name in {"gate_up_proj": "gate_up", "rotary_emb": "rotary"}.items():
        columns = {"tokens": "tokens", "time_s": "seconds"}
        same_points(table.select(name=name), dense[dense.layer == layer], columns)
    assert set(table.select(name="gate_up")["n"]) == {2 * 14336}
    raw = pd.read_csv(folder / "attention.csv")
    raw["seconds"] = raw.time_us / 1e6
    columns = {"chunk": "prefill_chunk", "prefix": "kv_prefill", "decodes": "n_decode"}
    columns |= {"context": "kv_decode", "time_s": "seconds"}
    attention = table.select(kernel="attention")
    same_points(attention, raw, columns)
    assert ((attention["chunk"] > 0) & (attention["decodes"] > 0)).sum() > 5000


def test_llama_cpp_systems_are_devices_of_the_catalogue() -> None:
    path = shared("hardware/desktop-gpu-bench/llama_cpp_tokens_per_s.csv")
    raw = pd.read_csv(path)
    table = read(path, "rtx-3090").table
    for phase, tokens in (("prefill", 1024), ("decode", 1)):
        mine = raw[(raw.system == "3090 24GB") & (raw.phase == phase)]
        part = table.select(decodes=int(phase == "decode"))
        assert sorted(part["time_s"]) == pytest.approx(sorted(tokens / mine.tokens_per_s))
    shares = {}
    for name in ("rtx-3090", "rtx-4090", "rtx-a6000", "m2-ultra", "m3-max", "l40s", "a100-80gb"):
        device = load_device(name)
        kept = audit(read(path, name), device).table
        assert kept.meta.refused == {}
        decode = kept.select(format="fp16", prefills=0)
        shares[name] = float(np.max(least_time_s(decode, device) / decode["time_s"]))
    # decoding reaches most of the memory bandwidth, on an A100 less
    assert all(0.6 < share < 0.95 for name, share in shares.items() if name != "a100-80gb")
    assert 0.3 < shares["a100-80gb"] < 0.6
