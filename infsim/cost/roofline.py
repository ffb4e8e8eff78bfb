"""The roofline: time of an iteration from the peaks of the device, where nothing was measured.

An operator cannot be faster than its arithmetic at the device's peak rate, nor than its bytes
at the memory's peak bandwidth (Williams, Waterman, Patterson: Roofline, CACM 2009). Both peaks
are scaled by the share that real kernels reach, and launching costs a constant time per
iteration and per operator.

Where both bounds are near (batches of about 64 to 512 tokens) kernels hide one behind the other
only in part. The linear parts therefore take ``hypot(arithmetic, bytes)`` instead of the larger
one: layers of 65 to 256 tokens measured on an A100 and an RTX 4090 are then met within 4 and 7 %
in the median, where the larger bound alone is 19 and 16 % too fast
(``tests/fidelity/test_roofline.py``).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import hypot, inf

from infsim.cluster.device import Device
from infsim.cluster.node import Node
from infsim.cost.interface import StepCost
from infsim.model.formats import Format, compute_type, multiplied
from infsim.model.graph import Operator


@dataclass(frozen=True, slots=True)
class _Linear:
    """Seconds of the linear parts of one kind of operator: ``hypot(t * a, w(t) + t * b)``."""

    count: int
    arithmetic_s: float  # per token
    weights_s: float  # per iteration
    expert_weights_s: float  # per iteration, if all experts are used
    expert_idle: float  # probability that the tokens of all ranks do not use a given expert
    traffic_s: float  # per token

    def time_s(self, tokens: int) -> float:
        weights_s = self.weights_s
        if self.expert_weights_s:
            weights_s += self.expert_weights_s * (1.0 - self.expert_idle**tokens)
        return self.count * hypot(tokens * self.arithmetic_s, weights_s + tokens * self.traffic_s)


class RooflineStepCost(StepCost):
    """Time of an iteration by the roofline.

    Tensor parallelism over the devices of the node divides arithmetic and bytes evenly, and
    adds two ring all-reduces of the activations per layer (one for an operator without
    attention): ``latency + 2 (n - 1) / n * bytes / bandwidth`` each.

    A mixture of experts reads the weights of the experts that some token of the iteration
    uses; tokens are taken to be routed independently and evenly. Data-parallel ranks have equal
    batches, of which the iteration is told one; each reads its share of the experts for the tokens
    of all, and these are exchanged as in an all-reduce.

    Parameters
    ----------
    node : Node
    form : Format
    operators : sequence of Operator
        The span, all computed in one iteration.
    """

    calibrated = False

    def __init__(self, node: Node, form: Format, operators: Sequence[Operator]) -> None:
        self.source = f"roofline of {node.device.name} ({node.device.source})"
        self.calls = self.extrapolated = 0
        rates = _Rates(node, form)
        kinds = Counter(map(_layer_alone, operators)).items()
        self._linear = tuple(rates.linear(op, count) for op, count in kinds)
        self._prefill = tuple(
            (count * op.attention_dim * rates.pair_s, count * op.kv_values_per_token * rates.kv_s)
            for op, count in kinds
            if op.attention_dim or op.kv_values_per_token
        )
        self._decode_slope_s = sum(max(pair_s, kv_s) for pair_s, kv_s in self._prefill)
        self._heads = tuple(rates.head(op) for op in operators if op.head_macs)
        collectives = [(count, *rates.collectives_s(op)) for op, count in kinds]
        self._overhead_s = (
            node.device.overhead_s
            + len(operators) * node.device.layer_overhead_s
            + sum(count * latency_s for count, latency_s, _ in collectives)
        )
        self._reduce_s = sum(count * token_s for count, _, token_s in collectives)
        self._decode_base_s: dict[int, float] = {}

    def step_s(
        self,
        prefill_tokens: int,
        prefill_pairs: float,
        prefill_context: float,
        decode_sequences: int,
        decode_context: float,
        sequences: int,
    ) -> float:
        self.calls += 1
        time_s = self._base_s(prefill_tokens + decode_sequences, sequences)
        time_s += self._decode_slope_s * decode_context
        if prefill_tokens:
            for pair_s, kv_s in self._prefill:
                time_s += max(pair_s * prefill_pairs, kv_s * prefill_context)
        return time_s

    def decode_line(
        self,
        sequences: int,
        context: float,  # noqa: ARG002 - one line holds for every context
    ) -> tuple[float, float, float]:
        self.calls += 1
        base_s = self._decode_base_s.get(sequences)
        if base_s is None:
            base_s = self._decode_base_s[sequences] = self._base_s(sequences, sequences)
        return base_s, self._decode_slope_s, inf

    def _base_s(self, tokens: int, sequences: int) -> float:
        """Everything but attention."""
        time_s = self._overhead_s + self._reduce_s * tokens
        for linear in self._linear:
            time_s += linear.time_s(tokens)
        if sequences:
            for arithmetic_s, weights_s in self._heads:
                time_s += hypot(sequences * arithmetic_s, weights_s)
        return time_s


def _layer_alone(op: Operator) -> Operator:
    """Strip what is not priced with the layer, so that the layers of a chain are of one kind."""
    return replace(
        op, name="", extra_parameters=0, head_parameters=0, head_macs=0, tied_parameters=0
    )


class _Rates:
    """Seconds per unit of work of a format on the devices of a node."""

    def __init__(self, node: Node, form: Format) -> None:
        device, count = node.device, node.tensor_parallel
        bandwidth = device.bandwidth_bytes_per_s * device.bandwidth_efficiency * count
        wide = "fp32" if form.compute == "fp32" else "bf16"
        self._form = form
        self._byte_s = 1 / bandwidth
        self._ranks = node.data_parallel
        self._share = multiplied(form, device.sparse_patterns)
        self._mac_s = 2 / (_peak(device, form.compute) * device.compute_efficiency * count)
        # Attention and head stay in 16 bits where the linear parts are narrower.
        self._wide_mac_s = 2 / (_peak(device, wide) * device.compute_efficiency * count)
        self.pair_s = 2 * self._wide_mac_s  # per unit of attention_dim: scores and values
        self.kv_s = form.kv_bits / 8 * self._byte_s
        self._node = node
        interconnect = node.interconnect_bytes_per_s or device.interconnect_bytes_per_s
        self._sent_value_s = 2 * form.activation_bits / 8 / interconnect

    def linear(self, op: Operator, count: int) -> _Linear:
        weight_s = self._form.weight_bits / 8 * self._byte_s
        value_s = self._form.activation_bits / 8 * self._byte_s
        return _Linear(
            count=count,
            arithmetic_s=op.macs_per_token * self._share * self._mac_s,
            weights_s=(op.parameters - op.expert_parameters) * weight_s,
            expert_weights_s=op.expert_parameters * weight_s / self._ranks,
            expert_idle=(1 - op.active_experts / op.experts) ** self._ranks,
            traffic_s=2 * op.output_values * value_s + op.kv_values_per_token * self.kv_s,
        )

    def collectives_s(self, op: Operator) -> tuple[float, float]:
        """Seconds of the collective operations of a layer, and those that each token adds."""
        devices, ranks = self._node.tensor_parallel, self._node.data_parallel
        reductions = 2 if op.attention_dim else 1
        exchanges = 1 if ranks > 1 and op.expert_parameters else 0
        times = (reductions - exchanges) * (devices > 1)
        sent = times * (devices - 1) / devices
        sent += exchanges * ranks * (self._node.count - 1) / self._node.count
        latency_s = (times + exchanges) * self._node.interconnect_latency_s
        return latency_s, sent * op.output_values * self._sent_value_s

    def head(self, op: Operator) -> tuple[float, float]:
        weights_s = op.head_parameters * self._form.embedding_bits / 8 * self._byte_s
        return op.head_macs * self._wide_mac_s, weights_s


def _peak(device: Device, compute: str) -> float:
    return device.peak_flops[compute_type(compute, frozenset(device.peak_flops))]
