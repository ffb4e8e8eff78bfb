"""Which kernels there are for a device, by name of the suite."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from infsim.calibrate.measure.kernel import Kernel
from infsim.calibrate.measure.shapes import Shapes
from infsim.errors import InputError, did_you_mean

Suite = Callable[[Shapes, str], Iterator[Kernel]]


def _linear(shapes: Shapes, device: str) -> Iterator[Kernel]:
    from infsim.calibrate.measure.torch_linear import linears

    return linears(shapes, device)


def _onnx(shapes: Shapes, device: str) -> Iterator[Kernel]:
    from infsim.calibrate.measure.onnx_linear import onnx_linears

    return onnx_linears(shapes) if device == "cpu" else iter(())


def _sparse(shapes: Shapes, device: str) -> Iterator[Kernel]:
    from infsim.calibrate.measure.torch_sparse import pruned

    return pruned(shapes, device)


def _attention(shapes: Shapes, device: str) -> Iterator[Kernel]:
    from infsim.calibrate.measure.torch_attention import attentions

    return attentions(shapes, device)


def _elements(shapes: Shapes, device: str) -> Iterator[Kernel]:
    from infsim.calibrate.measure.torch_elements import elements

    return elements(shapes, device)


def _codecs(shapes: Shapes, device: str) -> Iterator[Kernel]:
    from infsim.calibrate.measure.torch_elements import codecs

    return codecs(shapes, device)


def _copies(shapes: Shapes, device: str) -> Iterator[Kernel]:  # noqa: ARG001 - have no shapes
    from infsim.calibrate.measure.torch_copies import collectives, copies

    yield from copies(device)
    yield from collectives(device)


def _steps(shapes: Shapes, device: str) -> Iterator[Kernel]:
    from infsim.calibrate.measure.torch_step import steps

    return steps(shapes.models, device)


SUITES: dict[str, Suite] = {
    "linear": _linear,
    "onnx": _onnx,
    "attention": _attention,
    "elements": _elements,
    "sparse": _sparse,
    "codecs": _codecs,
    "copies": _copies,
    "steps": _steps,
}
"""Add an entry to measure further kernels: a function from shapes and device to kernels."""


def kernels(
    names: Sequence[str], shapes: Shapes, device: str, formats: Sequence[str] = ()
) -> Iterator[Kernel]:
    """Yield the kernels of some suites.

    Parameters
    ----------
    names : sequence of str
    shapes : Shapes
    device : str
        ``cpu`` or ``cuda``.
    formats : sequence of str
        Of the weights, in linear layers and whole steps; all by default.

    Raises
    ------
    InputError
        For an unknown suite, and a format that none of them has.
    """
    found: list[Kernel] = []
    for name in names:
        if name not in SUITES:
            raise InputError(f"unknown suite {name!r}{did_you_mean(name, SUITES)}", key="--only")
        found += SUITES[name](shapes, device)
    weights = {k.columns["format"] for k in found if k.columns["kernel"] in _OF_WEIGHTS}
    for form in formats:
        if form not in weights:
            near = did_you_mean(form, sorted(map(str, weights)))
            raise InputError(f"no kernel multiplies {form!r} here{near}", key="--format")
    for kernel in found:
        of_weights = kernel.columns["kernel"] in _OF_WEIGHTS
        if not formats or not of_weights or kernel.columns["format"] in formats:
            yield kernel


_OF_WEIGHTS = ("linear", "step")
