"""Whole steps of a model with random weights: decodes, chunks of prompts, and both in one batch.

The sum of kernels can be held against them, in bf16 and in the quantized formats. Each layer has
weights and a KV cache of its own, so that all come from memory as in an engine; what an engine does
between steps is left out.
"""

from __future__ import annotations

# mypy: disable-error-code="import-not-found, no-untyped-call, no-any-unimported, unused-ignore"
# mypy: disable-error-code="no-any-return, misc, attr-defined"
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from infsim.calibrate.measure.kernel import Case, Kernel, Maker
from infsim.calibrate.measure.torch_case import TOLERANCE, random, relative_error, require_torch
from infsim.calibrate.measure.torch_linear import Build, Layer, dense, quantized
from infsim.model.architecture import Architecture
from infsim.model.catalog import load_architecture, load_format

if TYPE_CHECKING:
    from torch import Tensor

WIDE = "bf16"
"""Number type of activations, KV cache and head."""
CONTEXTS = (64, 256, 1024, 2048)
CHUNKS = (16, 64, 128, 256, 512)
DECODES = (1, 4, 16)
MIXED_CONTEXT = 512
LONGEST_S = 5.0
EPSILON = 1e-6


@dataclass(frozen=True)
class _Form:
    """A format of the layers' matrices, and what multiplies with it."""

    name: str
    library: str
    build: Build


def steps(models: Sequence[str], device: str) -> Iterator[Kernel]:
    """Yield steps of models without experts: decodes along their context, chunks beside decodes."""
    forms = [_Form(WIDE, "torch", dense)]
    forms += [_Form(*form[:3]) for form in quantized(device) if form[3] == WIDE]
    for name in models:
        model = load_architecture(name)
        if model.experts > 1 or not model.gated_ffn or not _fits(model, device):
            continue
        for form in forms:
            yield from _kernels(model, form, device)


def _kernels(model: Architecture, form: _Form, device: str) -> Iterator[Kernel]:
    for decodes in DECODES:
        yield _kernel(model, form, device, "context", CONTEXTS, {"decodes": decodes})
    for decodes in (0, *DECODES):
        beside = {"decodes": decodes, "context": MIXED_CONTEXT} if decodes else {}
        yield _kernel(model, form, device, "chunk", CHUNKS, {"prefills": 1} | beside)


def _fits(model: Architecture, device: str) -> bool:
    """Whether the weights take less than half of the memory: random ones are made in 32 bits."""
    if device == "cuda":
        memory = require_torch().cuda.get_device_properties(0).total_memory
    else:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return 2 * sum(op.parameters for op in model.graph().operators) < memory / 2


def _kernel(
    model: Architecture,
    form: _Form,
    device: str,
    axis: str,
    points: tuple[int, ...],
    batch: dict[str, int],
) -> Kernel:
    def prepare() -> Maker:
        weights = _weights(model, form, device)

        def make(point: int) -> Case:
            told = batch | {axis: point}
            step = _Step(
                model, weights, told.get("chunk", 0), told.get("decodes", 0), told.get("context", 0)
            )
            return Case(step.logits, step.error, touch=step.touch, cold_bytes=step.cold_bytes)

        return make

    columns: dict[str, str | int | float] = {
        "kernel": "step", "name": model.name, "format": form.name, "library": form.library,
        "devices": 1,
    }  # fmt: skip
    tolerance = 5 * TOLERANCE[form.name]
    return Kernel(columns | batch, axis, points, prepare, tolerance, longest_s=LONGEST_S)


@dataclass(frozen=True)
class _Weights:
    """Products of each layer by name, matrices of the first one, gains of the norms, the head."""

    layers: list[dict[str, Layer]]
    first: dict[str, Tensor]
    gain: Tensor
    head: Tensor
    size_bytes: float


@lru_cache(maxsize=1)
def _weights(model: Architecture, form: _Form, device: str) -> _Weights:
    """Random values, scaled so that activations keep their size; made once for all batches."""

    def matrix(n: int, k: int) -> Tensor:
        return random(n, k, form=WIDE, device=device) / k**0.5

    linears = model.graph().operators[0].linears
    first = {m.name: matrix(m.n, m.k) for m in linears}
    layers = [{name: form.build(values) for name, values in first.items()}]
    for _ in range(1, model.layers):
        layers += [{m.name: form.build(matrix(m.n, m.k)) for m in linears}]
    gain = require_torch().ones_like(random(model.hidden, form=WIDE, device=device))
    head = matrix(model.vocabulary, model.hidden)
    weights = model.layers * sum(m.n * m.k for m in linears)
    size_bytes = weights * load_format(form.name).weight_bits / 8 + head.nbytes
    return _Weights(layers, first, gain, head, size_bytes)


