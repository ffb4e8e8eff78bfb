"""Linear layers in ONNX Runtime on a processor: dense, int8 two ways, 4 bits with int8 products."""

from __future__ import annotations

# mypy: disable-error-code="import-not-found, import-untyped, no-untyped-call, unused-ignore"
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infsim.calibrate.measure.kernel import Case, Kernel, Maker
from infsim.calibrate.measure.shapes import SMALL, TOKENS, Matrix, Shapes
from infsim.calibrate.measure.torch_case import TOLERANCE, TWIN
from infsim.model.catalog import load_format

Array = NDArray[np.float32]
GROUP = 128
"""4-bit weights that share a scale."""
INT8_PRODUCTS = 4
"""Accuracy level of MatMulNBits at which it multiplies in int8."""


@dataclass(frozen=True)
class _Graph:
    """Nodes of an ONNX graph from x to y, and its constants."""

    nodes: list[Any]
    constants: dict[str, NDArray[Any]]


def onnx_linears(shapes: Shapes) -> Iterator[Kernel]:
    """Yield linear layers in ONNX Runtime on one thread."""
    for matrix in shapes.matrices:
        for form, library, build in (
            ("fp32", "onnxruntime", _dense),
            ("w8a8", "onnxruntime-MatMulInteger", _matmul_integer),
            ("w8a8", "onnxruntime-QDQ", _quantized_statically),
            ("w4a8", "onnxruntime-MatMulNBits", _matmul_bits),
        ):
            yield _linear(matrix, form, library, build)


def _linear(matrix: Matrix, form: str, library: str, build: Callable[[Array], _Graph]) -> Kernel:
    cold_bytes = matrix.n * matrix.k * load_format(form).weight_bits / 8

    def prepare() -> Maker:
        draws = np.random.default_rng(0)
        weights = draws.standard_normal((matrix.k, matrix.n), dtype=np.float32)
        session = _session(build(weights), matrix)
        twin = _session(build(weights[:TWIN, :TWIN]), replace(matrix, n=TWIN, k=TWIN))
        true = weights.astype(np.float64)

        def make(tokens: int) -> Case:
            x = draws.standard_normal((tokens, matrix.k), dtype=np.float32)

            def run() -> Array:
                found: Array = session.run(None, {"x": x})[0]
                return found

            def error() -> float:
                exact = x.astype(np.float64) @ true
                return float(np.linalg.norm(run() - exact) / np.linalg.norm(exact))

            y = x[:, :TWIN].copy()

            def touch() -> object:
                return twin.run(None, {"x": y}), x.sum()

            return Case(run, error, touch, cold_bytes=cold_bytes)

        return make

    columns: dict[str, str | int | float] = {
        "kernel": "linear", "name": matrix.name, "format": form, "library": library,
        "n": matrix.n, "k": matrix.k, "devices": matrix.devices,
    }  # fmt: skip
    return Kernel(columns, "tokens", TOKENS, prepare, TOLERANCE[form], SMALL)


def _session(graph: _Graph, matrix: Matrix) -> Any:
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "linear",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, matrix.k])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, matrix.n])],
            [numpy_helper.from_array(values, name) for name, values in graph.constants.items()],
        ),
        opset_imports=[helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)],
    )
    model.ir_version = 10  # what opset 21 came with; newer ones are refused by older runtimes
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def _node(kind: str, inputs: str, output: str, **attributes: Any) -> Any:
    from onnx import helper

    return helper.make_node(kind, inputs.split(), [output], **attributes)


def _dense(weights: Array) -> _Graph:
    return _Graph([_node("MatMul", "x w", "y")], {"w": weights})


def _int8(weights: Array) -> tuple[NDArray[np.int8], Array]:
    """Int8 weights with one scale for each output."""
    scale = (np.abs(weights).max(0) / 127).astype(np.float32)
    return np.round(weights / scale).astype(np.int8), scale


def _matmul_integer(weights: Array) -> _Graph:
    """Activations quantized as they come."""
    from onnx import TensorProto, helper

    values, scale = _int8(weights)
    quantize = helper.make_node("DynamicQuantizeLinear", ["x"], ["xq", "xs", "xz"])
    nodes = [
        quantize,
        _node("MatMulInteger", "xq w xz", "products"),
        _node("Cast", "products", "floats", to=TensorProto.FLOAT),
        _node("Mul", "xs ws", "scale"),
        _node("Mul", "floats scale", "y"),
    ]
    return _Graph(nodes, {"w": values, "ws": scale})


def _quantized_statically(weights: Array) -> _Graph:
    """Scales of activations fixed beforehand: inputs of 4.5, outputs of 5 standard deviations."""
    values, scale = _int8(weights)
    constants = {
        "w": values,
        "ws": scale,
        "wz": np.zeros(weights.shape[1], np.int8),
        "xs": np.float32(4.5 / 127),
        "ys": np.float32(5 * weights.shape[0] ** 0.5 / 127),
        "zero": np.int8(0),
    }
    nodes = [
        _node("QuantizeLinear", "x xs zero", "xq"),
        _node("DequantizeLinear", "xq xs zero", "xd"),
        _node("DequantizeLinear", "w ws wz", "wd", axis=1),
        _node("MatMul", "xd wd", "product"),
        _node("QuantizeLinear", "product ys zero", "yq"),
        _node("DequantizeLinear", "yq ys zero", "y"),
    ]
    return _Graph(nodes, {name: np.asarray(value) for name, value in constants.items()})


def _matmul_bits(weights: Array) -> _Graph:
    """4-bit weights in groups of 128 with a scale each, activations in int8."""
    k, n = weights.shape
    if k % GROUP:
        raise ValueError(f"{k} input features are no multiple of the group of {GROUP}")
    grouped = weights.T.reshape(n, k // GROUP, GROUP)
    scale = np.abs(grouped).max(-1) / 7
    values = (np.clip(np.round(grouped / scale[..., None]), -8, 7) + 8).astype(np.uint8)
    packed = values[..., 0::2] | (values[..., 1::2] << 4)
    node = _node(
        "MatMulNBits", "x w ws", "y", domain="com.microsoft", K=k, N=n, bits=4,
        block_size=GROUP, accuracy_level=INT8_PRODUCTS,
    )  # fmt: skip
    return _Graph([node], {"w": packed, "ws": scale.astype(np.float32).reshape(-1)})
