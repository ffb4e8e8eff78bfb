"""The clock for CUDA, with a device that is made up: what takes turns, and what counts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace

import pytest

from infsim.calibrate.measure import clock_cuda
from infsim.calibrate.measure.clock_cuda import CASES, SHORTEST_S, CudaClock
from infsim.calibrate.measure.kernel import Case

CACHE_BYTES = 50_000_000
LAUNCH_S = 5e-6


class MadeUpDevice:
    """Kernels take time on the device; a launch takes the host's, unless a graph replays it."""

    def __init__(self, *, captures: bool = True) -> None:
        self.now_s = 0.0
        self.captures = captures
        self.recording: list[Callable[[], None]] | None = None
        self.launches = 0
        self.replays = 0

    def kernel(self, seconds: float) -> None:
        """Launch a kernel that takes so long."""
        if self.recording is not None:
            if not self.captures:
                raise RuntimeError("operation not permitted when stream is capturing")
            self.recording.append(lambda: self.compute(seconds))
            return
        self.launches += 1
        self.compute(LAUNCH_S + seconds)

    def compute(self, seconds: float) -> None:
        self.now_s += seconds

    def module(self) -> SimpleNamespace:
        """What the clock asks PyTorch for."""
        device = self

        class Event:
            def __init__(self, enable_timing: bool) -> None:
                assert enable_timing

            def record(self) -> None:
                self.at_s = device.now_s

            def synchronize(self) -> None: ...

            def elapsed_time(self, later: Event) -> float:
                return (later.at_s - self.at_s) * 1e3

        class Graph:
            def replay(self) -> None:
                device.replays += 1
                for compute in self.kernels:
                    compute()

            kernels: list[Callable[[], None]]

        @contextmanager
        def graph(target: Graph, stream: object) -> Iterator[None]:
            assert isinstance(stream, Stream)
            device.recording = target.kernels = []
            try:
                yield
            finally:
                device.recording = None

        class Stream:
            def wait_stream(self, other: object) -> None: ...

        @contextmanager
        def on(stream: Stream) -> Iterator[None]:
            yield

        return SimpleNamespace(
            cuda=SimpleNamespace(
                is_available=lambda: True,
                get_device_properties=lambda _: SimpleNamespace(L2_cache_size=CACHE_BYTES),
                Stream=Stream,
                stream=on,
                current_stream=Stream,
                Event=Event,
                CUDAGraph=Graph,
                graph=graph,
                synchronize=lambda: None,
            )
        )


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> MadeUpDevice:
    made_up = MadeUpDevice()
    monkeypatch.setattr(clock_cuda, "require_torch", made_up.module)
    return made_up


@pytest.mark.parametrize("seconds", [1e-6, 30e-6, 2e-3])
def test_replays_take_what_the_kernel_takes(device: MadeUpDevice, seconds: float) -> None:
    timer = CudaClock().timer(lambda: Case(lambda: device.kernel(seconds)))
    launched = device.launches
    assert timer() == pytest.approx(seconds)
    assert device.launches == launched  # nothing but replays
    assert device.replays == 2  # one ahead, one between the events


@pytest.mark.parametrize(
    ("cold_bytes", "cases"), [(0.0, 1), (9e6, 12), (2e8, 1), (4e7, 3), (1e3, CASES)]
)
def test_cases_take_turns_until_they_outgrow_the_cache(
    device: MadeUpDevice, cold_bytes: float, cases: int
) -> None:
    runs: list[int] = []

    def make() -> Case:
        mine = len(runs)
        runs.append(0)

        def run() -> None:
            runs[mine] += 1
            device.kernel(1e-5)

        return Case(run, cold_bytes=cold_bytes)

    CudaClock().timer(make)
    assert len(runs) == cases
    assert len(set(runs)) == 1  # each as often as the others


def test_a_graph_is_long_enough_for_the_events(device: MadeUpDevice) -> None:
    timer = CudaClock().timer(lambda: Case(lambda: device.kernel(2e-5)))
    before_s = device.now_s
    timer()
    assert (device.now_s - before_s) / 2 >= SHORTEST_S * 0.7  # launches made the guess too long


def test_what_cannot_be_captured_is_launched(device: MadeUpDevice) -> None:
    device.captures = False
    timer = CudaClock().timer(lambda: Case(lambda: device.kernel(1e-4)))
    assert timer() == pytest.approx(1e-4 + LAUNCH_S)
    assert device.replays == 0


def test_without_a_device_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    nothing = SimpleNamespace(cuda=SimpleNamespace(is_available=lambda: False))
    monkeypatch.setattr(clock_cuda, "require_torch", lambda: nothing)
    with pytest.raises(Exception, match="no CUDA device"):
        CudaClock()
