"""Rooflines fitted to whole steps: what made the steps is found again, and it is used."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from infsim.calibrate.audit import audit
from infsim.calibrate.bounds import least_time_s
from infsim.calibrate.fit.steps import fit_steps, write_rates
from infsim.calibrate.importers.formats import read
from infsim.calibrate.table import KernelTable, Meta
from infsim.cluster.device import Device, load_device
from infsim.cluster.node import Node
from infsim.cost.rates import Rates, device_rates, fitted, read_rates
from infsim.cost.roofline import RooflineStepCost
from infsim.cost.sources import step_cost
from infsim.errors import InputError
from infsim.model.catalog import load, load_format
from infsim.paths import data_folder
from tests.shared_data import shared

SHIPPED = sorted(path.parent.name for path in data_folder("calibration").glob("*/rates.json"))


def made_step(device: Device, **row: Any) -> dict[str, Any]:
    """A step as a device of these efficiencies would make it."""
    operators = load(row["name"]).graph.operators
    cost = RooflineStepCost(Node(name="n", device=device), load_format(row["format"]), operators)
    chunk, decodes = row.get("chunk", 0), row.get("decodes", 0)
    time = cost.step_s(chunk, chunk * (chunk + 1) / 2, chunk, decodes, row.get("context", 0), 1)
    return {"kernel": "step", "library": "test", "devices": 1, "time_s": time} | row


def made(compute: float, bandwidth: float, layer_s: float) -> KernelTable:
    device = replace(
        load_device("rtx-a6000"),
        compute_efficiency=compute,
        bandwidth_efficiency=bandwidth,
        layer_overhead_s=layer_s,
    )
    return KernelTable.from_rows(
        [
            made_step(device, name=name, format=form, **phase)
            for name in ("llama-3.1-8b", "llama-3.1-70b")
            for form in ("fp16", "q4-k-m")
            for phase in ({"prefills": 1, "chunk": 1024}, {"decodes": 1, "context": 512})
        ],
        Meta("rtx-a6000", source="made"),
    )


@pytest.mark.parametrize(
    ("compute", "bandwidth", "layer_s"),
    [(0.3, 0.75, 1e-4), (0.9, 0.95, 3e-5), (0.5, 0.65, 2e-4), (0.6, 0.8, 6e-5)],
)
def test_the_rates_that_made_the_steps_are_found(
    compute: float, bandwidth: float, layer_s: float
) -> None:
    rates = fit_steps(made(compute, bandwidth, layer_s))
    # near, as the prior pulls a little
    assert rates.compute == pytest.approx({"fp16": compute, "q4-k-m": compute}, rel=0.02)
    assert rates.bandwidth == pytest.approx(bandwidth, rel=0.03)
    assert rates.layer_s == pytest.approx(layer_s, rel=0.2)
    assert max(map(abs, rates.errors.values())) < 0.02
    assert max(map(abs, rates.held_out.values())) < 0.06
    assert len(rates.held_out) == 8


def test_a_stalled_prefill_and_other_engines_are_left_out() -> None:
    table = made(0.6, 0.8, 6e-5)
    clean = fit_steps(table)
    rows = list(table.rows())
    # the table has such a row: 681 tokens/s on an A100 where the 4-bit model reaches 5864
    rows[0] = rows[0] | {"time_s": rows[0]["time_s"] * 8}
    rows.append(rows[1] | {"library": "another", "time_s": rows[1]["time_s"] / 2})
    found = fit_steps(KernelTable.from_rows(rows, table.meta))
    assert found.bandwidth == pytest.approx(clean.bandwidth, rel=1e-3)
    assert found.compute["q4-k-m"] == pytest.approx(clean.compute["q4-k-m"], rel=0.05)
    assert found.notes == (
        "not used, far slower than in another format: llama-3.1-8b fp16 prefill 1024",
    )


def test_the_fastest_host_counts() -> None:
    table = made(0.6, 0.8, 6e-5)
    slow = [
        row | {"library": "test, old host", "time_s": 2 * row["time_s"]} for row in table.rows()
    ]
    both = KernelTable.from_rows([*slow, *table.rows()], table.meta)
    assert fit_steps(both) == fit_steps(table)


def test_a_table_without_steps_is_an_error() -> None:
    table = KernelTable.from_rows([{"kernel": "norm", "time_s": 1e-6}], Meta("rtx-3090"))
    with pytest.raises(InputError, match="no steps of known models"):
        fit_steps(table)


def test_rates_are_read_as_they_were_written(tmp_path: Path) -> None:
    rates = fit_steps(made(0.6, 0.8, 6e-5))
    write_rates(rates, tmp_path / "rates.json")
    assert read_rates(tmp_path / "rates.json") == rates


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "rates.json: cannot read it"),
        ('{"device": "x", "bandwith": 1}', "unknown key 'bandwith'; did you mean 'bandwidth'"),
        ('{"device": "x"}', "rates.json: no rates"),
        ("[]", "rates.json"),
    ],
)
def test_damaged_rates_are_told(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "rates.json").write_text(text)
    with pytest.raises(InputError, match=message):
        read_rates(tmp_path / "rates.json")


def test_a_device_that_a_scenario_changes_keeps_what_it_says() -> None:
    node = Node(name="n", device=load_device("rtx-3090"))
    assert fitted(node, "fp16").device.bandwidth_efficiency == 0.8683
    changed = replace(node, device=replace(node.device, bandwidth_efficiency=0.5))
    assert fitted(changed, "fp16") is changed


def test_unknown_formats_compute_like_the_slowest_known() -> None:
    rates = Rates("rtx-3090", "a test", {"fp16": 0.8, "q4-k-m": 0.6}, 0.8, 1e-5)
    device = load_device("rtx-3090")
    assert rates.apply(device, "fp16").compute_efficiency == 0.8
    assert rates.apply(device, "w4a16").compute_efficiency == 0.6


def test_a_calibrated_step_is_the_measured_one() -> None:
    # XiongjieDai/GPU-Benchmarks-on-LLM-Inference: RTX 3090, Llama 3 8B Q4_K_M, 111.74 tokens/s
    node = Node(name="n", device=load_device("rtx-3090"))
    cost = step_cost(node, load_format("q4-k-m"), load("llama-3.1-8b").graph.operators)
    assert cost.step_s(0, 0, 0, 1, 512, 1) == pytest.approx(1 / 111.74, rel=0.01)
    assert "whole steps" in cost.source


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_rates_are_those_of_the_public_table(name: str) -> None:
    path = shared("hardware/desktop-gpu-bench/llama_cpp_tokens_per_s.csv")
    rates = device_rates(name)
    assert rates is not None
    device = load_device(name)
    table = audit(read(path, name), device).table
    again = fit_steps(table)
    assert again.compute == pytest.approx(rates.compute, rel=1e-3)
    assert again.bandwidth == pytest.approx(rates.bandwidth, rel=1e-3)
    assert (least_time_s(table, device) < table["time_s"]).all()
    assert 0.6 < rates.bandwidth < 0.95
    if name.startswith("rtx"):
        assert max(map(abs, rates.errors.values())) < 0.025
