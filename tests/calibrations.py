"""Made-up coefficients of a device, and the costs that follow from them."""

from __future__ import annotations

from typing import Any

from infsim.cluster.device import load_device
from infsim.cluster.node import Node
from infsim.cost.calibration import Calibration
from infsim.cost.curves import Curve
from infsim.cost.measured import MeasuredStepCost
from infsim.cost.tables import AttentionTable, ElementTable, LinearTable
from infsim.model.architecture import Architecture
from infsim.model.catalog import load_format

BF16 = load_format("bf16")
TINY = Architecture(
    "tiny", layers=2, hidden=256, heads=4, kv_heads=2, head_dim=64, ffn=512,
    vocabulary=1000, max_context=4096,
).graph().operators  # fmt: skip
SHAPES = ((512, 256), (256, 256), (1024, 256), (256, 512))
TOKENS = (1.0, 2.0, 16.0, 64.0)


def a_calibration(**changes: Any) -> Calibration:
    """Made-up times of the matrices of `TINY` on an RTX 4090, in milliseconds and slow."""
    linear = LinearTable(
        "bf16", "test", TOKENS,
        {shape: tuple(1e-3 * (i + 1) * (2 + m) for m in TOKENS) for i, shape in enumerate(SHAPES)},
        {},
    )  # fmt: skip
    chunks, prefixes, counts, contexts = (16.0, 64.0), (0.0, 128.0), (1.0, 8.0), (64.0, 256.0)
    attention = AttentionTable(
        "bf16", "test", 4, 2, 64,
        chunks, prefixes, tuple(1e-3 * (c + c * p / 64) for c in chunks for p in prefixes),
        counts, contexts, tuple(1e-3 * (1 + d * c / 64) for d in counts for c in contexts),
    )  # fmt: skip
    elements = tuple(
        ElementTable(kernel, width, Curve((1.0, 64.0), (1e-4, 2e-4)))
        for kernel, width in (("norm", 256), ("activation", 512), ("rotary", 384))
    )
    heads = (
        ElementTable("head", 256_000, Curve((1.0, 8.0), (5e-3, 6e-3))),
        ElementTable("sample", 1000, Curve((1.0, 8.0), (1e-3, 2e-3))),
    )
    given: dict[str, Any] = {
        "device": "rtx-4090", "source": "made up", "licence": "none", "linears": (linear,),
        "attentions": (attention,), "elements": (*elements, *heads), "iteration_s": 1e-2,
    }  # fmt: skip
    return Calibration(**given | changes)


def a_cost(**changes: Any) -> MeasuredStepCost:
    return MeasuredStepCost(
        Node("n", load_device("rtx-4090")), BF16, TINY, a_calibration(**changes)
    )
