"""Kernels compute what they say: each against float64, at one and at a few tokens."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import pytest

from infsim.calibrate.measure import reference
from infsim.calibrate.measure.kernel import Kernel
from infsim.calibrate.measure.machine import description, versions
from infsim.calibrate.measure.shapes import Matrix, Shapes
from infsim.calibrate.measure.suites import kernels
from infsim.calibrate.measure.torch_case import TWIN
from infsim.calibrate.measure.torch_linear import linear
from infsim.calibrate.table import KernelTable, Meta
from infsim.errors import InputError
from infsim.model.catalog import load_architecture

torch = pytest.importorskip("torch", reason="needs torch: pip install infsim[calibrate]")

SUITES = ("linear", "sparse", "attention", "elements", "codecs", "copies")
LARGEST = 2**22
"""Weights of the kernels that are tried here, so that it takes seconds."""


def small(suites: tuple[str, ...]) -> list[Kernel]:
    """One kernel of each kind, without the large ones."""
    found: dict[tuple[object, ...], Kernel] = {}
    for kernel in kernels(suites, Shapes(["qwen2.5-0.5b"]), "cpu"):
        told = kernel.columns
        if float(told.get("n", 1)) * float(told.get("k", 1)) <= LARGEST:
            kind = [told.get(c) for c in ("kernel", "format", "library", "pattern")]
            name = "" if told["kernel"] == "linear" else told["name"]
            found.setdefault((*kind, name, kernel.axis), kernel)
    return list(found.values())


def check(kernel: Kernel) -> None:
    """Compare its first points with float64."""
    make = kernel.prepare()
    for point in {kernel.points[0], *(p for p in (7, 64) if p in kernel.points)}:
        case = make(point)
        assert case.error is not None
        assert case.error() <= kernel.tolerance, f"{kernel.label} at {point}"
        reads_weights = kernel.columns["kernel"] in ("linear", "attention", "head", "embedding")
        assert (case.cold_bytes > 0) == (reads_weights or kernel.columns["kernel"] == "copy_device")
        row = dict(kernel.columns) | {kernel.axis: point, "time_s": 1.0}
        KernelTable.from_rows([row], Meta("h200")).check(kernel.label)


@pytest.mark.parametrize("kernel", small(SUITES), ids=lambda kernel: kernel.label)
def test_kernels_in_torch(kernel: Kernel) -> None:
    torch.manual_seed(0)
    check(kernel)


def test_kernels_in_onnx_runtime() -> None:
    pytest.importorskip("onnxruntime", reason="needs onnxruntime: pip install infsim[calibrate]")
    pytest.importorskip("onnx", reason="needs onnx: pip install infsim[calibrate]")
    found = small(("onnx",))
    assert len(found) == 4
    for kernel in found:
        check(kernel)


@pytest.mark.parametrize(
    ("number", "formats"),
    [("bf16", {"bf16", "fp8", "w8a8", "w8a16", "w4a16"}), ("fp32", {"fp32", "w8a8"})],
)
def test_whole_steps_in_every_format(
    monkeypatch: pytest.MonkeyPatch, number: str, formats: set[str]
) -> None:
    """Of a model of two small layers: decodes, chunks, and both, against float64."""
    from infsim.calibrate.measure import torch_model, torch_step

    small_model = replace(
        load_architecture("qwen2.5-0.5b"),
        layers=2, hidden=256, heads=4, kv_heads=2, head_dim=64, ffn=512, vocabulary=1000,
    )  # fmt: skip
    monkeypatch.setattr(torch_step, "load_architecture", lambda name: small_model)
    for module in (torch_model, torch_step):
        monkeypatch.setattr(module, "wide", lambda device: number)
    torch_model.random_weights.cache_clear()
    torch.manual_seed(0)
    found = list(torch_step.steps(["qwen2.5-0.5b"], "cpu"))
    assert {kernel.columns["format"] for kernel in found} == formats
    bits = {}
    for kernel in found:
        case = kernel.prepare()(kernel.points[0])
        assert case.error is not None
        assert case.error() <= kernel.tolerance, kernel.label
        if kernel.columns.get("decodes") == 1 and kernel.axis == "context":
            bits[kernel.columns["format"]] = case.cold_bytes
    torch_model.random_weights.cache_clear()
    assert bits["w8a8"] < bits[number]
    assert bits.get("w4a16", 0.0) < bits["w8a8"] == bits.get("fp8", bits["w8a8"])


def test_formats_choose_among_linear_layers() -> None:
    shapes = Shapes(["qwen2.5-0.5b"])
    found = list(kernels(("linear", "elements"), shapes, "cpu", ("w8a8",)))
    linears = [kernel for kernel in found if kernel.columns["kernel"] == "linear"]
    assert {kernel.columns["format"] for kernel in linears} == {"w8a8"}
    assert len(found) > len(linears) > 0
    with pytest.raises(InputError, match=r"no kernel multiplies 'w8a88'.*'w8a8'"):
        list(kernels(("linear",), shapes, "cpu", ("w8a88",)))


def test_the_code_of_a_kernel_is_brought_into_the_cache_but_not_its_weights() -> None:
    ran: list[tuple[int, ...]] = []

    def build(weights: torch.Tensor) -> Callable[[torch.Tensor], None]:
        return lambda x: ran.append(tuple(weights.shape))

    layer = linear(Matrix("o", 256, 192, 1), "fp32", "made up", build, "cpu", "fp32")
    case = layer.prepare()(4)
    assert case.touch is not None
    case.touch()
    assert ran == [(TWIN, TWIN)]
    case.run()
    assert ran[1:] == [(256, 192)]


def test_a_wrong_kernel_is_noticed() -> None:
    from infsim.calibrate.measure.torch_case import case, random

    x, y = random(8, 8), random(8, 8)
    assert case(lambda: x + y, lambda: x.double() + y.double()).error() < 1e-6  # type: ignore[misc]
    assert case(lambda: x - y, lambda: x.double() + y.double()).error() > 0.1  # type: ignore[misc]


def test_the_machine_is_described() -> None:
    found = description("cpu")
    assert found["processor"]
    assert found["memory_bytes"] > 2**28
    assert versions("cpu")["torch"] == torch.__version__.split("+")[0] or versions("cpu")["torch"]


def test_what_a_cache_takes_in_slowly_is_not_said_to_come_from_memory() -> None:
    """A cache for what smaller ones let go: 8 MB of 32 were in it after more than two reads."""
    reads = 0

    class Values:
        nbytes = 2**23

        def __matmul__(self, _: object) -> None:
            nonlocal reads
            reads += 1
            began = time.thread_time()
            while reads <= 6 and time.thread_time() - began < 5e-3:
                pass

    assert reference._read_s(Values()) < 2e-3


@pytest.mark.parametrize(("cache", "found"), [(1e6, 2**23), (20e6, 2**25), (1e9, 2**23)])
def test_the_reference_is_as_large_as_it_has_to_be(
    cache: float, found: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The smallest power of two that is read no faster than the largest size."""

    def read_s(values: torch.Tensor) -> float:
        return float(values.nbytes) / (27e9 if values.nbytes < cache else 20e9)

    monkeypatch.setattr(reference, "_read_s", read_s)
    assert reference.uncached_bytes(2.0**27) == found
    large = reference.references("cpu", 2.0**23).memory()
    assert large.cold_bytes == pytest.approx(2**23, rel=0.01)
