"""Coefficients fitted to measured kernels of a device: ``calibration/<device>/costs.json``.

`infsim calibrate fit` makes such files from kernel tables; `infsim.cost.measured` prices
iterations with them. Times are in microseconds in the file and in seconds in memory.
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
from infsim.cost.curves import Curve
from infsim.cost.power import PowerTable
from infsim.cost.tiles import LINES, Tiles, checked_tiles, staircase
from infsim.errors import InputError, Where, did_you_mean
from infsim.model.formats import Format
from infsim.paths import data_folder

FILE = "costs.json"
MICRO = 1e-6
ALL_REDUCE, ALL_GATHER, REDUCE_SCATTER = "all_reduce", "all_gather", "reduce_scatter"


@dataclass(frozen=True)
class LinearTable:
    """Times of matrix products in one format, by shape and tokens.

    Attributes
    ----------
    format : str
        Of the catalogue.
    library : str
        What ran: kernel library or framework, with its version.
    tokens : tuple of float
        Rows of the input, increasing.
    shapes : mapping of (int, int) to tuple of float
        Seconds at each of ``tokens`` by output and input features (n, k).
    experts : mapping of (int, int, int) to tuple of (float, Curve)
        Grouped products of mixtures of experts, by output and input features of one expert (all
        its matrices as one) and experts: for each number of tokens a curve along the experts
        that get some of them.
    tiles : Tiles
        Rows that the kernels compute at a time, which tell times between ``tokens``.
    """

    format: str
    library: str
    tokens: tuple[float, ...]
    shapes: Mapping[tuple[int, int], tuple[float, ...]]
    experts: Mapping[tuple[int, int, int], tuple[tuple[float, Curve], ...]]
    tiles: Tiles = LINES

    def curve(self, times: Sequence[float]) -> Curve:
        """Return seconds against tokens, of seconds at each of ``tokens``."""
        return staircase(self.tokens, times, self.tiles)


@dataclass(frozen=True)
class AttentionTable:
    """Times of attention of one shape over a grid of batches.

    Attributes
    ----------
    format : str
        Number type of the KV cache.
    library : str
    heads, kv_heads, head_dim : int
    chunks, prefixes : tuple of float
        Grid of one prompt chunk: its new tokens, and the KV entries before it.
    prefill_s : tuple of float
        Seconds by chunk and prefix, row-major.
    sequences, contexts : tuple of float
        Grid of decodes: how many, and KV entries of each, the new token included.
    decode_s : tuple of float
        Seconds by sequences and contexts, row-major.
    mixed_chunks, mixed_prefixes, mixed_sequences, mixed_contexts : tuple of float
        Grid of one chunk and decodes in one kernel; empty where that was not measured, and a
        mixed batch takes the sum of its parts.
    mixed_s : tuple of float
        Seconds in this order of axes, row-major.
    prompts, prompt_chunks : tuple of float
        Grid of several equal prompts without a prefix: how many, and tokens of each; empty where
        that was not measured.
    prompts_s : tuple of float
        Seconds by prompts and chunks, row-major.
    unequal : float
        Decodes of unequal contexts take this share of the way from the time of as many with the
        mean context to that of as many with the longest one.

    Raises
    ------
    InputError
        If an axis has a single point or does not increase, or a grid does not fit its axes.
    """

    format: str
    library: str
    heads: int
    kv_heads: int
    head_dim: int
    chunks: tuple[float, ...]
    prefixes: tuple[float, ...]
    prefill_s: tuple[float, ...]
    sequences: tuple[float, ...]
    contexts: tuple[float, ...]
    decode_s: tuple[float, ...]
    mixed_chunks: tuple[float, ...] = ()
    mixed_prefixes: tuple[float, ...] = ()
    mixed_sequences: tuple[float, ...] = ()
    mixed_contexts: tuple[float, ...] = ()
    mixed_s: tuple[float, ...] = ()
    prompts: tuple[float, ...] = ()
    prompt_chunks: tuple[float, ...] = ()
    prompts_s: tuple[float, ...] = ()
    unequal: float = 0.0

    def __post_init__(self) -> None:
        for axes, times in (
            (("chunks", "prefixes"), self.prefill_s),
            (("sequences", "contexts"), self.decode_s),
            (
                ("mixed_chunks", "mixed_prefixes", "mixed_sequences", "mixed_contexts"),
                self.mixed_s,
            ),
            (("prompts", "prompt_chunks"), self.prompts_s),
        ):
            cells = 1
            for axis in axes:
                points: tuple[float, ...] = getattr(self, axis)
                cells *= len(points)
                if list(points) != sorted(set(points)) or len(points) == 1:
                    raise InputError(f"{axis} must be several and increase, got {points}")
            if cells != len(times):
                raise InputError(f"grid of {' x '.join(axes)}: {cells} cells, {len(times)} times")


@dataclass(frozen=True)
class ElementTable:
    """Time of an element-wise kernel against tokens, at one width.

    Attributes
    ----------
    kernel : str
        ``norm``, ``activation``, ``rotary``, ``residual``, ``kv_write``, ``embedding``, or, by
        sequences that need logits, ``head`` and ``sample``.
    width : int
        Values of a token (of a sequence) that the measured kernel made.
    curve : Curve
    """

    kernel: str
    width: int
    curve: Curve


@dataclass(frozen=True)
class CollectiveTable:
    """Time of a collective operation of some devices of a machine, against bytes.

    Attributes
    ----------
    devices : int
    curve : Curve
        Against the bytes that a device gives to an all-reduce or an all-gather, or gets from a
        reduce-scatter.
    name : {"all_reduce", "all_gather", "reduce_scatter"}
    """

    devices: int
    curve: Curve
    name: str = ALL_REDUCE


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
        Cross-validated relative errors: ``what``, ``format``, ``held_out``, ``points``,
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
        return {
            "device": self.device,
            "source": self.source,
            "licence": self.licence,
            "notes": list(self.notes),
            "errors": [dict(error) for error in self.errors],
            "iteration_us": None if self.iteration_s is None else _us([self.iteration_s])[0],
            "operator_us": _us([self.operator_s])[0],
            **({"load_bytes_per_s": self.load_bytes_per_s} if self.load_bytes_per_s else {}),
            "power": None if self.power is None else self.power.to_json(),
            "linear": [_linear_json(table) for table in self.linears],
            "attention": [_attention_json(table) for table in self.attentions],
            "element": [
                {"kernel": t.kernel, "width": t.width, **_curve_json(t.curve)}
                for t in self.elements
            ],
            "collective": [_collective_json(table) for table in self.collectives],
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
                linears=tuple(_linear(entry) for entry in data["linear"]),
                attentions=tuple(_attention(entry) for entry in data["attention"]),
                elements=tuple(
                    ElementTable(entry["kernel"], entry["width"], _curve(entry))
                    for entry in data["element"]
                ),
                collectives=tuple(
                    CollectiveTable(entry["devices"], _curve(entry), entry.get("name", ALL_REDUCE))
                    for entry in data["collective"]
                ),
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


# --- plain data ---------------------------------------------------------------------------------


def _rate(given: Any) -> float | None:
    if given is None:
        return None
    if not 0 < float(given) < inf:
        raise ValueError(f"load_bytes_per_s must be positive, got {given!r}")
    return float(given)


def _us(times: Sequence[float]) -> list[float]:
    """Microseconds to five digits, more than any measurement has."""
    return [float(f"{time / MICRO:.5g}") for time in times]


def _seconds(times: Sequence[float]) -> tuple[float, ...]:
    return tuple(time * MICRO for time in times)


def _plain(points: Sequence[float]) -> list[float]:
    return [int(x) if x == int(x) else x for x in points]


def _curve_json(curve: Curve) -> dict[str, Any]:
    return {"x": _plain(curve.x), "time_us": _us(curve.time_s)}


def _curve(entry: Mapping[str, Any]) -> Curve:
    return Curve(tuple(entry["x"]), _seconds(entry["time_us"]))


def _collective_json(table: CollectiveTable) -> dict[str, Any]:
    named = {} if table.name == ALL_REDUCE else {"name": table.name}
    return {"devices": table.devices, **named, **_curve_json(table.curve)}


def _linear_json(table: LinearTable) -> dict[str, Any]:
    return {
        "format": table.format,
        "library": table.library,
        "tokens": _plain(table.tokens),
        "tiles": [list(tile) for tile in table.tiles],
        "shapes": [
            {"n": n, "k": k, "time_us": _us(times)} for (n, k), times in table.shapes.items()
        ],
        "experts": [
            {"n": n, "k": k, "experts": experts, "tokens": tokens} | _curve_json(curve)
            for (n, k, experts), curves in table.experts.items()
            for tokens, curve in curves
        ],
    }


def _linear(entry: Mapping[str, Any]) -> LinearTable:
    shapes = {(row["n"], row["k"]): _seconds(row["time_us"]) for row in entry["shapes"]}
    experts: dict[tuple[int, int, int], tuple[tuple[float, Curve], ...]] = {}
    for row in entry["experts"]:
        key = row["n"], row["k"], row["experts"]
        experts[key] = (*experts.get(key, ()), (row["tokens"], _curve(row)))
    tokens = tuple(entry["tokens"])
    for times in shapes.values():
        Curve(tokens, times)  # its checks
    tiles = tuple((int(first), int(rows)) for first, rows in entry.get("tiles", ()))
    return LinearTable(
        entry["format"], entry["library"], tokens, shapes, experts, checked_tiles(tiles)
    )


_GRIDS = {
    "prefill": (("chunks", "prefixes"), "prefill_s"),
    "decode": (("sequences", "contexts"), "decode_s"),
    "mixed": (
        ("mixed_chunks", "mixed_prefixes", "mixed_sequences", "mixed_contexts"),
        "mixed_s",
    ),
    "prompts": (("prompts", "prompt_chunks"), "prompts_s"),
}


def _attention_json(table: AttentionTable) -> dict[str, Any]:
    names = ("format", "library", "heads", "kv_heads", "head_dim")
    found: dict[str, Any] = {name: getattr(table, name) for name in names}
    if table.unequal:
        found["unequal"] = table.unequal
    for grid, (axes, times) in _GRIDS.items():
        found[grid] = {axis: _plain(getattr(table, axis)) for axis in axes}
        found[grid]["time_us"] = _us(getattr(table, times))
    return found


def _attention(entry: Mapping[str, Any]) -> AttentionTable:
    fields: dict[str, Any] = {k: v for k, v in entry.items() if k not in _GRIDS}
    for grid, (axes, times) in _GRIDS.items():
        fields |= {axis: tuple(entry[grid][axis]) for axis in axes}
        fields[times] = _seconds(entry[grid]["time_us"])
    return AttentionTable(**fields)
