"""The least time that physics allows an iteration, written down apart from the cost models."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from infsim.cluster.node import Node
from infsim.cost.interface import StepCost
from infsim.model.formats import Format, compute_type
from infsim.model.graph import Operator

CLOCKS = 1.1
"""Chips clock a tenth above their datasheets; memory does not."""


@dataclass(frozen=True)
class Batch:
    """Equal chunks of prompts after a prefix, beside sequences that decode."""

    chunks: int = 0
    tokens: int = 0
    prefix: int = 0
    decodes: int = 0
    context: int = 0

    @property
    def pairs(self) -> float:
        """Queries times the keys that they see."""
        return self.chunks * (self.tokens * self.prefix + self.tokens * (self.tokens + 1) / 2)

    @property
    def logits(self) -> int:
        """Sequences that need some."""
        return self.chunks + self.decodes

    def priced(self, cost: StepCost) -> float:
        """Seconds by a cost model."""
        return cost.step_s(
            self.chunks * self.tokens,
            self.pairs,
            float(self.chunks * (self.prefix + self.tokens)),
            self.decodes,
            float(self.decodes * self.context),
            self.logits,
        )


def least_s(node: Node, form: Format, operators: Sequence[Operator], batch: Batch) -> float:
    """Sum over the operators: arithmetic at the peak, or bytes at the memory's, the larger one."""
    return sum(max(pair) for op in operators for pair in _parts(node, form, op, batch))


def _parts(node: Node, form: Format, op: Operator, batch: Batch) -> Iterator[tuple[float, float]]:
    """Seconds of arithmetic and of moving bytes of the matrices, of attention, and of the head."""
    device = node.device
    byte_s = 1 / device.bandwidth_bytes_per_s / node.count
    narrow, wide = (_mac_s(node, name) for name in (form.compute, _wide(form)))
    tokens = batch.chunks * batch.tokens + batch.decodes
    stored_apart = form.pattern in ("csr", "block-32")  # without their zeros
    skips = stored_apart or form.pattern in device.sparse_patterns
    skipped = form.density if skips else 1.0
    idle = op.expert_parameters * (1 - op.active_experts / op.experts)
    weights = (op.parameters - idle) * form.weight_bits / 8
    yield tokens * op.macs_per_token * skipped * narrow, weights * byte_s
    entries = batch.decodes * batch.context
    yield (
        2 * op.attention_dim * batch.pairs * wide,
        op.kv_values_per_token * entries * form.kv_bits / 8 * byte_s,
    )
    if batch.logits:
        yield batch.logits * op.head_macs * wide, 0.0


def _wide(form: Format) -> str:
    return "fp32" if form.compute == "fp32" else "bf16"


def _mac_s(node: Node, compute: str) -> float:
    known = node.device.peak_flops
    return 2 / (CLOCKS * known[compute_type(compute, frozenset(known))] * node.count)
