"""All-reduces between two processes of one machine, as tensor parallelism on processors has them.

The other process is told the size of the next one through a pipe, and says when it is ready: what
is timed is the exchange and the sum.
"""

from __future__ import annotations

# mypy: disable-error-code="import-not-found, no-untyped-call, no-any-unimported, unused-ignore"
# mypy: disable-error-code="no-any-return, misc, attr-defined"
import atexit
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from infsim.calibrate.measure.kernel import Case, Kernel, Maker
from infsim.calibrate.measure.torch_case import relative_error, require_torch

RANKS = 2
BYTES = tuple(2**i for i in range(12, 27))
"""4 KiB to 64 MiB."""


def all_reduce() -> Iterator[Kernel]:
    """Yield the all-reduce of two processes; nothing where PyTorch was built without gloo."""
    distributed = require_torch().distributed
    if distributed.is_available() and distributed.is_gloo_available():
        columns: dict[str, str | int | float] = {
            "kernel": "collective", "name": "all_reduce", "format": "fp32", "library": "gloo",
            "devices": RANKS,
        }  # fmt: skip
        yield Kernel(columns, "bytes", BYTES, _prepare, tolerance=1e-6)


def _prepare() -> Maker:
    torch = require_torch()
    expect = _other_process()

    def make(size: int) -> Case:
        mine = torch.randn(size // 4)
        buffer = torch.empty_like(mine)

        def ready() -> None:
            buffer.copy_(mine)
            expect(size // 4)

        def run() -> Any:
            torch.distributed.all_reduce(buffer)
            return buffer

        def error() -> float:
            ready()
            return relative_error(run(), mine.double() + 1)

        return Case(run, error, touch=ready, wall=True)

    return make


@lru_cache(maxsize=1)
def _other_process() -> Callable[[int], None]:
    """Start it; return what tells it to take part in a sum of so many values."""
    folder = tempfile.mkdtemp()
    store = str(Path(folder) / "store")
    other = subprocess.Popen(
        [sys.executable, "-m", __name__, store], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    atexit.register(other.kill)
    _join(store, 0)
    assert other.stdin is not None
    assert other.stdout is not None
    told, said = other.stdin, other.stdout

    def expect(values: int) -> None:
        told.write(f"{values}\n".encode())
        told.flush()
        if not said.readline():
            raise RuntimeError("the other process of the all-reduce has ended")

    return expect


def _join(store: str, rank: int) -> None:
    if sys.platform == "linux":
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    require_torch().distributed.init_process_group(
        "gloo", init_method=f"file://{store}", rank=rank, world_size=RANKS
    )


def _take_part(store: str) -> None:
    """Be the other process: ones are summed as often as is asked, until the pipe is closed."""
    torch = require_torch()
    torch.set_num_threads(1)
    _join(store, 1)
    for line in sys.stdin:
        ones = torch.ones(int(line))
        sys.stdout.write("\n")
        sys.stdout.flush()
        torch.distributed.all_reduce(ones)


if __name__ == "__main__":
    _take_part(sys.argv[1])
