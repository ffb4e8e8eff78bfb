"""A kernel table of the machine at hand, measured, checked and described."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np

from infsim.calibrate.audit import IMPOSSIBLE, TOLERANCE
from infsim.calibrate.bounds import least_time_s
from infsim.calibrate.measure import machine
from infsim.calibrate.measure.bench import Bench
from infsim.calibrate.measure.campaign import LONGEST_S, WANTED, Campaign, measure
from infsim.calibrate.measure.kernel import Kernel
from infsim.calibrate.measure.power import power_table
from infsim.calibrate.measure.reference import bench
from infsim.calibrate.table import KernelTable, Meta
from infsim.cluster.device import Device, load_device
from infsim.errors import InputError


@dataclass(frozen=True)
class Plan:
    """What is to be measured, and how well.

    Attributes
    ----------
    hardware : str
        Name of the device in the catalogue.
    device : str
        ``cpu`` or ``cuda``.
    budget_s : float
        Wall clock.
    wanted : float
        Relative error of lines between measured points at which a curve is done.
    longest_s : float
        Points of which one run would take longer are left out.
    searching : float
        Share of the budget for the search; in the rest its points are measured again.
    command : str
        What the user typed, for ``meta.yaml``.
    """

    hardware: str
    device: str = "cpu"
    budget_s: float = 480.0
    wanted: float = WANTED
    longest_s: float = LONGEST_S
    searching: float = 1.0
    command: str = ""


def run(
    plan: Plan,
    kernels: Callable[[], Sequence[Kernel]],
    say: Callable[[str], None] = print,
    keep: Callable[[KernelTable], object] = lambda _: None,
) -> KernelTable:
    """Measure kernels on this machine.

    Ctrl-C ends the campaign as if its budget was spent.

    Parameters
    ----------
    plan : Plan
    kernels : callable
        Returns them once the device is known to be there.
    say : callable
        Told what goes on, a line at a time.
    keep : callable
        Given the table of what was measured so far, now and then.

    Returns
    -------
    KernelTable
        Rows faster than the device can be are left out and counted, as for imported tables.

    Raises
    ------
    InputError
        If the hardware is not in the catalogue, PyTorch or the device is missing, or nothing
        could be measured.
    DriftError
        If the machine changed meanwhile.
    """
    known = load_device(plan.hardware)
    began = time.monotonic()
    stand = bench(plan.device)
    say(
        f"reference kernels: {stand.usual.total_s * 1e3:.3g} ms,"
        f" {stand.quiet_s * 1e3:.3g} in quiet moments"
    )
    power = power_table(plan.device, known)
    say(f"power: {power['source']}")
    to_do = kernels()

    def table(found: Campaign) -> KernelTable:
        meta = _meta(plan, known, stand, found, power)
        return _possible(KernelTable.from_rows(found.rows, meta), known)

    left_s = plan.budget_s - (time.monotonic() - began)
    found = measure(
        to_do,
        stand,
        left_s,
        plan.wanted,
        plan.longest_s,
        plan.searching,
        say,
        lambda found: keep(table(found)),
    )
    if not found.rows:
        raise InputError(f"nothing could be measured: {found.unavailable}")
    return table(found)


def _possible(table: KernelTable, device: Device) -> KernelTable:
    """Leave out rows that are faster than the hardware allows."""
    wrong = table["time_s"] < least_time_s(table, device) * (1 - TOLERANCE)
    refused = {IMPOSSIBLE: int(wrong.sum())} if wrong.any() else {}
    return table.take(~wrong).with_meta(refused=refused)


def _meta(plan: Plan, known: Device, stand: Bench, found: Campaign, power: dict[str, Any]) -> Meta:
    spreads = [row["spread_s"] / row["time_s"] for row in found.rows]
    extra: dict[str, Any] = {
        "machine": machine.description(plan.device),
        "reference": {
            "time_s": float(f"{found.usual.total_s:.4g}"),
            "memory_s": float(f"{found.usual.memory_s:.4g}"),
            "quiet_s": float(f"{stand.quiet_s:.4g}"),
            "bytes": stand.reference_bytes,
            "drift": round(found.drift, 4),
        },
        "search": {
            "wanted_error": plan.wanted,
            "points_measured": len(found.rows),
            "points_saved": found.saved,
            "points_unsteady": found.unsteady,
            "rounds": found.rounds,
            "curves_unfinished": found.unfinished,
            "seconds": round(found.seconds, 1),
        }
        | ({"interrupted": True} if found.interrupted else {}),
        "standard_error": found.standard_error,
        "correctness": found.errors,
        "unavailable": found.unavailable,
        "power": power,
    }
    return Meta(
        hardware=known.name,
        source="measured by infsim calibrate run",
        licence="Apache-2.0",
        date=datetime.now(UTC).date().isoformat(),
        command=plan.command,
        versions=machine.versions(plan.device),
        noise=round(float(np.nanmedian(spreads)), 5),
        notes=_notes(plan.device),
        extra=extra,
    )


def _notes(device: str) -> list[str]:
    clock = {
        "cpu": "times are CPU time of one thread, calls from Python included",
        "cuda": "times are those between CUDA events around replays of a graph",
    }
    return [
        clock[device],
        "time_s is the median of the rounds, at the usual pace of the references; spread_s is their"
        " standard deviation, or that of the repeats where there are fewer than three rounds",
        "weights and KV cache come from memory, activations from the cache",
        "correctness: largest relative error of results against float64 (Frobenius norm)",
    ]
