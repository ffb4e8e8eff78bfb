"""Availability of nodes: when they go down and when they come back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import exp, gamma, inf, log
from typing import NamedTuple

import numpy as np

from infsim.errors import InputError
from infsim.rng import Streams


class Outage(NamedTuple):
    """A time in which a node is down.

    Attributes
    ----------
    down_s, up_s : float
        From when to when; ``up_s`` is ``inf`` if the node never comes back.
    notice_s : float
        How long before ``down_s`` the node says that it will leave; 0 for a failure.
    """

    down_s: float
    up_s: float
    notice_s: float = 0.0


class Availability(ABC):
    """Says when a node is down."""

    @abstractmethod
    def outages(self, streams: Streams, node: str) -> Iterator[Outage]:
        """Yield the outages of a node: increasing, disjoint, and drawn as needed.

        Between outages the node is up, from time 0 on; the iterator ends with an outage
        without end.

        Parameters
        ----------
        streams : Streams
            What a node draws for itself comes from ``stream("churn", node)``. What it shares
            with others (an outage of its zone) comes from a stream named after what they share,
            so that all of them draw the same without knowing of each other.
        node : str
            Name of the node.
        """

    @property
    @abstractmethod
    def expected_fraction(self) -> float | None:
        """Long-run share of time that the node is up; None if that is not known."""


@dataclass(frozen=True)
class AlwaysUp(Availability):
    """Never down."""

    def outages(self, streams: Streams, node: str) -> Iterator[Outage]:  # noqa: ARG002
        return iter(())

    @property
    def expected_fraction(self) -> float:
        return 1.0


# --- distributions of a duration ------------------------------------------------------------


class Duration(ABC):
    """A distribution of positive durations in seconds."""

    @property
    @abstractmethod
    def mean_s(self) -> float:
        """Its mean."""

    @abstractmethod
    def draw(self, rng: np.random.Generator) -> float:
        """Draw one duration."""

    @abstractmethod
    def draw_length_biased(self, rng: np.random.Generator) -> float:
        """Draw the duration that covers a random moment: density proportional to x f(x)."""

    def draw_residual(self, rng: np.random.Generator) -> float:
        """Draw what is left of a duration at a random moment (inspection paradox)."""
        return float(rng.random()) * self.draw_length_biased(rng)


@dataclass(frozen=True)
class Exponential(Duration):
    """Exponential durations: no memory."""

    mean: float

    def __post_init__(self) -> None:
        _require_positive("exponential mean", self.mean)

    @property
    def mean_s(self) -> float:
        return self.mean

    def draw(self, rng: np.random.Generator) -> float:
        return self.mean * float(rng.standard_exponential())

    def draw_length_biased(self, rng: np.random.Generator) -> float:
        return self.mean * float(rng.standard_gamma(2.0))


@dataclass(frozen=True)
class Weibull(Duration):
    """Weibull durations; ``shape`` below 1 means that the old live longer.

    Attributes
    ----------
    shape : float
    scale_s : float
        The 63rd percentile.
    """

    shape: float
    scale_s: float

    def __post_init__(self) -> None:
        _require_positive("Weibull shape", self.shape)
        _require_positive("Weibull scale", self.scale_s)
        if self.shape < 0.05:  # the mean would be beyond 1e18 times the scale
            raise InputError(f"Weibull shape must be at least 0.05, got {self.shape!r}")

    @classmethod
    def from_mean(cls, mean_s: float, shape: float) -> Weibull:
        """Return the Weibull distribution of this mean and shape."""
        _require_positive("Weibull mean", mean_s)
        unit = cls(shape, 1.0)
        return cls(shape, mean_s / unit.mean_s)

    @property
    def mean_s(self) -> float:
        return self.scale_s * gamma(1 + 1 / self.shape)

    def draw(self, rng: np.random.Generator) -> float:
        return self.scale_s * float(rng.weibull(self.shape))

    def draw_length_biased(self, rng: np.random.Generator) -> float:
        # If X is Weibull, (X / scale)^shape is exponential; biased by x it is a gamma.
        biased = rng.standard_gamma(1 + 1 / self.shape)
        return self.scale_s * float(biased ** (1 / self.shape))


@dataclass(frozen=True)
class Lognormal(Duration):
    """Lognormal durations.

    Attributes
    ----------
    mu, sigma : float
        Mean and standard deviation of the natural logarithm of the duration in seconds.
    """

    mu: float
    sigma: float

    def __post_init__(self) -> None:
        if not abs(self.mu) < inf:
            raise InputError(f"lognormal mu must be finite, got {self.mu!r}")
        _require_positive("lognormal sigma", self.sigma)
        if self.sigma > 20:  # the mean would be beyond 1e86 times the median
            raise InputError(f"lognormal sigma must be at most 20, got {self.sigma!r}")

    @classmethod
    def from_mean(cls, mean_s: float, sigma: float) -> Lognormal:
        """Return the lognormal distribution of this mean, with ``sigma`` of the logarithm."""
        _require_positive("lognormal mean", mean_s)
        return cls(log(mean_s) - sigma * sigma / 2, sigma)

    @classmethod
    def from_median(cls, median_s: float, sigma: float) -> Lognormal:
        """Return the lognormal distribution of this median, with ``sigma`` of the logarithm."""
        _require_positive("lognormal median", median_s)
        return cls(log(median_s), sigma)

    @property
    def mean_s(self) -> float:
        return exp(self.mu + self.sigma * self.sigma / 2)

    def draw(self, rng: np.random.Generator) -> float:
        return exp(self.mu + self.sigma * float(rng.standard_normal()))

    def draw_length_biased(self, rng: np.random.Generator) -> float:
        shifted = self.mu + self.sigma * self.sigma
        return exp(shifted + self.sigma * float(rng.standard_normal()))


# --- processes ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Renewal(Availability):
    """Up and down times drawn in turn, each independent of the past.

    Attributes
    ----------
    up, down : Duration
    stationary : bool
        True: time 0 is a random moment of the node's life (it may be down, and the first
        duration is a residual one). False: the node comes up at time 0.
    """

    up: Duration
    down: Duration
    stationary: bool = True

    def outages(self, streams: Streams, node: str) -> Iterator[Outage]:
        rng = streams.stream("churn", node)
        if not self.stationary:
            now = self.up.draw(rng)
        elif rng.random() < self.expected_fraction:
            now = self.up.draw_residual(rng)
        else:
            back = self.down.draw_residual(rng)
            yield Outage(0.0, back)
            now = back + self.up.draw(rng)
        while now < inf:
            back = now + self.down.draw(rng)
            yield Outage(now, back)
            now = back + self.up.draw(rng)

    @property
    def expected_fraction(self) -> float:
        return self.up.mean_s / (self.up.mean_s + self.down.mean_s)


@dataclass(frozen=True)
class TraceAvailability(Availability):
    """Outages that were observed (or made up), the same in every replication.

    Attributes
    ----------
    intervals : tuple of (float, float)
        ``(down_at, up_at)`` in seconds, sorted and disjoint; the last may end at ``inf``.

    Raises
    ------
    InputError
        If an interval is negative, empty, or starts before the one before it ended.
    """

    intervals: tuple[tuple[float, float], ...]

    def __post_init__(self) -> None:
        intervals = tuple((float(a), float(b)) for a, b in self.intervals)
        object.__setattr__(self, "intervals", intervals)
        before = 0.0
        for i, (start, end) in enumerate(intervals):
            if not 0 <= start < end:
                raise InputError(
                    f"availability interval {i}: ({start:g} s, {end:g} s) must start at 0 or"
                    " later and end after its start"
                )
            if start < before:
                raise InputError(
                    f"availability interval {i}: it starts at {start:g} s, before the one before"
                    f" it ended ({before:g} s); intervals must be sorted and must not overlap"
                )
            before = end

    @classmethod
    def from_uptimes(cls, uptimes: Sequence[tuple[float, float]]) -> TraceAvailability:
        """Return the trace of a node that is up in these intervals, and down otherwise.

        Intervals that touch are joined.
        """
        up = cls(tuple(uptimes)).intervals  # the same rules hold for uptimes
        edges = [0.0, *(edge for interval in up for edge in interval), inf]
        gaps = zip(edges[::2], edges[1::2], strict=True)
        return cls(tuple((start, end) for start, end in gaps if start < end))

    def outages(self, streams: Streams, node: str) -> Iterator[Outage]:  # noqa: ARG002
        return (Outage(*interval) for interval in self.intervals)

    @property
    def expected_fraction(self) -> None:
        return None


def _require_positive(name: str, value: float) -> None:
    if not 0 < value < inf:
        raise InputError(f"{name} must be positive and finite, got {value!r}")
