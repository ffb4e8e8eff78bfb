"""What an engine reaches of a device's peaks, fitted to whole steps: ``rates.json``.

Devices of which no kernels were measured, but whole steps were, are priced by a roofline of their
own instead of that of their class. `infsim calibrate fit-steps` makes such files.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from functools import lru_cache
from pathlib import Path

from infsim.cluster.device import Device, load_device
from infsim.cluster.node import Node
from infsim.errors import InputError, Where, did_you_mean
from infsim.paths import data_folder

FILE = "rates.json"


@dataclass(frozen=True)
class Rates:
    """The roofline of a device under an engine.

    Attributes
    ----------
    device : str
        Name in the catalogue.
    source : str
        Where the steps were measured.
    compute : mapping of str to float
        Share of the peak arithmetic by format.
    bandwidth : float
        Share of the peak memory bandwidth.
    layer_s : float
        Time of a layer beside its work.
    errors, held_out : mapping of str to float
        Relative error of each step, and of those that were held out of the fit.
    notes : tuple of str
    """

    device: str
    source: str
    compute: Mapping[str, float]
    bandwidth: float
    layer_s: float
    errors: Mapping[str, float] = field(default_factory=dict)
    held_out: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def apply(self, device: Device, form: str) -> Device:
        """Return the device with what the engine reaches on it in a format.

        Formats that were not measured are taken to compute like the slowest that was.
        """
        return replace(
            device,
            compute_efficiency=self.compute.get(form, min(self.compute.values())),
            bandwidth_efficiency=self.bandwidth,
            layer_overhead_s=self.layer_s,
            source=f"fitted to whole steps, {self.source}",
        )


def read_rates(path: Path) -> Rates:
    """Read a ``rates.json``; one that is damaged is an `InputError`."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read it: {error}", where=Where(str(path))) from error
    known = [f.name for f in fields(Rates)]
    for key in data if isinstance(data, dict) else ("",):
        if key not in known:
            hint = did_you_mean(key, known)
            raise InputError(f"unknown key {key!r}{hint}", where=Where(str(path)))
    try:
        return Rates(**data | {"notes": tuple(data.get("notes", ()))})
    except TypeError as error:
        raise InputError(f"no rates: {error}", where=Where(str(path))) from error


@lru_cache(maxsize=64)
def device_rates(device: str) -> Rates | None:
    """Return the rates that infsim ships for a device, None if it has none."""
    path = data_folder("calibration") / device / FILE
    return read_rates(path) if path.is_file() else None


def fitted(node: Node, form: str) -> Node:
    """Return a node with the rates that its device reaches in a format, where they are known.

    Devices that a scenario changes keep what it says.
    """
    rates = device_rates(node.device.name)
    if rates is None or node.device != load_device(node.device.name):
        return node
    return replace(node, device=rates.apply(node.device, form))
