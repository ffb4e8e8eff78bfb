"""A Llama of random weights as a GGUF file: only its speed matters."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

FORMATS = ("F16", "Q8_0", "Q4_0")


@dataclass(frozen=True)
class Shape:
    """Dimensions of a Llama.

    One so small that its weights lie in the caches of one core (0.1 to 0.5 MB). With weights of 10
    to 30 MB, about as many as the cache that all cores share, a decode took a fifth longer just
    after a prompt, and far longer while neighbours computed. Large models have neither effect, as
    they read all weights from memory in every step (90 to 320 MB: within 1 %), but they take too
    long to be recorded.

    Its attention is as narrow as it is beside the matrices of a large model. Each token looks
    through the cache up to the highest entry that is in use, and where that is depends on requests
    that have ended: with three heads in two layers, that alone made TTFT 5 % too short at load
    0.85.
    """

    layers: int = 1
    hidden: int = 192
    feed_forward: int = 320
    heads: int = 1
    kv_heads: int = 1
    head_dim: int = 32
    vocabulary: int = 64
    context: int = 256


def matrices(shape: Shape) -> dict[str, tuple[int, int]]:
    """Return rows and columns of every matrix, by its name in a GGUF file."""
    queries, kv = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    table = {
        "token_embd.weight": (shape.vocabulary, shape.hidden),
        "output.weight": (shape.vocabulary, shape.hidden),
    }
    for i in range(shape.layers):
        table |= {
            f"blk.{i}.attn_q.weight": (queries, shape.hidden),
            f"blk.{i}.attn_k.weight": (kv, shape.hidden),
            f"blk.{i}.attn_v.weight": (kv, shape.hidden),
            f"blk.{i}.attn_output.weight": (shape.hidden, queries),
            f"blk.{i}.ffn_gate.weight": (shape.feed_forward, shape.hidden),
            f"blk.{i}.ffn_up.weight": (shape.feed_forward, shape.hidden),
            f"blk.{i}.ffn_down.weight": (shape.hidden, shape.feed_forward),
        }
    return table


def write(path: Path, shape: Shape, form: str, seed: int = 1) -> None:
    """Write the model with all matrices in one of the `FORMATS`."""
    from gguf import GGMLQuantizationType, GGUFWriter, LlamaFileType
    from gguf.quants import quantize

    kind = GGMLQuantizationType[form]
    writer = GGUFWriter(path, "llama")
    writer.add_file_type(LlamaFileType[f"MOSTLY_{form}"])
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.hidden)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.feed_forward)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_key_length(shape.head_dim)
    writer.add_value_length(shape.head_dim)
    writer.add_rope_dimension_count(shape.head_dim)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(shape.vocabulary)
    writer.add_tokenizer_model("no_vocab")
    rng = np.random.default_rng(seed)
    for name, (rows, columns) in matrices(shape).items():
        values = rng.normal(0, columns**-0.5, (rows, columns)).astype(np.float32)
        writer.add_tensor(name, quantize(values, kind), raw_dtype=kind)
    ones = np.ones(shape.hidden, dtype=np.float32)
    for i in range(shape.layers):
        writer.add_tensor(f"blk.{i}.attn_norm.weight", ones)
        writer.add_tensor(f"blk.{i}.ffn_norm.weight", ones)
    writer.add_tensor("output_norm.weight", ones)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
