"""Coefficients fitted to measured kernels of a device: ``calibration/<device>/costs.json``.

`infsim calibrate fit` makes such files from kernel tables; `infsim.cost.measured` prices
iterations with them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import inf
from pathlib import Path
from typing import Any

from infsim.cluster.node import Node
from infsim.cost.power import PowerTable
from infsim.cost.tables import (
    MICRO,
    AttentionTable,
    CollectiveTable,
    ElementTable,
    LinearTable,
    attention_json,
    attention_table,
    collective_json,
    collective_table,
    curve_from,
    curve_json,
    linear_json,
    linear_table,
    microseconds,
)
from infsim.errors import InputError, Where, did_you_mean
from infsim.model.formats import Format
from infsim.paths import data_folder

FILE = "costs.json"


@dataclass(frozen=True)
class Calibration:
    """What is known of one device.

    Attributes
    ----------
    device : str
        Name in the catalogue.
    source, licence : str
        Where the measurements come from.
    linears : tuple of LinearTable
    attentions : tuple of AttentionTable
    elements : tuple of ElementTable
    collectives : tuple of CollectiveTable
    iteration_s : float or None
        Time of an iteration beside its kernels; None if that is not known, and the device's own
        ``overhead_s`` holds.
    operator_s : float
        Time of an operator (a layer) beside its kernels, where whole steps were measured.
    load_bytes_per_s : float or None
        How fast weights are loaded from a file; None where it was not measured.
    power : PowerTable or None
        Power in iterations; None where it was not measured, and the declared one holds.
    errors : sequence of mapping
        Relative errors at points held out: ``what``, ``format``, ``held_out``, ``points``,
        ``median``, ``p95``.
    notes : tuple of str
    """

    device: str
    source: str
    licence: str
    linears: tuple[LinearTable, ...]
    attentions: tuple[AttentionTable, ...]
    elements: tuple[ElementTable, ...] = ()
    collectives: tuple[CollectiveTable, ...] = ()
    iteration_s: float | None = None
    operator_s: float = 0.0
    load_bytes_per_s: float | None = None
    power: PowerTable | None = None
    errors: Sequence[Mapping[str, Any]] = ()
    notes: tuple[str, ...] = ()

    @property
    def subject(self) -> str:
        """What the coefficients hold for."""
        return self.device

    def holds_for(
        self,
        node: Node,
        form: Format,  # noqa: ARG002 - asked as `EngineSteps.holds_for` is, which needs it
        model: str,  # noqa: ARG002 - the same
    ) -> bool:
        """Whether something on a node is priced by them."""
        return node.device.name == self.device

    def element(self, kernel: str, width: float) -> ElementTable | None:
        """Return the table of a kernel at the nearest width, None if there is none."""
        known = [table for table in self.elements if table.kernel == kernel]
        return min(known, key=lambda table: abs(table.width - width), default=None)

    def to_json(self) -> dict[str, Any]:
        """Return plain data, the content of the file."""
        iteration = self.iteration_s
        return {
            "device": self.device,
            "source": self.source,
            "licence": self.licence,
            "notes": list(self.notes),
            "errors": [dict(error) for error in self.errors],
            "iteration_us": None if iteration is None else microseconds([iteration])[0],
            "operator_us": microseconds([self.operator_s])[0],
            **({"load_bytes_per_s": self.load_bytes_per_s} if self.load_bytes_per_s else {}),
            "power": None if self.power is None else self.power.to_json(),
            "linear": [linear_json(table) for table in self.linears],
            "attention": [attention_json(table) for table in self.attentions],
            "element": [
                {"kernel": t.kernel, "width": t.width, **curve_json(t.curve)} for t in self.elements
            ],
            "collective": [collective_json(table) for table in self.collectives],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Calibration:
        """Build it from the content of the file.

        Raises
        ------
        InputError
            For missing or unknown entries, and grids that do not fit their axes.
        """
        known = (
            "device", "source", "licence", "notes", "errors", "iteration_us",
            "operator_us", "load_bytes_per_s", "power", "linear", "attention", "element",
            "collective",
        )  # fmt: skip
        for key in data:
            if key not in known:
                raise InputError(f"unknown key {key!r}{did_you_mean(key, known)}")
        try:
            iteration, power = data["iteration_us"], data["power"]
            return cls(
                device=data["device"],
                source=data["source"],
                licence=data["licence"],
                linears=tuple(linear_table(entry) for entry in data["linear"]),
                attentions=tuple(attention_table(entry) for entry in data["attention"]),
                elements=tuple(
                    ElementTable(entry["kernel"], entry["width"], curve_from(entry))
                    for entry in data["element"]
                ),
                collectives=tuple(collective_table(entry) for entry in data["collective"]),
                iteration_s=None if iteration is None else iteration * MICRO,
                operator_s=data["operator_us"] * MICRO,
                load_bytes_per_s=_rate(data.get("load_bytes_per_s")),
                power=None if power is None else PowerTable.from_json(power),
                errors=tuple(data["errors"]),
                notes=tuple(data["notes"]),
            )
        except KeyError as error:
            raise InputError(f"no {error.args[0]!r} in it") from error
        except (TypeError, ValueError) as error:
            raise InputError(f"not coefficients of costs: {error}") from error


def read_calibration(path: Path) -> Calibration:
    """Read coefficients; a file that is damaged or holds something else is an `InputError`."""
    return calibration_of(read_plain(path), path)


def read_plain(path: Path) -> dict[str, Any]:
    """Read the plain data of a file of costs; one that is damaged is an `InputError`."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read it: {error}", where=Where(str(path))) from error
    if not isinstance(data, dict):
        raise InputError("not coefficients of costs", where=Where(str(path)))
    return data


def calibration_of(data: Mapping[str, Any], path: Path) -> Calibration:
    """Build coefficients from the content of a file, which errors name."""
    try:
        return Calibration.from_json(data)
    except InputError as error:
        raise error.at(Where(str(path))) from error


def calibrated_devices() -> tuple[str, ...]:
    """Return the names of the devices that infsim ships coefficients for, sorted."""
    return tuple(sorted(path.parent.name for path in data_folder("calibration").glob(f"*/{FILE}")))


@lru_cache(maxsize=64)
def device_calibration(device: str) -> Calibration | None:
    """Return the coefficients that infsim ships for a device, None if it has none."""
    path = data_folder("calibration") / device / FILE
    return read_calibration(path) if path.is_file() else None


def _rate(given: Any) -> float | None:
    if given is None:
        return None
    if not 0 < float(given) < inf:
        raise ValueError(f"load_bytes_per_s must be positive, got {given!r}")
    return float(given)
