"""How long prompts and outputs are."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from infsim.errors import InputError
from infsim.rng import Streams

Floats = NDArray[np.float64]
Tokens = NDArray[np.int64]
Sampler = Callable[[Floats], tuple[Tokens, Tokens]]
"""Draws prompt and output lengths for requests that arrive at these times, in order."""


class Lengths(Protocol):
    """A joint distribution of prompt and output lengths, which may change in time."""

    def sampler(self, streams: Streams) -> Sampler:
        """Return a sampler at the beginning of its streams."""
        ...


class Marginal(ABC):
    """The distribution of one length, given as its quantile function."""

    @abstractmethod
    def quantile(self, u: Floats) -> Floats:
        """Return the lengths below which a share `u` lies, before rounding: float64 (n,)."""

    def tokens(self, u: Floats) -> Tokens:
        """Return whole lengths, at least 1: int64 (n,)."""
        return np.maximum(np.rint(self.quantile(u)), 1).astype(np.int64)


@dataclass(frozen=True)
class Constant(Marginal):
    """Always the same length."""

    value: int

    def __post_init__(self) -> None:
        _check_range(self.value, self.value)

    def quantile(self, u: Floats) -> Floats:
        return np.full(len(u), float(self.value))


@dataclass(frozen=True)
class Uniform(Marginal):
    """Each whole length from `low` to `high`, both included, equally often."""

    low: int
    high: int

    def __post_init__(self) -> None:
        _check_range(self.low, self.high)

    def quantile(self, u: Floats) -> Floats:
        return np.minimum(np.floor(self.low + u * (self.high - self.low + 1)), self.high)


@dataclass(frozen=True)
class Lognormal(Marginal):
    """A lognormal length, drawn again until it is in ``[low, high]``.

    Attributes
    ----------
    mean : float
        Mean before truncation.
    cv : float
        Coefficient of variation before truncation.
    low, high : float
        Range.
    """

    mean: float
    cv: float
    low: float = 1
    high: float = math.inf

    def __post_init__(self) -> None:
        _check_range(self.low, self.high)
        for name in ("mean", "cv"):
            if not 0 < getattr(self, name) < math.inf:
                raise InputError(f"{name} is {getattr(self, name)}, must be above 0", key=name)

    def quantile(self, u: Floats) -> Floats:
        from scipy.special import ndtr, ndtri

        sigma = math.sqrt(math.log1p(self.cv**2))
        mu = math.log(self.mean) - sigma**2 / 2
        below, above = ndtr((np.log([self.low, self.high]) - mu) / sigma)
        drawn = np.exp(mu + sigma * ndtri(below + u * (above - below)))
        # where the range is all tail, the inverse may lose it to rounding
        clipped: Floats = np.clip(drawn, self.low, self.high)
        return clipped


@dataclass(frozen=True)
class Quantiles(Marginal):
    """A table of quantiles, linear in between.

    Attributes
    ----------
    levels : sequence of float
        Increasing, from 0 to 1.
    values : sequence of float
        The length at each level, not decreasing.
    """

    levels: Sequence[float]
    values: Sequence[float]

    def __post_init__(self) -> None:
        if len(self.levels) != len(self.values) or len(self.levels) < 2:
            raise InputError(
                f"{len(self.levels)} levels and {len(self.values)} values of quantiles",
                key="levels",
            )
        if self.levels[0] != 0 or self.levels[-1] != 1 or not (np.diff(self.levels) > 0).all():
            raise InputError("levels of quantiles must increase from 0 to 1", key="levels")
        if not (np.diff(self.values) >= 0).all():
            raise InputError("values of quantiles must not decrease", key="values")
        _check_range(self.values[0], self.values[-1])

    def quantile(self, u: Floats) -> Floats:
        return np.interp(u, self.levels, self.values)


@dataclass(frozen=True)
class Discrete(Marginal):
    """A table of lengths and how often each comes.

    Attributes
    ----------
    values : sequence of int
        Increasing lengths.
    weights : sequence of float
        They need not add up to 1.
    """

    values: Sequence[int]
    weights: Sequence[float]

    def __post_init__(self) -> None:
        if not self.values or len(self.values) != len(self.weights):
            raise InputError(f"{len(self.values)} lengths with {len(self.weights)} weights")
        if not (np.diff(self.values) > 0).all():
            raise InputError("lengths of a table must increase", key="values")
        _check_range(self.values[0], self.values[-1])
        _check_weights(self.weights)

    def quantile(self, u: Floats) -> Floats:
        return np.asarray(self.values, dtype=np.float64)[_rows(self.weights, u)]


@dataclass(frozen=True)
class Independent:
    """Prompt and output lengths that do not depend on each other.

    Attributes
    ----------
    input_tokens, output_tokens : Marginal
    """

    input_tokens: Marginal
    output_tokens: Marginal

    def sampler(self, streams: Streams) -> Sampler:
        inputs = streams.stream("workload", "input_tokens")
        outputs = streams.stream("workload", "output_tokens")

        def sample(arrival_s: Floats) -> tuple[Tokens, Tokens]:
            n = len(arrival_s)
            return (
                self.input_tokens.tokens(inputs.random(n)),
                self.output_tokens.tokens(outputs.random(n)),
            )

        return sample


@dataclass(frozen=True)
class Pairs:
    """Pairs of lengths drawn from a table: the dependence of the two is kept.

    Attributes
    ----------
    input_tokens, output_tokens : sequence of int
        The table.
    weights : sequence of float or None
        How often each pair comes, equally often by default.
    """

    input_tokens: Sequence[int] | Tokens
    output_tokens: Sequence[int] | Tokens
    weights: Sequence[float] | Floats | None = None

    def __post_init__(self) -> None:
        n = len(self.input_tokens)
        if not n:
            raise InputError("the table of lengths is empty")
        if len(self.output_tokens) != n or (self.weights is not None and len(self.weights) != n):
            raise InputError("the columns of the table of lengths are not equally long")
        for column in (self.input_tokens, self.output_tokens):
            _check_range(float(np.min(column)), float(np.max(column)))
        if self.weights is not None:
            _check_weights(self.weights)

    def sampler(self, streams: Streams) -> Sampler:
        generator = streams.stream("workload", "lengths")
        inputs = np.asarray(self.input_tokens, dtype=np.int64)
        outputs = np.asarray(self.output_tokens, dtype=np.int64)
        weights = np.ones(len(inputs)) if self.weights is None else self.weights

        def sample(arrival_s: Floats) -> tuple[Tokens, Tokens]:
            rows = _rows(weights, generator.random(len(arrival_s)))
            return inputs[rows], outputs[rows]

        return sample


def _check_range(low: float, high: float) -> None:
    if not (low >= 1 and high >= low):
        raise InputError(f"lengths from {low:g} to {high:g} tokens, must be 1 or more")


def _check_weights(weights: Sequence[float] | Floats) -> None:
    if not np.min(weights) >= 0 or not 0 < np.sum(weights) < math.inf:
        raise InputError("weights must be 0 or more, and not all 0", key="weights")


def _rows(weights: Sequence[float] | Floats, u: Floats) -> NDArray[np.int64]:
    """Return the row of a table with these weights for each probability: int64 (n,)."""
    shares = np.cumsum(weights)
    # rounding must not lead beyond the last row that has a weight
    last = int(np.flatnonzero(weights)[-1])
    rows: NDArray[np.int64] = np.searchsorted(shares, u * shares[-1], side="right")
    return np.minimum(rows, last)
