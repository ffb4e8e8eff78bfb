"""What all kernels in PyTorch share: random inputs, and their check against float64."""

from __future__ import annotations

# torch is an extra, and typed in part; where it is missing, its types are unknown
# mypy: disable-error-code="import-not-found, no-untyped-call, no-any-unimported, unused-ignore"
# mypy: disable-error-code="no-any-return, misc, attr-defined"
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from infsim.calibrate.measure.kernel import Case
from infsim.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

TYPES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
TOLERANCE = {
    "fp32": 1e-5,
    "fp16": 2e-3,
    "bf16": 1e-2,
    "fp8": 6e-2,
    "w8a16": 2e-2,
    "w8a8": 5e-2,
    "w4a16": 0.15,
    "w4a8": 0.15,
}
"""Relative errors (Frobenius norm) of products of random normal values that a format explains:
rounding by half a unit in the last place, of 4 bits by a scale for each group of 128. Without VNNI,
pairs of int8 products saturate in 16 bits: up to 3.5 % in 44 draws of ONNX Runtime on Zen 3."""

TWIN = 128
"""Side of the small matrix that is multiplied just before, untimed, by the same kernel.

In a model its code and what it keeps are in the cache from the layer before. Without that, int8
layers of ``torch.ao`` for one token were measured to take two to three times as long.
"""


def require_torch() -> Any:
    """Return torch, or say how to get it."""
    try:
        import torch
    except ImportError as error:
        raise InputError(
            "measuring needs PyTorch, which is not installed", hint="pip install infsim[calibrate]"
        ) from error
    return torch


def wide(device: str) -> str:
    """Return the number type in which activations are best kept: bf16 where it is multiplied."""
    if device == "cuda":
        return "bf16"
    # builds without that library do not have the question either
    supported = getattr(require_torch().ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: False)
    return "bf16" if supported() else "fp32"


def random(*shape: int, form: str = "fp32", device: str = "cpu") -> Tensor:
    """Return normal values in a number format: zeros would cost less power, and no bits flip."""
    torch = require_torch()
    return torch.randn(shape, device=device).to(getattr(torch, TYPES[form]))


def case(
    run: Callable[[], Any],
    reference: Callable[[], Tensor],
    touch: Callable[[], object] | None = None,
    cold_bytes: float = 0.0,
) -> Case:
    """Return a case whose result must agree with a float64 reference of the same shape."""

    def error() -> float:
        return relative_error(run(), reference())

    return Case(run, error, touch, cold_bytes=cold_bytes)


def warm(run: Callable[[], Any], reference: Callable[[], Tensor]) -> Case:
    """Return a case that finds its inputs in the cache, as the kernel before left them there."""
    return case(run, reference, touch=run)


def relative_error(found: Any, true: Tensor) -> float:
    """Frobenius norm of the difference, relative to that of the truth; infinite if not finite."""
    torch = require_torch()
    got = torch.as_tensor(found).to(device=true.device, dtype=torch.float64).reshape(true.shape)
    error = float((got - true).norm() / true.norm().clamp_min(1e-300))
    return error if error == error else float("inf")
