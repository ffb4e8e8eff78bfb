"""Where the costs of a device come from: its own file, the nearest device, or what is named."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from infsim.cluster.cluster import Cluster
from infsim.cluster.device import load_device
from infsim.cluster.network import Network
from infsim.cluster.node import Client, Node, Site
from infsim.cost.calibration import (
    Calibration,
    calibrated_devices,
    device_calibration,
    read_calibration,
)
from infsim.cost.costs import Costs
from infsim.cost.kernels import covers
from infsim.cost.measured import MeasuredStepCost
from infsim.cost.nearest import nearest, scaled
from infsim.cost.roofline import RooflineStepCost
from infsim.cost.sources import LOAD_BYTES_PER_S, power_table
from infsim.errors import InputError
from infsim.model.catalog import load, load_format
from infsim.model.deployment import Deployment
from infsim.model.graph import Operator
from infsim.scenario.build import check
from infsim.scenario.load import load as load_scenario
from tests.calibrations import BF16, TINY, a_calibration

# --- the choice -----------------------------------------------------------------------------------


def costs(name: str, form: str = "bf16", figures: Any = None, **options: Any) -> Any:
    node = Node("n", replace(load_device(name), **figures or {}))
    where = Cluster((node,), (Client("c"),), {"default": Site("default")}, Network.full_mesh(2))
    deployment = Deployment("d", load("llama-3.1-8b"), load_format(form), (0,))
    return Costs(where, **options).step(0, deployment, range(32))


def test_a_calibrated_device_is_priced_by_its_kernels() -> None:
    assert costs("rtx-4090").calibrated
    assert costs("rtx-4090", "fp16").calibrated  # as fast as bf16
    assert costs("l40s", "fp8").calibrated
    assert isinstance(costs("rtx-4090", source="roofline"), RooflineStepCost)


def test_measured_power_holds_unless_the_scenario_states_its_own() -> None:
    a100 = load_device("a100-80gb")
    table = power_table(a100)
    assert table is not None
    assert a100.idle_w < table.at(1) < table.at(4096) <= a100.active_w
    assert power_table(replace(a100, active_w=300.0)) is None
    assert power_table(a100, "roofline") is None
    assert power_table(load_device("rtx-4090")) is None
    assert power_table(replace(a100, name="mine")) is None


def test_weights_load_as_fast_as_was_measured_unless_the_scenario_says() -> None:
    device = load_device("rtx-4090")
    known = replace(a_calibration(), load_bytes_per_s=4e8)
    for stated, source, rate in (
        (None, known, 4e8),
        (1e9, known, 1e9),
        (None, a_calibration(), LOAD_BYTES_PER_S),
        (None, "roofline", LOAD_BYTES_PER_S),
    ):
        node = Node("n", device, load_bytes_per_s=stated)
        where = Cluster((node,), (Client("c"),), {"default": Site("default")}, Network.full_mesh(2))
        assert Costs(where, source).load_s(0, 8e9) == pytest.approx(8e9 / rate)
    again = Calibration.from_json(json.loads(json.dumps(known.to_json())))
    assert again.load_bytes_per_s == 4e8
    with pytest.raises(InputError, match="load_bytes_per_s must be positive, got -1"):
        Calibration.from_json(known.to_json() | {"load_bytes_per_s": -1})


def test_another_device_takes_those_of_the_nearest_one_scaled() -> None:
    other = costs("a100-40gb")
    assert isinstance(other, MeasuredStepCost)
    assert not other.calibrated
    assert "scaled to a100-40gb" in other.source
    assert isinstance(costs("rtx-4090", "fp16-csr90"), RooflineStepCost)
    assert isinstance(costs("p100"), RooflineStepCost)  # nothing of its family was measured
    # of the same name, but another one
    assert not costs("rtx-4090", figures={"bandwidth_bytes_per_s": 5e11}).calibrated


def test_scaling_to_itself_changes_nothing_and_to_half_doubles() -> None:
    known, device = a_calibration(), load_device("rtx-4090")
    same = scaled(known, device)
    assert (same.linears, same.attentions, same.elements) == (
        known.linears, known.attentions, known.elements,
    )  # fmt: skip
    half = replace(
        device,
        bandwidth_bytes_per_s=device.bandwidth_bytes_per_s / 2,
        peak_flops={kind: rate / 2 for kind, rate in device.peak_flops.items()},
    )
    launch = 3e-6
    for a, b in zip(known.attentions[0].decode_s, scaled(known, half).attentions[0].decode_s,
                    strict=True):  # fmt: skip
        assert b - launch == pytest.approx(2 * (a - launch))
    assert nearest(load_device("a100-40gb"), BF16, TINY, but=calibrated_devices()) is None


def test_a_file_of_coefficients_prices_the_device_that_it_names(tmp_path: Path) -> None:
    file = tmp_path / "costs.json"
    file.write_text(json.dumps(a_calibration().to_json()), encoding="utf-8")
    assert "made up" in costs("rtx-4090", source=file).source
    assert "made up" not in costs("l40s", source=file).source


# --- the file -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", calibrated_devices())
def test_what_infsim_ships_reads_back_and_states_source_and_errors(name: str) -> None:
    known = device_calibration(name)
    assert known is not None
    assert known.device == name == load_device(name).name
    assert known.source
    assert {error["what"] for error in known.errors} >= {"linear"}
    again = Calibration.from_json(json.loads(json.dumps(known.to_json())))
    assert again.to_json() == known.to_json()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda d: d.pop("linear"), "no 'linear'"),
        (lambda d: d.update(liner=[]), "unknown key 'liner'.*'linear'"),
        (lambda d: d["attention"][0]["decode"]["time_us"].pop(), "4 cells, 3 times"),
        (lambda d: d["linear"][0]["shapes"][0]["time_us"].pop(), "4 points and 3 times"),
        (lambda d: d["attention"][0]["decode"].update(contexts=[64]), "must be several"),
    ],
)
def test_a_damaged_file_says_what_is_wrong(
    tmp_path: Path, change: Callable[[Any], object], said: str
) -> None:
    data = json.loads(json.dumps(a_calibration().to_json()))
    change(data)
    file = tmp_path / "costs.json"
    file.write_text(json.dumps(data), encoding="utf-8")
    with pytest.raises(InputError, match=said) as caught:
        read_calibration(file)
    assert str(file) in str(caught.value)
    file.write_text("{", encoding="utf-8")
    with pytest.raises(InputError, match="cannot read it"):
        read_calibration(file)


def test_operators_without_matrices_are_not_covered() -> None:
    bare = Operator("a", 1e6, 1e6, 100)
    assert covers(a_calibration(), BF16, TINY)
    assert not covers(a_calibration(), BF16, [bare])
    assert not covers(a_calibration(), load_format("fp8"), TINY)


def test_attention_is_in_32_bits_where_16_were_not_measured() -> None:
    tables = a_calibration().attentions
    wide = a_calibration(attentions=tuple(replace(table, format="fp32") for table in tables))
    assert covers(wide, BF16, TINY)
    assert not covers(wide, replace(BF16, kv_bits=8), TINY)
    assert not covers(a_calibration(), replace(BF16, kv_bits=32), TINY)


SCENARIO = """
name: one
model: llama-3.1-8b
format: bf16
costs: {costs}
cluster: {{nodes: [{{name: a, device: rtx-4090}}], clients: [{{name: c}}]}}
workload:
  arrivals: {{process: poisson, rate: 2 /s}}
  requests: 5
  lengths: {{input: 300, output: 20}}
