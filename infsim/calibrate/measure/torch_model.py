"""A Llama-like model with random weights: its layers, in any format that PyTorch multiplies."""

from __future__ import annotations

# mypy: disable-error-code="import-not-found, no-untyped-call, no-any-unimported, unused-ignore"
# mypy: disable-error-code="no-any-return, misc, attr-defined"
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from infsim.calibrate.measure.torch_case import random, require_torch, wide
from infsim.calibrate.measure.torch_linear import Build, Layer, dense, quantized
from infsim.errors import InputError, did_you_mean
from infsim.model.architecture import Architecture
from infsim.model.catalog import load_format

if TYPE_CHECKING:
    from torch import Tensor

EPSILON = 1e-6

Attend = Callable[["Tensor", "Tensor", "Tensor"], "Tensor"]
"""From queries (tokens, heads, head_dim), keys and values (tokens, kv_heads, head_dim) of the new
tokens to what each of them sees (tokens, heads * head_dim)."""


@dataclass(frozen=True)
class Form:
    """A format of the layers' matrices, and what multiplies with it.

    Attributes
    ----------
    name : str
        Of the catalogue.
    library : str
    build : callable
    """

    name: str
    library: str
    build: Build


def forms(device: str) -> list[Form]:
    """Return the formats whose activations are in the number type that is `wide` there."""
    return [Form(wide(device), "torch", dense)] + [
        Form(name, library, build)
        for name, library, build, activations in quantized(device)
        if activations == wide(device)
    ]


def form_of(name: str, device: str) -> Form:
    """Return one of `forms` by name.

    Raises
    ------
    InputError
        If nothing multiplies with it on the device.
    """
    found = {form.name: form for form in forms(device)}
    if name not in found:
        raise InputError(f"nothing multiplies {name!r} on {device}{did_you_mean(name, found)}")
    return found[name]


@dataclass(frozen=True)
class Weights:
    """Products of each layer by name, matrices of the first one, gains of the norms, the head."""

    layers: list[dict[str, Layer]]
    first: dict[str, Tensor]
    gain: Tensor
    head: Tensor
    size_bytes: float


@lru_cache(maxsize=1)
def random_weights(model: Architecture, form: Form, device: str) -> Weights:
    """Random values, scaled so that activations keep their size; the last ones made are kept."""

    def matrix(n: int, k: int) -> Tensor:
        return random(n, k, form=wide(device), device=device) / k**0.5

    linears = model.graph().operators[0].linears
    first = {m.name: matrix(m.n, m.k) for m in linears}
    layers = [{name: form.build(values) for name, values in first.items()}]
    for _ in range(1, model.layers):
        layers += [{m.name: form.build(matrix(m.n, m.k)) for m in linears}]
    gain = require_torch().ones_like(random(model.hidden, form=wide(device), device=device))
    head = matrix(model.vocabulary, model.hidden)
    weights = model.layers * sum(m.n * m.k for m in linears)
    size_bytes = weights * load_format(form.name).weight_bits / 8 + head.nbytes
    return Weights(layers, first, gain, head, size_bytes)


@dataclass(frozen=True)
class Layers:
    """What a model computes, attention aside, with activations in any number type."""

    model: Architecture
    weights: Weights

    def layer(
        self, x: Tensor, products: Mapping[str, Layer], cos: Tensor, sin: Tensor, attend: Attend
    ) -> Tensor:
        """Activations (tokens, hidden) behind a layer; cosines and sines are (tokens, 1, dim)."""
        model = self.model
        qkv = products["qkv"](self.norm(x))
        both = model.heads + model.kv_heads
        split = both * model.head_dim
        turned = _rotated(qkv[:, :split].unflatten(1, (both, model.head_dim)), cos, sin)
        values = qkv[:, split:].unflatten(1, (model.kv_heads, model.head_dim))
        x = x + products["o"](attend(turned[:, : model.heads], turned[:, model.heads :], values))
        gate, up = products["gate_up"](self.norm(x)).chunk(2, -1)
        return x + products["down"](require_torch().nn.functional.silu(gate) * up)

    def logits(self, x: Tensor) -> Tensor:
        """Return the logits (tokens, vocabulary) of some tokens."""
        linear = require_torch().nn.functional.linear
        return linear(self.norm(x), self.weights.head.to(x.dtype))

    def norm(self, x: Tensor) -> Tensor:
        """Return the root-mean-square norm of each token."""
        norm = require_torch().nn.functional.rms_norm
        return norm(x, (self.model.hidden,), self.weights.gain.to(x.dtype), EPSILON)


def _rotated(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    low, high = x.chunk(2, -1)
    return x * cos + require_torch().cat([-high, low], -1) * sin
