"""Whole steps measured on one core, against the sum of the kernels measured there."""

from __future__ import annotations

import numpy as np
import pytest

from infsim.calibrate.table import KernelTable
from infsim.cluster.cluster import Cluster
from infsim.cluster.device import load_device
from infsim.cluster.network import Network
from infsim.cluster.node import Client, Node, Site
from infsim.cost.costs import Costs
from infsim.cost.interface import StepCost
from infsim.model.catalog import load, load_format
from infsim.model.deployment import Deployment
from infsim.paths import data_folder

DEVICE, MODEL = "epyc-9655-core", "qwen2.5-0.5b"


def cost() -> StepCost:
    node = Node("n", load_device(DEVICE))
    where = Cluster((node,), (Client("c"),), {"default": Site("default")}, Network.full_mesh(2))
    deployment = Deployment("d", load(MODEL), load_format("bf16"), (0,))
    return Costs(where).step(0, deployment, range(len(deployment.model.graph.operators)))


def test_whole_steps_are_the_sum_of_their_kernels() -> None:
    table = KernelTable.read(data_folder("calibration") / DEVICE)
    priced = cost()
    assert priced.calibrated
    errors = []
    for row in table.select(kernel="step", name=MODEL).rows():
        chunk, decodes = row.get("chunk", 0), row.get("decodes", 0)
        prompts = row.get("prefills", 0)
        pairs = chunk * (chunk + 1) / 2
        context = decodes * row.get("context", 0)
        guess = priced.step_s(chunk, pairs, chunk, decodes, context, decodes + prompts)
        errors.append(guess / row["time_s"] - 1)
    assert len(errors) > 10
    assert np.median(np.abs(errors)) < 0.03
    assert np.quantile(np.abs(errors), 0.95) < 0.10
    assert np.mean(errors) == pytest.approx(0, abs=0.03)


def test_the_table_says_how_it_was_measured() -> None:
    meta = KernelTable.read(data_folder("calibration") / DEVICE).meta
    assert abs(meta.extra["reference"]["drift"]) <= 0.1
    assert meta.noise is not None
    assert meta.noise < 0.05
    assert "declared" in meta.extra["power"]["source"]
    assert meta.refused == {}
