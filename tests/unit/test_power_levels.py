"""Power against load: what a meter and the driver's library tell becomes a table."""

from __future__ import annotations

import sys
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from infsim.calibrate.fit.device import fit_device
from infsim.calibrate.measure import nvml
from infsim.calibrate.measure.nvml import NvmlMeter
from infsim.calibrate.measure.power import levels, power_table
from infsim.calibrate.table import KernelTable, Meta
from infsim.cluster.device import load_device
from infsim.cluster.node import Node, Site
from infsim.cost.energy import PowerDraw

IDLE_W = 70.0


class MadeUpDevice:
    """Draws more the more tokens it computes; time passes only while it works or sleeps."""

    source = "made up"

    def __init__(self) -> None:
        self.now_s = self.joules = 0.0

    def energy_j(self) -> float:
        return self.joules

    def now(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.pass_(seconds, IDLE_W)

    def work(self, tokens: int) -> None:
        self.pass_(0.01, watts(tokens))

    def pass_(self, seconds: float, power_w: float) -> None:
        self.now_s += seconds
        self.joules += seconds * power_w


def watts(tokens: int) -> float:
    return min(300.0 + tokens, 700.0)


def measured(loads: tuple[int, ...] = (1, 64, 4096)) -> dict[str, Any]:
    device = MadeUpDevice()
    return levels(device, device.work, loads, now=device.now, sleep=device.sleep)


def test_levels_are_the_power_at_each_load() -> None:
    found = measured()
    assert found["idle_w"] == pytest.approx(IDLE_W, abs=0.1)
    assert [level["tokens"] for level in found["levels"]] == [1, 64, 4096]
    for level in found["levels"]:
        assert level["power_w"] == pytest.approx(watts(level["tokens"]), abs=0.1)


def test_what_was_measured_prices_energy() -> None:
    rows = [
        {"kernel": "linear", "format": "bf16", "library": "a", "n": 512, "k": 256, "tokens": m,
         "time_s": 1e-5 * (1 + m)}
        for m in (1, 8, 64)
    ]  # fmt: skip
    meta = Meta("h200", source="made up", licence="none", extra={"power": measured()})
    plain = KernelTable.from_rows(rows, replace(meta, extra={}))
    fitted = fit_device([plain, KernelTable.from_rows(rows, meta)])
    assert fitted.power is not None
    assert fitted.power.source == "made up"
    node = Node("n", load_device("h200"), count=8)
    draw = PowerDraw(node, Site("s", pue=1.2), fitted.power)
    for tokens in (1, 64, 9000):
        expected = 8 * 1.2 * (watts(tokens) - node.device.idle_w)
        assert draw.extra_w(tokens) == pytest.approx(expected, rel=1e-3)
    assert fit_device([plain]).power is None


def test_processors_declare_their_power() -> None:
    found = power_table("cpu", load_device("epyc-9655-core"))
    assert "not measured" in found["source"]
    assert "levels" not in found


class Pynvml(SimpleNamespace):
    """The driver's library of a GPU that draws 400 W, with an energy counter or without."""

    class NVMLError(Exception):
        pass

    def __init__(self, *, counts: bool) -> None:
        super().__init__(now_s=0.0, counts=counts, is_open=False)

    def nvmlInit(self) -> None:  # noqa: N802
        self.is_open = True

    def nvmlShutdown(self) -> None:  # noqa: N802
        self.is_open = False

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:  # noqa: N802
        return uuid

    def nvmlDeviceGetEnforcedPowerLimit(self, handle: str) -> int:  # noqa: N802
        assert handle == "GPU-12-34"
        return 700_000

    def nvmlDeviceGetPowerUsage(self, handle: str) -> int:  # noqa: N802
        assert handle == "GPU-12-34"
        return 400_000

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: str) -> int:  # noqa: N802
        if not self.counts:
            raise self.NVMLError("not supported")
        assert handle == "GPU-12-34"
        return round(400_000 * self.now_s)


@pytest.mark.parametrize("counts", [True, False])
def test_the_driver_tells_energy_or_power(monkeypatch: pytest.MonkeyPatch, counts: bool) -> None:
    library = Pynvml(counts=counts)
    monkeypatch.setitem(sys.modules, "pynvml", library)
    monkeypatch.setattr(nvml.time, "monotonic", lambda: library.now_s)
    with NvmlMeter("12-34") as meter:
        assert ("sampled" in meter.source) is not counts
        assert meter.limit_w == 700.0
        before_j = meter.energy_j()
        library.now_s += 2.5
        assert meter.energy_j() - before_j == pytest.approx(1000.0)
    assert not library.is_open
