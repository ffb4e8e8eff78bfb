"""Pruned linear layers in PyTorch: without a pattern, in blocks, and 2:4."""

from __future__ import annotations

# mypy: disable-error-code="import-not-found, no-untyped-call, no-any-unimported, unused-ignore"
# mypy: disable-error-code="no-any-return, misc, attr-defined"
import warnings
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from infsim.calibrate.measure.kernel import Case, Kernel, Maker
from infsim.calibrate.measure.shapes import TOKENS, Matrix, Shapes
from infsim.calibrate.measure.torch_case import TOLERANCE, TWIN, case, random, require_torch

if TYPE_CHECKING:
    from torch import Tensor

DENSITIES = (0.5, 0.2, 0.1, 0.05)
BLOCK = 32
FEWER = tuple(x for x in TOKENS if x <= 256)
"""Beyond, no sparse kernel here comes near the dense one."""

Prune = Callable[["Tensor", float], "Tensor"]


def pruned(shapes: Shapes, device: str) -> Iterator[Kernel]:
    """Yield the pruned linear layers of a device, not divided; on CUDA, 2:4 in 16 bits too."""
    form = "fp32" if device == "cpu" else "fp16"
    for matrix in shapes.undivided.matrices:
        for density in DENSITIES:
            yield _sparse(matrix, form, "unstructured", density, device)
            yield _sparse(matrix, form, f"block-{BLOCK}", density, device)
        if device == "cuda":
            yield _sparse(matrix, "fp16", "2:4", 0.5, device)


def _sparse(matrix: Matrix, form: str, pattern: str, density: float, device: str) -> Kernel:
    prune, build, library = _PATTERNS[pattern]

    def prepare() -> Maker:
        weights = prune(random(matrix.n, matrix.k, form=form, device=device), density)
        layer = build(weights)
        twin = build(prune(random(TWIN, TWIN, form=form, device=device), density))
        cold_bytes = density * weights.nbytes

        def make(tokens: int) -> Case:
            # features by tokens: the layout in which these kernels multiply without a copy
            x = random(matrix.k, tokens, form=form, device=device)
            y = random(TWIN, tokens, form=form, device=device)
            return case(
                lambda: layer(x),
                lambda: weights.double() @ x.double(),
                lambda: (twin(y), x.sum()),
                cold_bytes,
            )

        return make

    columns: dict[str, str | int | float] = {
        "kernel": "linear", "name": matrix.name, "format": form, "library": library,
        "pattern": pattern, "n": matrix.n, "k": matrix.k, "devices": matrix.devices,
        "density": density,
    }  # fmt: skip
    return Kernel(columns, "tokens", FEWER, prepare, TOLERANCE[form])


def _unstructured(weights: Tensor, density: float) -> Tensor:
    return weights * (require_torch().rand_like(weights) < density)


def _blocks(weights: Tensor, density: float) -> Tensor:
    torch = require_torch()
    n, k = weights.shape
    kept = torch.rand(n // BLOCK, 1, k // BLOCK, 1, device=weights.device) < density
    return (weights.reshape(n // BLOCK, BLOCK, k // BLOCK, BLOCK) * kept).reshape(n, k)


def _two_of_four(weights: Tensor, density: float) -> Tensor:  # noqa: ARG001 - always a half
    torch = require_torch()
    fours = weights.reshape(-1, 4)
    kept = torch.zeros_like(fours).scatter_(1, fours.abs().topk(2, dim=1).indices, 1)
    return (fours * kept).reshape(weights.shape)


def _csr(weights: Tensor) -> Callable[[Tensor], Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # sparse CSR is called beta
        sparse = weights.to_sparse_csr()
    return lambda x: sparse @ x


def _bsr(weights: Tensor) -> Callable[[Tensor], Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sparse = weights.to_sparse_bsr((BLOCK, BLOCK))
    return lambda x: sparse @ x


def _semi_structured(weights: Tensor) -> Callable[[Tensor], Any]:
    from torch.sparse import to_sparse_semi_structured

    sparse = to_sparse_semi_structured(weights)
    return lambda x: sparse @ x


_PATTERNS: dict[str, tuple[Prune, Callable[[Any], Callable[[Any], Any]], str]] = {
    "unstructured": (_unstructured, _csr, "torch-csr"),
    f"block-{BLOCK}": (_blocks, _bsr, "torch-bsr"),
    "2:4": (_two_of_four, _semi_structured, "torch-semi-structured"),
}
