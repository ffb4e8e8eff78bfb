"""Linear layers in PyTorch: dense, 8 and 4 bits, on processors and on CUDA."""

from __future__ import annotations

# mypy: disable-error-code="import-not-found, no-untyped-call, no-any-unimported, unused-ignore"
# mypy: disable-error-code="no-any-return, misc, attr-defined"
import warnings
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from infsim.calibrate.measure.kernel import Case, Kernel, Maker
from infsim.calibrate.measure.shapes import SMALL, TOKENS, Matrix, Shapes
from infsim.calibrate.measure.torch_case import TOLERANCE, TWIN, case, random, require_torch
from infsim.model.catalog import load_format

if TYPE_CHECKING:
    from torch import Tensor

GROUP = 128
"""Weights that share a scale in 4 bits."""

Layer = Callable[["Tensor"], Any]
Build = Callable[["Tensor"], Layer]
"""From weights (n, k) in the number type of the activations to a layer."""


def linears(shapes: Shapes, device: str) -> Iterator[Kernel]:
    """Yield the linear layers of a device in all formats that PyTorch has for it."""
    for matrix in shapes.matrices:
        for form in ("fp32", "bf16", "fp16"):
            yield linear(matrix, form, "torch", dense, device, form)
        for form, library, build, activations in quantized(device):
            yield linear(matrix, form, library, build, device, activations)


def linear(
    matrix: Matrix, form: str, library: str, build: Build, device: str, activations: str
) -> Kernel:
    """Return one linear layer.

    Parameters
    ----------
    matrix : Matrix
    form : str
        Format of the weights, for the table.
    library : str
    build : callable
        Makes the layer from weights in this number type.
    device : str
    activations : str
        Number type in which activations, and weights before quantization, come.
    """
    cold_bytes = matrix.n * matrix.k * load_format(form).weight_bits / 8

    def prepare() -> Maker:
        weights = random(matrix.n, matrix.k, form=activations, device=device)
        layer = build(weights)
        twin = build(random(TWIN, TWIN, form=activations, device=device))

        def make(tokens: int) -> Case:
            x = random(tokens, matrix.k, form=activations, device=device)
            y = random(tokens, TWIN, form=activations, device=device)
            return case(
                lambda: layer(x),
                lambda: x.double() @ weights.double().T,
                lambda: (twin(y), x.sum()),
                cold_bytes,
            )

        return make

    columns: dict[str, str | int | float] = {
        "kernel": "linear", "name": matrix.name, "format": form, "library": library,
        "n": matrix.n, "k": matrix.k, "devices": matrix.devices,
    }  # fmt: skip
    return Kernel(columns, "tokens", TOKENS, prepare, TOLERANCE[form], SMALL)


def dense(weights: Tensor) -> Layer:
    """Weights as they are."""
    linear = require_torch().nn.functional.linear
    return lambda x: linear(x, weights)


def quantized(device: str) -> tuple[tuple[str, str, Build, str], ...]:
    """Return format, library, builder and number type of the activations of quantized layers."""
    if device == "cpu":
        return (
            ("w8a8", "torch-dynamic", _dynamic_module, "fp32"),
            ("w8a8", "torch-int_mm", _int_mm, "bf16"),
            ("w8a16", "torch-int8pack", _int8pack, "bf16"),
            ("w4a16", "torch-int4pack", _int4pack_cpu, "bf16"),
            ("fp8", "torch-scaled_mm", _scaled_mm, "bf16"),
        )
    return (
        ("w8a8", "torch-int_mm", _int_mm, "bf16"),
        ("w8a16", "torch-int8pack", _int8pack, "bf16"),
        ("w4a16", "torch-int4pack", _int4pack_cuda, "bf16"),
        ("fp8", "torch-scaled_mm", _scaled_mm, "bf16"),
    )