class _Step:
    """A batch of at most one chunk of a prompt and of sequences that decode."""

    def __init__(
        self, model: Architecture, weights: _Weights, chunk: int, decodes: int, context: int
    ) -> None:
        torch = require_torch()
        self._model, self._weights = model, weights
        self._chunk, self._decodes = chunk, decodes
        device = str(weights.gain.device)
        self._x = random(chunk + decodes, model.hidden, form=WIDE, device=device)
        angle = torch.rand(chunk + decodes, 1, model.head_dim, device=device)
        self._cos, self._sin = (f(angle).to(self._x.dtype) for f in (torch.cos, torch.sin))
        shape = 2, decodes, model.kv_heads, context, model.head_dim
        self._caches = [random(*shape, form=WIDE, device=device) for _ in range(model.layers)]

    @property
    def cold_bytes(self) -> float:
        """Bytes of the weights and of the KV cache."""
        return self._weights.size_bytes + sum(cache.nbytes for cache in self._caches)

    def touch(self) -> object:
        """Activations were written just before."""
        return self._x.sum()

    def logits(self) -> Tensor:
        """Run the step; logits of the last token of the chunk and of each decode."""
        x = self._x
        for weights, cache in zip(self._weights.layers, self._caches, strict=True):
            x = self._layer(x, weights, cache, self._cos, self._sin)
        return self._head(x)

    def error(self) -> float:
        """Error of a layer and the head against float64; more layers only add up roundings."""
        weights, cache = self._weights.layers[0], self._caches[0]
        found = self._head(self._layer(self._x, weights, cache, self._cos, self._sin))
        wide = {name: dense(matrix.double()) for name, matrix in self._weights.first.items()}
        angles = self._cos.double(), self._sin.double()
        return relative_error(
            found, self._head(self._layer(self._x.double(), wide, cache.double(), *angles))
        )

    def _head(self, x: Tensor) -> Tensor:
        first = max(self._chunk - 1, 0)  # of a chunk only the last token
        linear = require_torch().nn.functional.linear
        return linear(self._norm(x[first:]), self._weights.head.to(x.dtype))

    def _layer(
        self, x: Tensor, weights: dict[str, Layer], cache: Tensor, cos: Tensor, sin: Tensor
    ) -> Tensor:
        functional = require_torch().nn.functional
        model = self._model
        qkv = weights["qkv"](self._norm(x))
        both = model.heads + model.kv_heads
        split = both * model.head_dim
        turned = _rotated(qkv[:, :split].unflatten(1, (both, model.head_dim)), cos, sin)
        values = qkv[:, split:].unflatten(1, (model.kv_heads, model.head_dim))
        seen = self._attention(turned[:, : model.heads], turned[:, model.heads :], values, cache)
        x = x + weights["o"](seen)
        gate, up = weights["gate_up"](self._norm(x)).chunk(2, -1)
        return x + weights["down"](functional.silu(gate) * up)

    def _norm(self, x: Tensor) -> Tensor:
        norm = require_torch().nn.functional.rms_norm
        return norm(x, (self._model.hidden,), self._weights.gain.to(x.dtype), EPSILON)

    def _attention(self, q: Tensor, k: Tensor, v: Tensor, cache: Tensor) -> Tensor:
        """Attention inside of the chunk, and of each decode over its cache, its own token last."""
        torch = require_torch()
        attention = torch.nn.functional.scaled_dot_product_attention
        c, parts = self._chunk, []
        if c:
            own = (x[:c].transpose(0, 1)[None] for x in (q, k, v))
            found = attention(*own, is_causal=True, enable_gqa=True)
            parts.append(found[0].transpose(0, 1).flatten(1))
        if self._decodes:
            keys, values = cache
            keys[:, :, -1], values[:, :, -1] = k[c:], v[c:]
            found = attention(q[c:, :, None], keys, values, enable_gqa=True)
            parts.append(found[:, :, 0].flatten(1))
        return torch.cat(parts)


def _rotated(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    low, high = x.chunk(2, -1)
    return x * cos + require_torch().cat([-high, low], -1) * sin