"""


@pytest.mark.parametrize(
    ("costs_entry", "source"),
    [("calibrated", "kernels of rtx-4090"), ("roofline", "roofline of"), ("mine.json", "made up")],
)
def test_a_scenario_says_where_iteration_times_come_from(
    tmp_path: Path, costs_entry: str, source: str
) -> None:
    from infsim import run

    wide = a_calibration(
        linears=tuple(
            replace(
                t, shapes={(4096, 4096): t.shapes[256, 256], (28672, 14336): t.shapes[256, 512]}
            )
            for t in a_calibration().linears
        )
    )
    (tmp_path / "mine.json").write_text(json.dumps(wide.to_json()), encoding="utf-8")
    file = tmp_path / "s.yaml"
    file.write_text(SCENARIO.format(costs=costs_entry), encoding="utf-8")
    study = run(file)
    (one,) = study.runs
    assert any(source in text for text in one.details["costs"]["sources"])
    assert any("ncalibrated" in note for note in study.notes) == (costs_entry == "roofline")


def test_a_wrong_source_of_costs_is_told(tmp_path: Path) -> None:
    from infsim import load as load_scenario

    file = tmp_path / "s.yaml"
    file.write_text(SCENARIO.format(costs="rooflin"), encoding="utf-8")
    with pytest.raises(InputError, match=r"neither 'calibrated' nor 'roofline' nor a file.*roofl"):
        load_scenario(file)


def test_coefficients_of_a_device_that_is_not_there_are_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.json").write_text(json.dumps(a_calibration().to_json()), encoding="utf-8")
    file = tmp_path / "s.yaml"
    file.write_text(SCENARIO.format(costs="mine.json").replace("rtx-4090", "l40s"))
    said = r"s\.yaml:5.*costs of rtx-4090, and the scenario has none"
    with pytest.raises(InputError, match=said):
        check(load_scenario(file))