def _dynamic_module(weights: Tensor) -> Layer:
    """``torch.ao`` dynamic quantization: int8 weights, activations quantized on the way."""
    torch = require_torch()
    module = torch.nn.Linear(weights.shape[1], weights.shape[0], bias=False)
    module.weight = torch.nn.Parameter(weights, requires_grad=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is to move to another package some day
        model = torch.ao.quantization.quantize_dynamic(
            torch.nn.Sequential(module), {torch.nn.Linear}, dtype=torch.qint8
        )

    def layer(x: Tensor) -> Tensor:
        with torch.no_grad():
            return model(x)

    return layer


def _int_mm(weights: Tensor) -> Layer:
    """Int8 product with a scale for each token and output; 16 rows at least on CUDA."""
    torch = require_torch()
    quantized, scales = _per_row(weights.float())
    transposed = quantized.T
    fewest = 17 if weights.is_cuda else 1

    def layer(x: Tensor) -> Tensor:
        rows, scale = _per_row(x)
        if len(x) < fewest:
            rows = torch.nn.functional.pad(rows, (0, 0, 0, fewest - len(x)))
        product = torch._int_mm(rows, transposed)[: len(x)]
        return (product.float() * scale * scales.T).to(x.dtype)

    return layer


def _per_row(values: Tensor) -> tuple[Tensor, Tensor]:
    """Int8 values and their scale (rows, 1)."""
    torch = require_torch()
    scale = values.float().abs().amax(1, keepdim=True).clamp_min(1e-12) / 127
    return (values.float() / scale).round().to(torch.int8), scale


def _int8pack(weights: Tensor) -> Layer:
    torch = require_torch()
    quantized, scales = _per_row(weights)
    scale = scales[:, 0].to(torch.bfloat16)
    return lambda x: torch._weight_int8pack_mm(x, quantized, scale)


def _int4pack_cpu(weights: Tensor) -> Layer:
    torch = require_torch()
    values, scales_and_zeros = _groups(weights)
    packed = torch._convert_weight_to_int4pack_for_cpu(values, 1)
    return lambda x: torch._weight_int4pack_mm_for_cpu(x, packed, GROUP, scales_and_zeros)


def _int4pack_cuda(weights: Tensor) -> Layer:
    torch = require_torch()
    values, scales_and_zeros = _groups(weights)
    pairs = (values[:, ::2] << 4 | values[:, 1::2]).to(torch.uint8)
    packed = torch._convert_weight_to_int4pack(pairs, 8)
    return lambda x: torch._weight_int4pack_mm(x, packed, GROUP, scales_and_zeros)


def _groups(weights: Tensor) -> tuple[Tensor, Tensor]:
    """Int32 values 0 to 15, and for each group and output a scale and the value of 8."""
    torch = require_torch()
    n, k = weights.shape
    if k % GROUP:
        raise ValueError(f"{k} input features are no multiple of the group of {GROUP}")
    grouped = weights.float().reshape(n, k // GROUP, GROUP)
    low, high = grouped.amin(-1, keepdim=True), grouped.amax(-1, keepdim=True)
    scale = (high - low).clamp_min(1e-12) / 15
    values = ((grouped - low) / scale).round().clamp(0, 15).to(torch.int32).reshape(n, k)
    zero = low + 8 * scale
    both = torch.cat([scale, zero], -1).transpose(0, 1).contiguous().to(torch.bfloat16)
    return values, both


def _scaled_mm(weights: Tensor) -> Layer:
    """E4M3 product with one scale for each tensor; activations are quantized on the way."""
    torch = require_torch()
    kind, largest = torch.float8_e4m3fn, 448.0
    scale = weights.float().abs().amax() / largest
    quantized = (weights.float() / scale).to(kind).T

    def layer(x: Tensor) -> Tensor:
        own = x.abs().amax().float() / largest
        values = (x / own).clamp(-largest, largest).to(kind)
        return torch._scaled_mm(
            values, quantized, scale_a=own, scale_b=scale, out_dtype=torch.bfloat16
        )

    return layer
