"""Whole steps measured on one core, against the sum of the kernels measured there."""

from __future__ import annotations

import numpy as np
import pytest

from infsim.calibrate.fit.held_out import DRAWN
from infsim.calibrate.table import KernelTable
from infsim.cluster.cluster import Cluster
from infsim.cluster.device import load_device
from infsim.cluster.network import Network
from infsim.cluster.node import Client, Node, Site
from infsim.cost.calibration import device_calibration
from infsim.cost.costs import Costs
from infsim.cost.interface import StepCost
from infsim.cost.kernels import linear_table, peak_of
from infsim.cost.linear import LinearTimes
from infsim.model.catalog import load, load_format
from infsim.model.deployment import Deployment
from infsim.paths import data_folder

DEVICE, MODEL = "epyc-9655-core", "qwen2.5-0.5b"


def cost(form: str = "bf16", device: str = DEVICE, model: str = MODEL) -> StepCost:
    node = Node("n", load_device(device))
    where = Cluster((node,), (Client("c"),), {"default": Site("default")}, Network.full_mesh(2))
    deployment = Deployment("d", load(model), load_format(form), (0,))
    return Costs(where).step(0, deployment, range(len(deployment.model.graph.operators)))


@pytest.mark.parametrize(
    ("folder", "model", "form", "median", "p95", "mean"),
    [
        (DEVICE, MODEL, "bf16", 0.03, 0.09, 0.02),
        ("epyc-7763-core", MODEL, "fp32", 0.03, 0.07, 0.02),
        ("epyc-7763-core", "smollm2-135m", "fp32", 0.03, 0.05, 0.02),
        ("epyc-7763-core", MODEL, "w8a8", 0.03, 0.08, 0.02),
        ("epyc-7763-core", "smollm2-135m", "w8a8", 0.03, 0.08, 0.02),
        ("epyc-7763-vcpu/smollm2-135m", "smollm2-135m", "fp32", 0.05, 0.09, 0.04),
        ("epyc-7763-vcpu/smollm2-135m", "smollm2-135m", "w8a8", 0.06, 0.10, 0.04),
    ],
)
def test_whole_steps_are_the_sum_of_their_kernels(
    folder: str, model: str, form: str, median: float, p95: float, mean: float
) -> None:
    table = KernelTable.read(data_folder("calibration") / folder)
    priced = cost(form, table.meta.hardware, model)
    assert priced.calibrated
    errors = []
    for row in table.select(kernel="step", name=model, format=form).rows():
        chunk, decodes = row.get("chunk", 0), row.get("decodes", 0)
        prompts = row.get("prefills", 0)
        pairs = chunk * (chunk + 1) / 2
        context = decodes * row.get("context", 0)
        guess = priced.step_s(chunk, pairs, chunk, decodes, context, decodes + prompts)
        errors.append(guess / row["time_s"] - 1)
    assert len(errors) > 10
    assert np.median(np.abs(errors)) < median
    assert np.quantile(np.abs(errors), 0.95) < p95
    assert np.mean(errors) == pytest.approx(0, abs=mean)


@pytest.mark.parametrize(("pattern", "name"), [("unstructured", "csr"), ("block-32", "block")])
@pytest.mark.parametrize("zeros", [50, 80, 90, 95])
def test_pruned_layers_take_what_they_were_measured_to_take(
    pattern: str, name: str, zeros: int
) -> None:
    """None of the rows is beyond a bound of physics, and points keep their times."""
    table = KernelTable.read(data_folder("calibration") / DEVICE)
    known = device_calibration(DEVICE)
    assert known is not None
    form = load_format(f"fp32-{name}{zeros}")
    times = linear_table(known, form)
    assert times is not None
    priced = LinearTimes(times, peak_of(load_device(DEVICE), form))
    rows = list(table.select(pattern=pattern, density=form.density).rows())
    assert len(rows) > 30
    for row in rows:
        at = priced.curve(row["n"], row["k"]).at(row["tokens"])
        assert at == pytest.approx(row["time_s"], rel=1e-4)


def test_pruning_pays_on_this_core_only_where_much_is_pruned() -> None:
    """The question behind these formats: one token of the whole model, from measured kernels."""
    formats = ("fp32", "fp32-csr50", "fp32-csr90", "fp32-block90")
    token_s = {form: cost(form).step_s(0, 0, 0, 1, 256, 1) for form in formats}
    assert all(cost(form).calibrated for form in formats)
    assert token_s["fp32-block90"] < token_s["fp32-csr90"] < token_s["fp32"]
    assert token_s["fp32"] < token_s["fp32-csr50"]


def test_the_table_says_how_it_was_measured() -> None:
    meta = KernelTable.read(data_folder("calibration") / DEVICE).meta
    assert abs(meta.extra["reference"]["drift"]) <= 0.1
    assert meta.noise is not None
    assert meta.noise < 0.05
    assert "declared" in meta.extra["power"]["source"]
    assert meta.refused == {}


@pytest.mark.parametrize("form", ["fp32", "w8a8", "w8a16"])
def test_drawn_points_of_dense_matrices_are_met_on_a_busy_machine(form: str) -> None:
    """As near to the targets as that is known: 3.5 % in the median, 10 % at the 95th percentile."""
    known = device_calibration("epyc-7763-vcpu")
    assert known is not None
    (error,) = (
        e
        for e in known.errors
        if (e["what"], e["format"], e["held_out"]) == ("linear", form, DRAWN)
    )
    assert error["points"] >= 9
    assert error["median"] < 0.035
    assert error["p95"] < 0.10


def test_a_busy_processor_is_slower_throughout() -> None:
    """By about as much for each kind of batch, as a thread beside another one would be."""
    batches = [(0, 0, 0, 1, 64, 1), (0, 0, 0, 16, 4096, 16), (128, 8256, 128, 0, 0, 1)]
    for form in ("fp32", "w8a8"):
        quiet, busy = (cost(form, f"epyc-7763-{name}") for name in ("core", "vcpu"))
        assert busy.calibrated
        for batch in batches:
            assert 1.2 < busy.step_s(*batch) / quiet.step_s(*batch) < 1.9
