"""Measured times of layers and steps, as tables of seconds, read from public data."""

from __future__ import annotations

from typing import Any

import pandas as pd

from tests.shared_data import shared

Table = Any  # pandas is untyped here

MATRICES = ["attn_pre_proj", "attn_post_proj", "mlp_up_proj", "mlp_down_proj"]
ELEMENTWISE = ["input_layernorm", "attn_rope", "post_attention_layernorm", "mlp_act"]
ELEMENTWISE += ["add", "add"]  # a layer adds to the residual stream twice


def layer_kernels(path: str) -> Table:
    """Kernels of a layer without attention (Vidur's format): columns by tokens."""
    rows = _medians(pd.read_csv(shared(path)), "num_tensor_parallel_workers", "num_tokens")
    rows = rows[rows.num_tensor_parallel_workers == 1].set_index("num_tokens").sort_index()
    return pd.DataFrame(
        {
            "matrices": rows[MATRICES].sum(axis=1),
            "elementwise": rows[ELEMENTWISE].sum(axis=1),
        }
    )


def a800_attention() -> Table:
    """Attention of Llama-2-7B on the A800: one row per batch of equal sequences."""
    keys = ("batch_size", "prefill_chunk_size", "kv_cache_size", "is_prefill")
    return _medians(pd.read_csv(shared("kernels/frontier-a800-llama2-7b/attention.csv.gz")), *keys)


def _medians(rows: Table, *keys: str) -> Table:
    times = {
        name.split(".")[1]: rows[name] * 1e-3 for name in rows.columns if name.endswith(".median")
    }
    return pd.DataFrame({**{key: rows[key] for key in keys}, **times})


def rtx4090_layer() -> Table:
    """Kernels of a layer of Llama-3.1-8B without attention, by tokens."""
    rows = pd.read_csv(shared("kernels/llmservingsim-rtx4090-llama3.1-8b/dense.csv"))
    wide = rows.pivot(index="tokens", columns="layer", values="time_us") * 1e-6
    return pd.DataFrame(
        {
            "matrices": wide[["qkv_proj", "o_proj", "gate_up_proj", "down_proj"]].sum(axis=1),
            "elementwise": 2 * wide["layernorm"] + wide["rotary_emb"] + wide["act_fn"],
        }
    )


def rtx4090_attention() -> Table:
    """Attention of Llama-3.1-8B: one prompt chunk beside equal decode sequences."""
    rows = pd.read_csv(shared("kernels/llmservingsim-rtx4090-llama3.1-8b/attention.csv"))
    rows = rows[rows.prefill_chunk + rows.n_decode <= 2048]
    return rows.assign(time_s=rows.time_us * 1e-6)


def helix_layer(device: str, phase: str) -> Table:
    """Llama-2-70B layer by tokens, measured for Helix in whole milliseconds or tenths."""
    path = shared(f"fidelity/helix-24node-llama2-70b/profile/{device}_{phase}_bs2time.csv")
    rows = pd.read_csv(path, header=None, names=["tokens", "ms"])
    return rows[rows.tokens > 0].set_index("tokens").ms * 1e-3


def splitwise_steps(model: str, devices: int) -> Table:
    """Whole steps on A100: prompt_s and token_s by prompt size, batch size and output size."""
    rows = pd.read_csv(shared("kernels/splitwise-a100-llama2-70b/perf_model_a100.csv"))
    rows = rows[(rows.model == model) & (rows.tensor_parallel == devices)]
    keys = ["prompt_size", "batch_size", "token_size"]
    means = rows.groupby(keys)[["prompt_time", "token_time"]].median().reset_index()
    return means.assign(prompt_s=means.prompt_time * 1e-3, token_s=means.token_time * 1e-3)


def vllm_decode_steps() -> Table:
    """Seconds of a vLLM server in which nothing but decode ran: sequences, kv_tokens, step_s."""
    folder = "fidelity/vllm-0.19-rtx4090-llama3.1-8b"
    rows = pd.read_csv(shared(f"{folder}/timeseries.csv"))
    alone = (rows.prompt_throughput == 0) & (rows.waiting == 0) & (rows.running >= 14)
    # states are those at the end of a second in which tokens were counted, and requests ended
    running, kv_share = (
        (rows[name] + rows[name].shift(1)) / 2 for name in ("running", "kv_cache_pct")
    )
    part = alone & (rows.prompt_throughput.shift(1) == 0)
    return pd.DataFrame(
        {
            "sequences": running[part].round(),
            "kv_tokens": kv_share[part] / 100 * 41_408,
            "step_s": running[part] / rows.gen_throughput[part],
        }
    )


def gemm(path: str) -> Table:
    """Matrix products in bf16: m, n, k, time_s."""
    rows = pd.read_parquet(shared(f"kernels/aiconfigurator/{path}/gemm_perf.parquet"))
    rows = rows[rows.gemm_dtype == "bfloat16"]
    return rows.assign(time_s=rows.latency * 1e-3)


def llama_cpp(phase: str) -> Table:
    """Tokens per second of Llama-3-8B in F16 on one device, by system."""
    rows = pd.read_csv(shared("hardware/desktop-gpu-bench/llama_cpp_tokens_per_s.csv"))
    chosen = (rows.model == "Llama-3-8B") & (rows.format == "F16") & (rows.phase == phase)
    rows = rows[chosen & ~rows.system.str.contains(r"\*")]
    return rows.set_index("system").tokens_per_s
