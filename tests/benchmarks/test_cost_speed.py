"""CPU time of a cost model's hot path. On a quiet machine: ``python -m pytest -m benchmark -s``."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median

import pytest

from infsim.cluster.device import load_device
from infsim.cluster.node import Node
from infsim.cost.calibration import calibrated_devices, device_calibration
from infsim.cost.interface import StepCost
from infsim.cost.measured import MeasuredStepCost
from infsim.cost.roofline import RooflineStepCost
from infsim.model.catalog import load, load_format

pytestmark = pytest.mark.benchmark

Batch = tuple[int, float, float, int, float, int]


def prompts(chunk: int, prefix: int, count: int = 1, decodes: int = 0) -> Batch:
    """Equal chunks of prompts beside decodes of 1,500 entries each."""
    pairs = count * (chunk * prefix + chunk * (chunk + 1) / 2)
    context = 1500.0 * decodes
    return count * chunk, pairs, float(count * (chunk + prefix)), decodes, context, decodes + count


BATCHES: dict[str, tuple[Batch, float]] = {
    "decodes": ((0, 0.0, 0.0, 20, 30_000.0, 20), 1e-6),
    "a prompt": (prompts(300, 0), 1e-6),
    "a chunk after a prefix": (prompts(300, 700), 1e-6),
    "a chunk beside decodes": (prompts(300, 700, decodes=20), 1e-6),
    "two prompts": (prompts(300, 0, 2), 1e-6),
    "two prompts beside decodes": (prompts(300, 0, 2, 20), 1.4e-6),
}
"""With the CPU seconds that a call may take."""


def cpu_s(cost: StepCost, batch: Batch, calls: int = 3000, repeats: int = 25) -> float:
    """Median over the repeats of the CPU seconds of a call, that of an empty loop taken off."""
    step, (tokens, pairs, read, decodes, context, sequences) = cost.step_s, batch

    def priced() -> None:
        for _ in range(calls):
            step(tokens, pairs, read, decodes, context, sequences)

    def empty() -> None:
        for _ in range(calls):
            pass

    def once(run: Callable[[], None]) -> float:
        started = time.process_time()
        run()
        return (time.process_time() - started) / calls

    return median(once(priced) - once(empty) for _ in range(repeats))


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("name", calibrated_devices())
def test_a_call_costs_about_a_microsecond_at_the_most(name: str, batch: str) -> None:
    known = device_calibration(name)
    assert known is not None
    node, form = Node("n", load_device(name)), load_format(known.linears[0].format)
    operators = load("llama-3.1-8b").graph.operators
    what, most_s = BATCHES[batch]
    measured = cpu_s(MeasuredStepCost(node, form, operators, known), what)
    roofline = cpu_s(RooflineStepCost(node, form, operators), what)
    print(
        f"\n{name}, {batch}: {measured * 1e6:.2f} CPU us, {roofline * 1e6:.2f} us by the roofline"
    )
    assert measured < most_s
