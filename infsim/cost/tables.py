"""Measured times of kernels, and their plain data.

Times are in microseconds in the file and in seconds in memory.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from infsim.cost.curves import Curve
from infsim.cost.tiles import LINES, Tiles, checked_tiles, staircase
from infsim.errors import InputError

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


# --- plain data -----------------------------------------------------------------------------------


def microseconds(times: Sequence[float]) -> list[float]:
    """Microseconds to five digits, more than any measurement has."""
    return [float(f"{time / MICRO:.5g}") for time in times]


def _seconds(times: Sequence[float]) -> tuple[float, ...]:
    return tuple(time * MICRO for time in times)


def _plain(points: Sequence[float]) -> list[float]:
    return [int(x) if x == int(x) else x for x in points]


def curve_json(curve: Curve) -> dict[str, Any]:
    """Return a curve as plain data."""
    return {"x": _plain(curve.x), "time_us": microseconds(curve.time_s)}


def curve_from(entry: Mapping[str, Any]) -> Curve:
    """Build a curve from plain data."""
    return Curve(tuple(entry["x"]), _seconds(entry["time_us"]))


def collective_json(table: CollectiveTable) -> dict[str, Any]:
    """Return the times of a collective operation as plain data."""
    named = {} if table.name == ALL_REDUCE else {"name": table.name}
    return {"devices": table.devices, **named, **curve_json(table.curve)}


def collective_table(entry: Mapping[str, Any]) -> CollectiveTable:
    """Build the times of a collective operation from plain data."""
    return CollectiveTable(entry["devices"], curve_from(entry), entry.get("name", ALL_REDUCE))


def linear_json(table: LinearTable) -> dict[str, Any]:
    """Return the times of matrix products as plain data."""
    return {
        "format": table.format,
        "library": table.library,
        "tokens": _plain(table.tokens),
        "tiles": [list(tile) for tile in table.tiles],
        "shapes": [
            {"n": n, "k": k, "time_us": microseconds(times)}
            for (n, k), times in table.shapes.items()
        ],
        "experts": [
            {"n": n, "k": k, "experts": experts, "tokens": tokens} | curve_json(curve)
            for (n, k, experts), curves in table.experts.items()
            for tokens, curve in curves
        ],
    }


def linear_table(entry: Mapping[str, Any]) -> LinearTable:
    """Build the times of matrix products from plain data."""
    shapes = {(row["n"], row["k"]): _seconds(row["time_us"]) for row in entry["shapes"]}
    experts: dict[tuple[int, int, int], tuple[tuple[float, Curve], ...]] = {}
    for row in entry["experts"]:
        key = row["n"], row["k"], row["experts"]
        experts[key] = (*experts.get(key, ()), (row["tokens"], curve_from(row)))
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


def attention_json(table: AttentionTable) -> dict[str, Any]:
    """Return the grids of attention as plain data."""
    names = ("format", "library", "heads", "kv_heads", "head_dim")
    found: dict[str, Any] = {name: getattr(table, name) for name in names}
    if table.unequal:
        found["unequal"] = table.unequal
    for grid, (axes, times) in _GRIDS.items():
        found[grid] = {axis: _plain(getattr(table, axis)) for axis in axes}
        found[grid]["time_us"] = microseconds(getattr(table, times))
    return found


def attention_table(entry: Mapping[str, Any]) -> AttentionTable:
    """Build the grids of attention from plain data."""
    fields: dict[str, Any] = {k: v for k, v in entry.items() if k not in _GRIDS}
    for grid, (axes, times) in _GRIDS.items():
        fields |= {axis: tuple(entry[grid][axis]) for axis in axes}
        fields[times] = _seconds(entry[grid]["time_us"])
    return AttentionTable(**fields)
