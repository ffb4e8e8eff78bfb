"""The kernels of a span of operators, looked up in the calibration of a device."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from math import log

from infsim.cluster.device import Device
from infsim.cluster.node import Node
from infsim.cost.attention import AttentionTime
from infsim.cost.calibration import Calibration
from infsim.cost.curves import Curve, total
from infsim.cost.linear import LAUNCH_S, LinearTimes, Peak
from infsim.cost.tables import (
    ALL_GATHER,
    ALL_REDUCE,
    REDUCE_SCATTER,
    AttentionTable,
    CollectiveTable,
    ElementTable,
    LinearTable,
)
from infsim.model.catalog import load_format
from infsim.model.formats import UNSTRUCTURED, Format, compute_type, multiplied
from infsim.model.graph import Linear, Operator

CLOCKS = 1.1
"""How much faster than its datasheet says a chip may clock; memory does not."""

MANY = 1e6
"""A number of tokens to which a straight line is drawn where only its slope is known."""


def covers(calibration: Calibration, form: Format, operators: Sequence[Operator]) -> bool:
    """Whether a calibration has the format, and the operators are made of known matrices."""
    return (
        linear_table(calibration, form) is not None
        and all(op.linears for op in operators)
        and all(op.attention_dim == 0 or _attention_tables(calibration, form) for op in operators)
    )


def peak_of(device: Device, form: Format) -> Peak:
    """What a device can do at most in a format."""
    share = multiplied(form, device.sparse_patterns)
    byte_s = 1 / device.bandwidth_bytes_per_s
    return Peak(
        mac_s=2 * share / _flops(device, form.compute),
        weight_s=form.weight_bits / 8 * byte_s,
        value_s=form.activation_bits / 8 * byte_s,
    )


class SpanKernels:
    """Curves and grids of all kernels that a node runs in an iteration of a span.

    Tensor parallelism gives each device its shard of the matrices and heads; norms and the
    residual stream are whole on each. Two all-reduces a layer bring the shards together.

    Data-parallel ranks have equal batches, and times are those against the tokens of one. Each
    computes its share of the experts for the tokens of all, which are exchanged before and after:
    gathered and scattered, together as much as an all-reduce.

    Parameters
    ----------
    node : Node
    form : Format
    operators : sequence of Operator
    calibration : Calibration
        Such that `covers`.

    Attributes
    ----------
    outside : bool
        A matrix, or the heads, are unlike the measured ones.
    """

    def __init__(
        self, node: Node, form: Format, operators: Sequence[Operator], calibration: Calibration
    ) -> None:
        self.outside = False
        self._node, self._form, self._calibration = node, form, calibration
        self._operators = operators
        table = linear_table(calibration, form)
        assert table is not None
        self._peak = peak_of(node.device, form)
        self._linear = LinearTimes(table, self._peak)
        self._kinds = list(Counter(map(_layer_alone, operators)).items())

    def by_tokens(self) -> Curve:
        """Seconds of all that depends on the tokens of the iteration only."""
        parts = [pair for op, count in self._kinds for pair in self._layer(op, count)]
        for op in self._operators:
            if op.extra_parameters:
                parts.append((1, self._element("embedding", op.output_values)))
            if op.head_macs:
                parts.append((1, self._element("norm", op.output_values)))
        return total(parts)

    def by_sequences(self) -> Curve | None:
        """Seconds of heads and sampling against sequences that need logits; None without."""
        parts = [pair for op in self._operators if op.head_macs for pair in self._head(op)]
        return total(parts) if parts else None

    def attention(self) -> list[tuple[int, AttentionTime]]:
        """How often each kind of attention runs, and its times."""
        return [(count, self._attention(op)) for op, count in self._kinds if op.attention_dim]

    def overhead_s(self) -> float:
        """Seconds of an iteration beside its kernels."""
        known = self._calibration.iteration_s
        iteration_s = self._node.device.overhead_s if known is None else known
        return iteration_s + len(self._operators) * self._calibration.operator_s

    # --- by tokens

    def _layer(self, op: Operator, count: int) -> Iterator[tuple[float, Curve]]:
        """Kernels of a layer, with how often they run."""
        devices, width = self._node.tensor_parallel, op.output_values
        for matrix in op.linears:
            if not matrix.expert:
                yield count, self._matrix(matrix)
        if any(matrix.expert for matrix in op.linears):
            yield count, self._experts(op)
        norms = 2 if op.attention_dim else 1
        yield norms * count, self._element("norm", width)
        if self._calibration.element("residual", width):  # elsewhere it is fused with the norms
            yield norms * count, self._element("residual", width)
        down = next((m for m in op.linears if m.name == "down"), None)
        if down is not None:
            inner = down.shard(devices)[1] * (op.active_experts if down.expert else 1)
            yield count, self._element("activation", inner)
        if op.attention_dim:
            keys = op.kv_values_per_token / 2
            yield count, self._element("rotary", (op.attention_dim + keys) / devices)
            if self._calibration.element("kv_write", 2 * keys):
                yield count, self._element("kv_write", 2 * keys / devices)
        exchanged = self._node.data_parallel > 1 and op.experts > 1
        if devices > 1:
            yield (norms - exchanged) * count, self._reduction(op, devices)
        if exchanged:
            yield from ((count, curve) for curve in self._exchange(op))

    def _matrix(self, matrix: Linear) -> Curve:
        n, k = matrix.shard(self._node.tensor_parallel)
        if matrix.name != "router":  # too small to matter
            self.outside = self.outside or not self._linear.covers(n, k)
        return self._linear.curve(n, k)

    def _experts(self, op: Operator) -> Curve:
        """Seconds of the expert matrices: of those that some token uses, with its tokens each.

        Tokens are routed evenly and independently. Data-parallel ranks divide whole experts among
        their devices, tensor-parallel devices divide each of them.
        """
        ranks = self._node.data_parallel
        owners = self._node.count if ranks > 1 else 1
        experts, active = op.experts / owners, op.active_experts / owners
        matrices = [m for m in op.linears if m.expert]
        shards = [m.shard(self._node.count // owners) for m in matrices]
        curve = self._linear.grouped(shards, experts, active)
        if curve is None:
            self.outside = self.outside or not all(self._linear.covers(n, k) for n, k in shards)
            curve = self._linear.separate(shards, experts, active)
        return curve.scaled(ranks)

    def _element(self, kernel: str, width: float) -> Curve:
        """Seconds of an element-wise kernel; of one that was not measured, its bytes."""
        table = self._calibration.element(kernel, width)
        if table is None:
            moved_s = 2 * width * self._peak.value_s
            return Curve((1.0, MANY), (LAUNCH_S + moved_s, LAUNCH_S + MANY * moved_s))
        return table.curve.scaled(width / table.width)

    def _exchange(self, op: Operator) -> Iterator[Curve]:
        """Seconds of bringing the tokens of all ranks to the experts, and the answers back."""
        devices = self._node.count
        known = [self._collective(name, devices) for name in (ALL_GATHER, REDUCE_SCATTER)]
        if all(known):
            token_bytes = op.output_values * self._form.activation_bits / 8
            yield from (table.curve.scaled(token_bytes) for table in known if table)
        else:
            yield self._reduction(op, devices, self._node.data_parallel)

    def _collective(self, name: str, devices: int) -> CollectiveTable | None:
        """The table of an operation, unless the scenario states the interconnect."""
        if self._node.interconnect_bytes_per_s is not None:
            return None
        tables = self._calibration.collectives
        return next((t for t in tables if (t.name, t.devices) == (name, devices)), None)

    def _reduction(self, op: Operator, devices: int, ranks: int = 1) -> Curve:
        """Seconds of one all-reduce of what leaves the operator for the tokens of some ranks."""
        node = self._node
        token_bytes = ranks * op.output_values * self._form.activation_bits / 8
        if table := self._collective(ALL_REDUCE, devices):
            return table.curve.scaled(token_bytes)
        bandwidth = node.interconnect_bytes_per_s or node.device.interconnect_bytes_per_s
        latency_s = node.interconnect_latency_s
        token_s = 2 * (devices - 1) / devices * token_bytes / bandwidth
        return Curve((1.0, MANY), (latency_s + token_s, latency_s + MANY * token_s))

    # --- by sequences

    def _head(self, op: Operator) -> Iterator[tuple[float, Curve]]:
        k = int(op.output_values)
        vocabulary = int(op.head_macs / op.output_values)
        n = -(-vocabulary // self._node.tensor_parallel)
        known = self._calibration.element("head", n * k)
        wide = linear_table(self._calibration, load_format("bf16"))
        if known is not None and known.width == n * k:
            yield 1, known.curve
        elif wide is not None:
            linear = LinearTimes(wide, peak_of(self._node.device, load_format("bf16")))
            yield 1, linear.curve(n, k)
        else:
            yield 1, _head_by_bytes(known, n * k, self._node.device)
        if (sampling := self._calibration.element("sample", vocabulary)) is not None:
            yield 1, sampling.curve.scaled(vocabulary / sampling.width)

    # --- attention

    def _attention(self, op: Operator) -> AttentionTime:
        devices = self._node.tensor_parallel
        keys = max(op.kv_values_per_token / 2 / devices, op.head_dim or 1)
        queries = op.attention_dim / devices
        tables = _attention_tables(self._calibration, self._form)
        group = queries / keys

        def unlike(table: AttentionTable) -> tuple[float, float, float]:
            return (
                abs(log(table.head_dim / op.head_dim)) if op.head_dim else 0.0,
                abs(log(table.heads / table.kv_heads / group)),
                abs(log(table.kv_heads * table.head_dim / keys)),
            )

        table = min(tables, key=unlike)
        if any(unlike(table)[:2]):
            self.outside = True
        byte_s = 1 / self._node.device.bandwidth_bytes_per_s
        return AttentionTime(
            table,
            queries / (table.heads * table.head_dim),
            keys / (table.kv_heads * table.head_dim),
            pair_s=2 * queries * 2 / _flops(self._node.device, _wide(self._form)),
            entry_s=2 * keys * self._form.kv_bits / 8 * byte_s,
        )


def _layer_alone(op: Operator) -> Operator:
    """Strip what is not priced with the layer, so that the layers of a chain are of one kind."""
    return replace(
        op, name="", extra_parameters=0, head_parameters=0, head_macs=0, tied_parameters=0
    )


def _head_by_bytes(known: ElementTable | None, weights: int, device: Device) -> Curve:
    """A head of another size: in proportion, or as fast as its weights are read."""
    if known is None:
        return Curve((1.0,), (LAUNCH_S + 2 * weights / device.bandwidth_bytes_per_s,))
    ratio = weights / known.width
    return Curve(known.curve.x, tuple(ratio * t for t in known.curve.time_s))


def linear_table(calibration: Calibration, form: Format) -> LinearTable | None:
    """The table of a format; of one that was not measured, that of a format alike.

    bf16 and fp16 stand in for each other, and formats that differ in other things than what a
    linear layer reads and multiplies: zeros that are stored like any weight make no difference.
    """
    alike = [t for t in calibration.linears if _kind(load_format(t.format)) == _kind(form)]

    def unlike(table: LinearTable) -> tuple[bool, bool]:
        return table.format != form.name, load_format(table.format).compute != form.compute

    return min(alike, key=unlike, default=None)


def _attention_tables(calibration: Calibration, form: Format) -> list[AttentionTable]:
    """Tables in as many bits as the KV cache; a processor without 16 bits computes in 32."""
    tables: dict[float, list[AttentionTable]] = {}
    for table in calibration.attentions:
        tables.setdefault(load_format(table.format).weight_bits, []).append(table)
    return tables.get(form.kv_bits) or (tables.get(32, []) if form.kv_bits == 16 else [])


def _kind(form: Format) -> tuple[object, ...]:
    compute = "16" if form.compute in ("bf16", "fp16") else form.compute
    zeros = ("", 1.0) if form.pattern == UNSTRUCTURED else (form.pattern, form.density)
    return form.weight_bits, compute, *zeros


def _wide(form: Format) -> str:
    """Attention stays in 16 bits where the linear parts are narrower."""
    return "fp32" if form.compute == "fp32" else "bf16"


def _flops(device: Device, compute: str) -> float:
    """The rate that a device never exceeds."""
    return CLOCKS * device.peak_flops[compute_type(compute, frozenset(device.peak_flops))]
