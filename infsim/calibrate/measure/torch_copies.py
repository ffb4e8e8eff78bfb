"""Copies, loading from a file, and collectives between the devices of a machine, in PyTorch."""

from __future__ import annotations

# mypy: disable-error-code="import-not-found, no-untyped-call, no-any-unimported, unused-ignore"
# mypy: disable-error-code="no-any-return, misc, attr-defined"
import os
import tempfile
import weakref
from collections.abc import Iterator
from pathlib import Path

from infsim.calibrate.measure.kernel import Case, Kernel, Maker
from infsim.calibrate.measure.torch_case import case, require_torch

BYTES = tuple(2**i for i in range(12, 29))
"""4 KiB to 256 MiB."""
LOADED = tuple(2**i for i in range(20, 29, 2))


def copies(device: str) -> Iterator[Kernel]:
    """Yield copies inside of a device, between it and the host, and loading of weights."""
    yield _copy("copy_device", "copy", device, device)
    if device == "cuda":
        yield _copy("copy_host", "host_to_device", "cpu", device)
        yield _copy("copy_host", "device_to_host", device, "cpu")
    yield _load(device)


def collectives(device: str) -> Iterator[Kernel]:
    """Yield all-reduces: between CUDA devices where there are several, or two processes."""
    if device == "cpu":
        from infsim.calibrate.measure.gloo import all_reduce

        yield from all_reduce()
        return
    count = require_torch().cuda.device_count()
    for ranks in (2, 4, 8):
        if ranks <= count:
            yield _all_reduce(ranks)


def _copy(kernel: str, name: str, source: str, target: str) -> Kernel:
    def prepare() -> Maker:
        torch = require_torch()

        def make(size: int) -> Case:
            pinned = {"pin_memory": True} if source != target else {}
            x = torch.randint(256, (size,), dtype=torch.uint8)
            x = x.pin_memory() if pinned and source == "cpu" else x.to(source)
            y = torch.empty(size, dtype=torch.uint8, device=target, **_on_host(pinned, target))
            return case(
                lambda: y.copy_(x, non_blocking=True), lambda: x.to(target).double(), None, 2 * size
            )

        return make

    columns: dict[str, str | int | float] = {"kernel": kernel, "name": name, "library": "torch"}
    return Kernel(columns, "bytes", BYTES, prepare)


def _on_host(pinned: dict[str, bool], target: str) -> dict[str, bool]:
    return pinned if target == "cpu" else {}


def _load(device: str) -> Kernel:
    """Weights from a file that is not in the page cache, by the wall clock."""

    def prepare() -> Maker:
        torch = require_torch()

        def make(size: int) -> Case:
            data = torch.randint(256, (size,), dtype=torch.uint8)
            file, name = tempfile.mkstemp(dir=".")
            Path(name).unlink()  # it lasts as long as it is open
            os.write(file, data.numpy().tobytes())
            os.fsync(file)

            def run() -> object:
                raw = bytearray(os.pread(file, size, 0))
                return torch.frombuffer(raw, dtype=torch.uint8).to(device)

            def forget() -> None:
                if hasattr(os, "posix_fadvise"):  # the next read comes from the disk
                    os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)

            weakref.finalize(run, os.close, file)
            found = case(run, lambda: data.to(device).double(), touch=forget)
            return Case(found.run, found.error, found.touch, wall=True)

        return make

    columns: dict[str, str | int | float] = {"kernel": "load", "name": "file", "library": "torch"}
    return Kernel(columns, "bytes", LOADED, prepare)


def _all_reduce(ranks: int) -> Kernel:
    """NCCL from one process, by the wall clock until all devices are done."""

    def prepare() -> Maker:
        torch = require_torch()
        nccl = torch.cuda.nccl

        def make(size: int) -> Case:
            shape = (size // 2,)
            held = [torch.randn(shape, device=f"cuda:{i}").bfloat16() for i in range(ranks)]
            out = [torch.empty_like(x) for x in held]

            def run() -> object:
                nccl.all_reduce(held, out)
                for i in range(ranks):
                    torch.cuda.synchronize(i)
                return out[0]

            found = case(run, lambda: sum(x.to("cuda:0").double() for x in held))
            return Case(found.run, found.error, wall=True)

        return make

    columns: dict[str, str | int | float] = {
        "kernel": "collective", "name": "all_reduce", "format": "bf16", "library": "nccl",
        "devices": ranks,
    }  # fmt: skip
    return Kernel(columns, "bytes", BYTES, prepare, tolerance=2e-2)
