"""Kernels to measure: what they compute, at which sizes, and how to tell that they are right."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Case:
    """A kernel with inputs of one size, ready to run.

    Attributes
    ----------
    run : callable
        Runs it once.
    error : callable, optional
        Returns the relative error of its result (Frobenius norm) against the same operation in
        float64; None where nothing is computed.
    touch : callable, optional
        Runs before, untimed: brings into the cache what the kernel before has just written there
        in a model. Weights and KV cache are not touched: they come from memory.
    wall : bool
        Time is that of the wall clock, as for reading a disk.
    cold_bytes : float
        Weights and KV cache that a run reads from memory.
    """

    run: Callable[[], object]
    error: Callable[[], float] | None = None
    touch: Callable[[], object] | None = None
    wall: bool = False
    cold_bytes: float = 0.0


Maker = Callable[[int], Case]


@dataclass(frozen=True)
class Kernel:
    """A kernel at one shape, to be measured along one axis.

    Attributes
    ----------
    columns : mapping
        What it is, in columns of `infsim.calibrate.table.KernelTable`, the axis left out.
    axis : str
        The column along which it is measured: ``tokens``, ``chunk``, ``context``, ``bytes``.
    points : tuple of int
        The full grid of the axis, increasing.
    prepare : callable
        Makes the weights and returns a function that makes the `Case` of a point.
    tolerance : float
        Largest relative error that its number format explains.
    dense_to : int
        All points up to this are measured: where steps are known to be too narrow for a search.
    longest_s : float, optional
        Points of which a run would take longer are left out; that of the campaign by default.
    """

    columns: Mapping[str, str | int | float]
    axis: str
    points: tuple[int, ...]
    prepare: Callable[[], Maker]
    tolerance: float = 0.0
    dense_to: int = 0
    longest_s: float | None = None

    @property
    def label(self) -> str:
        """What tells it from others, for messages: its columns in one line."""
        return " ".join(f"{value}" for value in self.columns.values() if value != "")
