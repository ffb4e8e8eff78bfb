"""Whole steps of a model with random weights: decodes, chunks of prompts, and both in one batch.

The sum of kernels can be held against them, dense and in the quantized formats. Each layer has
weights and a KV cache of its own, so that all come from memory as in an engine; what an engine does
between steps is left out.
"""

from __future__ import annotations

# mypy: disable-error-code="import-not-found, no-untyped-call, no-any-unimported, unused-ignore"
# mypy: disable-error-code="no-any-return, misc, attr-defined"
import os
from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING

from infsim.calibrate.measure.kernel import Case, Kernel, Maker
from infsim.calibrate.measure.torch_case import (
    TOLERANCE,
    random,
    relative_error,
    require_torch,
    wide,
)
from infsim.calibrate.measure.torch_linear import Layer, dense
from infsim.calibrate.measure.torch_model import (
    Form,
    Layers,
    Weights,
    forms,
    random_weights,
)
from infsim.model.architecture import Architecture
from infsim.model.catalog import load_architecture

if TYPE_CHECKING:
    from torch import Tensor

CONTEXTS = (64, 256, 1024, 2048)
CHUNKS = (16, 64, 128, 256, 512)
DECODES = (1, 4, 16)
MIXED_CONTEXT = 512
LONGEST_S = 5.0


def steps(models: Sequence[str], device: str) -> Iterator[Kernel]:
    """Yield steps of models without experts: decodes along their context, chunks beside decodes."""
    for name in models:
        model = load_architecture(name)
        if model.experts > 1 or not model.gated_ffn or not _fits(model, device):
            continue
        for form in forms(device):
            yield from _kernels(model, form, device)


def _kernels(model: Architecture, form: Form, device: str) -> Iterator[Kernel]:
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
    form: Form,
    device: str,
    axis: str,
    points: tuple[int, ...],
    batch: dict[str, int],
) -> Kernel:
    def prepare() -> Maker:
        weights = random_weights(model, form, device)

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


class _Step:
    """A batch of at most one chunk of a prompt and of sequences that decode."""

    def __init__(
        self, model: Architecture, weights: Weights, chunk: int, decodes: int, context: int
    ) -> None:
        torch = require_torch()
        self._layers, self._weights = Layers(model, weights), weights
        self._chunk, self._decodes = chunk, decodes
        device = str(weights.gain.device)
        self._x = random(chunk + decodes, model.hidden, form=wide(device), device=device)
        angle = torch.rand(chunk + decodes, 1, model.head_dim, device=device)
        self._cos, self._sin = (f(angle).to(self._x.dtype) for f in (torch.cos, torch.sin))
        shape = 2, decodes, model.kv_heads, context, model.head_dim
        self._caches = [
            random(*shape, form=wide(device), device=device) for _ in range(model.layers)
        ]

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
        for products, cache in zip(self._weights.layers, self._caches, strict=True):
            attend = partial(self._attention, cache)
            x = self._layers.layer(x, products, self._cos, self._sin, attend)
        return self._head(x)

    def error(self) -> float:
        """Error of a layer and the head against float64; more layers only add up roundings."""
        cache = self._caches[0]
        found = self._one_layer(self._weights.layers[0], self._x, cache, self._cos, self._sin)
        wide = {name: dense(matrix.double()) for name, matrix in self._weights.first.items()}
        exact = (value.double() for value in (self._x, cache, self._cos, self._sin))
        return relative_error(found, self._one_layer(wide, *exact))

    def _one_layer(
        self, products: dict[str, Layer], x: Tensor, cache: Tensor, cos: Tensor, sin: Tensor
    ) -> Tensor:
        attend = partial(self._attention, cache)
        return self._head(self._layers.layer(x, products, cos, sin, attend))

    def _head(self, x: Tensor) -> Tensor:
        return self._layers.logits(x[max(self._chunk - 1, 0) :])  # of a chunk only the last token

    def _attention(self, cache: Tensor, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
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
