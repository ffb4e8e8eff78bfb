"""Importers, on small tables written here: what the columns mean, and what damage is told."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from infsim.calibrate.importers.formats import detect, read
from infsim.calibrate.table import KernelTable
from infsim.cli.main import main
from infsim.errors import InputError

GEMM = {
    "framework": ["VLLM"] * 3,
    "version": ["0.24.0"] * 3,
    "kernel_source": ["trt_flow_/layer/Gemm"] * 3,
    "gemm_dtype": ["bfloat16", "int4_wo", "sq"],
    "m": [1, 2, 4],
    "n": [64, 64, 64],
    "k": [32, 32, 32],
    "latency": [0.01, 0.02, 0.03],
}


def gemm(folder: Path, **changes: list[object]) -> Path:
    file = folder / "gemm" / "gemm_perf.parquet"
    file.parent.mkdir()
    pq.write_table(pa.table(GEMM | changes), file)
    return folder


def test_aiconfigurator_number_types_are_formats(tmp_path: Path) -> None:
    found = read(gemm(tmp_path), "l40s")
    assert detect(tmp_path) == "aiconfigurator"
    assert list(found.table["format"]) == ["bf16", "w4a16", "w8a8"]
    assert found.table["time_s"] == pytest.approx([1e-5, 2e-5, 3e-5])
    assert set(found.table["library"]) == {"VLLM 0.24.0 Gemm"}
    assert list(found.table.meta.extra["inputs"]) == ["gemm/gemm_perf.parquet"]


def test_aiconfigurator_text_tables_of_older_versions(tmp_path: Path) -> None:
    header = "framework,version,device,op_name,kernel_source,attn_dtype,kv_cache_dtype,batch_size,"
    header += "isl,num_heads,num_key_value_heads,head_dim,beam_width,step,latency"
    row = "TRTLLM,0.20,H100,generation_attention,x,float16,fp8,8,1,32,0,128,1,1023,0.05"
    (tmp_path / "generation_attention_perf.txt").write_text(f"{header}\n{row}\n")
    (tmp_path / "mla_perf.txt").write_text("a\n1\n")
    table = read(tmp_path, "h100-sxm").table
    assert list(table.rows()) == [
        {
            "kernel": "attention", "name": "attention", "format": "fp16", "kv_format": "fp8",
            "library": "TRTLLM 0.20 x", "heads": 32, "kv_heads": 32, "head_dim": 128,
            "decodes": 8, "context": 1024, "time_s": 5e-5,
        }
    ]  # fmt: skip
    assert table.meta.notes == ["not read: mla_perf.txt"]


PROFILE = """vllm_version: 0.28.0
gpu: NVIDIA RTX PRO 6000
model: Qwen/Qwen3-30B-A3B-Instruct-2507
variant: bf16
tp_degrees: [1, 2]
"""


def profile(folder: Path) -> Path:
    """A mixture of experts in the layout of newer versions, two degrees of parallelism."""
    (folder / "meta.yaml").write_text(PROFILE)
    for degree in (1, 2):
        place = folder / f"tp{degree}"
        place.mkdir()
        (place / "dense.csv").write_text(
            "layer,tokens,time_us\nqkv_proj,1,9.5\no_proj,1,7.6\nqk_norm,1,3.9\nrouter,1,2\n"
        )
        (place / "per_sequence.csv").write_text("layer,sequences,time_us\nlm_head,1,421.5\n")
        (place / "attention.csv").write_text(
            "layer,prefill_chunk,prefill_key,n_decode,kv_decode,decode_q_len,time_us\n"
            "attention,0,0.0,2,16,1,6.6\nattention,16,24.0,1,64,1,8.2\nattention,0,0.0,2,16,3,9\n"
        )
        (place / "skew.csv").write_text("a\n1\n")
    (folder / "tp1" / "moe.csv").write_text(
        "ep,tokens,activated_experts,time_us\n1,1,8,48.17\n4,2,4,38.56\n"
    )
    return folder


def test_llmservingsim_shards_and_experts(tmp_path: Path) -> None:
    found = read(profile(tmp_path), "h100-pcie")
    assert detect(tmp_path) == "llmservingsim"
    table = found.table
    two = table.select(devices=2)
    # Qwen3-30B-A3B: hidden 2048, 32 heads and 4 KV heads of 128, experts of 768
    assert [(r["n"], r["k"]) for r in two.select(name="qkv").rows()] == [(20 * 128, 2048)]
    assert [(r["n"], r["k"]) for r in two.select(name="o").rows()] == [(2048, 16 * 128)]
    assert list(table.select(name="qkv", devices=1)["n"]) == [40 * 128]
    assert two.select(kernel="head")["n"] == [151936 // 2]
    attention = two.select(kernel="attention")
    assert list(attention["heads"]) == [16, 16]  # no row of speculative decoding
    assert list(attention["prefix"]) == [0, 16]  # 24 - 16 / 2
    assert list(attention["context"]) == [16, 64]
    experts = table.select(name="moe")
    assert list(experts["experts"]) == [128, 32]
    assert list(experts["active_experts"]) == [8, 4]
    assert set(experts["n"] * experts["k"]) == {3 * 768 * 2048}
    assert "not read: skew.csv" in table.meta.notes
    # a layer that is not known is kept under its name
    assert [r["kernel"] for r in two.select(name="router").rows()] == ["linear"]


def test_llmservingsim_keys_below_half_a_batch_are_several_prompts(tmp_path: Path) -> None:
    profile(tmp_path)
    (tmp_path / "tp1" / "attention.csv").write_text(
        "layer,prefill_chunk,prefill_key,n_decode,kv_decode,decode_q_len,time_us\n"
        "attention,64,32,0,0,1,9\nattention,64,16,0,0,1,8\nattention,65,23,0,0,1,8\n"
    )
    rows = read(tmp_path / "tp1", "h100-pcie").table.select(kernel="attention")
    # as many tokens and query-key pairs as there were, but for rounding
    assert list(rows["prefills"]) == [1, 2, 2]
    assert list(rows["chunk"]) == [64, 32, 32]
    assert list(rows["prefix"]) == [0, 0, 7]


def test_llmservingsim_collectives_lie_beside_the_models(tmp_path: Path) -> None:
    samples = [
        {"collective": "all_reduce", "bytes": 4096, "us": 12.5},
        {"collective": "all_gather", "bytes": 8192, "us": 11.5},
    ]
    hardware = tmp_path / "hardware.yaml"
    hardware.write_text(
        yaml.safe_dump({"measured": {"interconnect": {"npus": 2, "samples": samples}}})
    )
    variant = tmp_path / "Qwen" / "Qwen3-30B-A3B" / "bf16"
    variant.mkdir(parents=True)
    found = read(profile(variant), "h100-pcie").table
    rows = found.select(kernel="collective")
    assert list(rows["name"]) == ["all_reduce", "all_gather"]
    assert set(rows["devices"]) == {2}
    assert list(rows["bytes"]) == [4096, 8192]
    assert rows["time_s"] == pytest.approx([12.5e-6, 11.5e-6])
    assert "hardware.yaml" in found.meta.extra["inputs"]
    for damaged in ("measured: {interconnect: {npus: 2, samples: [{bytes: 1}]}}", "a: [", "- 1"):
        hardware.write_text(damaged)
        with pytest.raises(InputError, match=r"hardware\.yaml.*damaged"):
            read(variant, "h100-pcie")


def test_llmservingsim_one_degree_of_a_model_that_is_not_known(tmp_path: Path) -> None:
    profile(tmp_path)
    (tmp_path / "meta.yaml").write_text(PROFILE.replace("Qwen3-30B-A3B", "Qwen9"))
    table = read(tmp_path / "tp2", "h100-pcie").table
    assert set(table["devices"]) == {2}
    assert not table["n"].any()
    assert any("is not in the catalogue" in note for note in table.meta.notes)


LLAMA_BENCH = """build_commit,model_type,n_prompt,n_gen,n_depth,avg_ts,stddev_ts
"5e4","llama 8B Q4_K - Medium",512,0,0,1024,10.24
"5e4","llama 8B Q4_K - Medium",0,128,1000,50,0.5
"5e4","llama 8B Q4_K - Medium",512,128,0,90,1
"5e4","mystery 3B F16",0,128,0,50,0.5
"""


def test_llama_bench(tmp_path: Path) -> None:
    (tmp_path / "bench.csv").write_text(LLAMA_BENCH)
    table = read(tmp_path / "bench.csv", "rtx-4090").table
    shared = {"kernel": "step", "name": "llama-3.1-8b", "format": "q4-k-m", "devices": 1}
    shared |= {"library": "llama.cpp"}
    assert list(table.rows()) == [
        shared | {"prefills": 1, "chunk": 512, "time_s": 0.5, "spread_s": pytest.approx(5e-3)},
        shared | {"decodes": 1, "context": 1064, "time_s": 0.02, "spread_s": pytest.approx(2e-4)},
    ]
    assert table.meta.notes == ["left out, not in the catalogue: mystery 3B F16"]


SPLITWISE = """model,hardware,prompt_size,batch_size,token_size,prompt_time,token_time,\
tensor_parallel
llama2-70b,a100-80gb,512,2,128,196.25,54.88,2
"""


def test_splitwise_rows_are_a_prefill_and_a_decode(tmp_path: Path) -> None:
    (tmp_path / "perf.csv").write_text(SPLITWISE)
    prefill, decode = read(tmp_path / "perf.csv", "a100-80gb").table.rows()
    assert (prefill["prefills"], prefill["chunk"]) == (2, 512)
    assert prefill["time_s"] == pytest.approx(0.19625)
    assert (decode["decodes"], decode["context"], decode["devices"]) == (2, 576, 2)
    with pytest.raises(InputError, match="no rows of 'h200', only of a100-80gb"):
        read(tmp_path / "perf.csv", "h200")


def test_splitwise_runs_tell_power_at_two_loads(tmp_path: Path) -> None:
    """Long answers are decodes, and the shortest prompt that reaches the limit is the other end."""
    rows = [
        f"llama2-70b,a100-80gb,{tokens},1,128,200,54.88,{devices},{peak},{mean},{whole}"
        for tokens, devices, peak, mean, whole in (
            (64, 2, 0.9, 0.7, 10_000),
            (128, 2, 1.01, 0.7, 10_000),
            (512, 2, 1.05, 0.9, 300),  # as much prompt as answer
            (32, 2, 1.0, 0.0, 10_000),  # not read
            (32, 8, 1.0, 0.3, 10_000),  # on more devices the host is waited for
        )
    ]
    header = SPLITWISE.splitlines()[0] + ",peak_power,average_power,e2e_time"
    (tmp_path / "perf.csv").write_text("\n".join([header, *rows]))
    power = read(tmp_path / "perf.csv", "a100-80gb").table.meta.extra["power"]
    share = 200 / 10_000
    decode = [400 * (0.7 - peak * share) / (1 - share) for peak in (0.9, 1.01)]
    assert [level["tokens"] for level in power["levels"]] == [1, 128]
    assert power["levels"][0]["power_w"] == pytest.approx(sum(decode) / 2, abs=0.1)
    assert power["levels"][1]["power_w"] == 400.0
    (tmp_path / "plain.csv").write_text(SPLITWISE)
    assert "power" not in read(tmp_path / "plain.csv", "a100-80gb").table.meta.extra


VIDUR = """time_stats.mlp_up_proj.median,time_stats.mlp_up_proj.max,time_stats.mlp_up_proj.std,\
time_stats.add.median,time_stats.add.max,time_stats.add.std,n_head,n_kv_head,n_embd,\
n_expanded_embd,use_gated_mlp,num_tokens,num_tensor_parallel_workers
0.5,0.6,0.01,0.0,0.0,0.0,32,8,4096,14336,True,7,2
"""


def test_vidur_shapes_are_those_of_a_shard(tmp_path: Path) -> None:
    (tmp_path / "mlp.csv.gz").write_bytes(gzip.compress(VIDUR.encode()))
    table = read(tmp_path, "a100-80gb").table
    assert detect(tmp_path) == "vidur"
    # the operation that took no time did not run
    assert list(table.rows()) == [
        {
            "kernel": "linear", "name": "gate_up", "format": "fp16", "tokens": 7, "n": 14336,
            "k": 4096, "devices": 2, "time_s": 5e-4, "spread_s": 1e-5,
        }
    ]  # fmt: skip


def without_time(text: str) -> str:
    return text.replace("time_stats.mlp_up_proj.std", "time_stats.mlp_up_proj.var")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (without_time, r"no column 'time_stats.mlp_up_proj.std'; did you mean 'time_stats"),
        (lambda text: text.replace("0.5,", "fast,"), r"mlp.csv:2: .*median is 'fast', not a numb"),
        (lambda text: text.replace(",7,", ",7.5,"), r"mlp.csv:2: num_tokens is '7.5', not a whole"),
        (lambda text: text.replace(",7,", ",-7,"), r"mlp.csv:2: num_tokens is '-7'"),
        (lambda text: text.replace(",7,", ",nan,"), r"mlp.csv:2: num_tokens is 'nan'"),
        (lambda text: text.replace(",7,2", ",7"), r"mlp.csv:2: 12 cells in a table of 13 columns"),
        (lambda text: text.replace("add", "subtract"), "unknown operation 'subtract'"),
        (lambda text: "", "the file is empty"),
        (lambda text: text.splitlines()[0], "no rows below the header"),
        (lambda text: text + '"', "damaged CSV"),
    ],
)
def test_damaged_text_is_told_with_its_place(
    damage: Callable[[str], str], message: str, tmp_path: Path
) -> None:
    (tmp_path / "mlp.csv").write_text(damage(VIDUR))
    with pytest.raises(InputError, match=message):
        read(tmp_path / "mlp.csv", "a100-80gb", "vidur")


def test_a_truncated_gzip_file_is_told(tmp_path: Path) -> None:
    whole = gzip.compress(VIDUR.encode())
    (tmp_path / "mlp.csv.gz").write_bytes(whole[:-20])
    with pytest.raises(InputError, match=r"mlp.csv.gz: damaged gzip file"):
        read(tmp_path, "a100-80gb")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"gemm_dtype": ["bfloat16", "int4_w", "sq"]}, r"parquet:2: .*'int4_w'.*'int4_wo'"),
        ({"m": [1, None, 4]}, r"parquet:2: m is nan, not a whole number"),
        ({"m": [1, 2, -4]}, r"parquet:3: m is -4"),
        ({"latency": ["1", "x", "3"]}, r"parquet:2: latency is 'x', not a number"),
        ({"framework": ["VLLM", None, "VLLM"]}, r"parquet:2: framework is None, not a word"),
    ],
)
def test_damaged_parquet_is_told_with_its_row(
    changes: dict[str, list[object]], message: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message):
        read(gemm(tmp_path, **changes), "l40s")


def test_a_cut_parquet_file_and_a_pointer_are_told(tmp_path: Path) -> None:
    file = next(gemm(tmp_path).rglob("*.parquet"))
    file.write_bytes(file.read_bytes()[:-30])
    with pytest.raises(InputError, match="damaged Parquet"):
        read(tmp_path, "l40s")
    file.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 2\n")
    with pytest.raises(InputError, match="pointer of Git LFS"):
        read(tmp_path, "l40s")


def test_what_is_no_format_is_told(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match="no table of a format that is known"):
        read(tmp_path / "x.csv", "l40s")
    with pytest.raises(InputError, match="unknown format 'vidor'; did you mean 'vidur'"):
        read(tmp_path, "l40s", "vidor")
    with pytest.raises(InputError, match="no such file"):
        read(tmp_path / "none", "l40s")


def test_a_missing_time_is_left_to_the_audit(tmp_path: Path) -> None:
    found = read(gemm(tmp_path, latency=[0.01, None, 0.03]), "l40s")
    assert np.isnan(found.table["time_s"][1])
    assert str(found.where(1)).endswith("gemm_perf.parquet:2")
    assert isinstance(found.table, KernelTable)


def infsim(*arguments: object) -> int | str | None:
    with pytest.raises(SystemExit) as end:
        main([str(argument) for argument in arguments])
    return end.value.code


def test_the_command_writes_a_table_and_says_what_it_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tables = gemm(tmp_path, latency=[0.01, -1.0, 0.03])
    out = tmp_path / "out"
    given = ("calibrate", "import", "auto", tables, "--device", "L40S", "--out", out)
    assert infsim(*given) in (0, None)
    said = capsys.readouterr().out
    assert "3 rows read, 1 refused, 0 repeats merged, 2 kept" in said
    assert "gemm_perf.parquet:2: time is not a positive number: -0.001 s" in said
    table = KernelTable.read(out)
    assert table.meta.hardware == "l40s"
    assert table.meta.command.startswith("infsim calibrate import auto")
    first = {file.name: file.read_bytes() for file in out.iterdir()}
    assert infsim(*given) in (0, None)
    assert first == {file.name: file.read_bytes() for file in out.iterdir()}


def test_the_command_ends_with_2_for_bad_input(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert infsim("calibrate", "import", "auto", tmp_path, "--device", "l40") == 2
    assert "unknown device 'l40'" in capsys.readouterr().err
    assert infsim("calibrate", "import", "splitwize", tmp_path, "--device", "l40s") == 2
    assert "did you mean 'splitwise'" in capsys.readouterr().err
