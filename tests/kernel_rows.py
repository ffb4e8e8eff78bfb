"""Made-up rows of kernel tables whose times follow formulas."""

from __future__ import annotations

from typing import Any

from infsim.calibrate.table import Meta
from infsim.cost.linear import Peak

META = Meta("rtx-4090", source="made up", licence="none")
PEAK = Peak(mac_s=1e-14, weight_s=2e-12, value_s=2e-12)


def linear_rows(shapes: Any, tokens: Any, form: str = "bf16", **more: Any) -> list[dict[str, Any]]:
    return [
        {"kernel": "linear", "format": form, "library": "a", "n": n, "k": k, "tokens": m,
         "time_s": PEAK.reference_s(m, n, k)} | more
        for n, k in shapes for m in tokens
    ]  # fmt: skip


def attention_rows() -> list[dict[str, Any]]:
    shape = {"kernel": "attention", "format": "bf16", "library": "a",
             "heads": 32, "kv_heads": 8, "head_dim": 128}  # fmt: skip
    prompts = [
        shape | {"prefills": b, "chunk": t, "time_s": 1e-5 + 1e-9 * b * t * t}
        for b in (1, 4) for t in (16, 128, 1024)
    ]  # fmt: skip
    decodes = [
        shape | {"decodes": d, "context": c, "time_s": 1e-5 + 1e-8 * d * c}
        for d in (1, 8, 64) for c in (64, 512, 4096)
    ]  # fmt: skip
    return prompts + decodes


def key_rows(decodes: int = 0, context: int = 0) -> list[dict[str, Any]]:
    """Attention by tokens and key, as one chunk or as several prompts, of an exact time."""
    shape = {"kernel": "attention", "format": "bf16", "library": "a",
             "heads": 32, "kv_heads": 8, "head_dim": 128}  # fmt: skip
    found = []
    for tokens in (16, 128, 1024):
        for key in (16, 64, 256, 1024, 4096):
            prompts = -(-tokens // (2 * key))
            chunk = tokens // prompts
            batch = {"prefills": prompts, "chunk": chunk, "prefix": key - chunk // 2}
            time_s = 1e-5 + 1e-9 * tokens * key + 1e-8 * decodes * context
            found.append(shape | batch | {"decodes": decodes, "context": context, "time_s": time_s})
    return found
