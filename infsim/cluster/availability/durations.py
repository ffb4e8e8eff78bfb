"""Distributions of how long a node stays up or down."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from math import exp, gamma, inf, log

import numpy as np

from infsim.errors import InputError


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


@dataclass(frozen=True)
class Shifted(Duration):
    """Durations that are never shorter than some time.

    Attributes
    ----------
    least_s : float
    beyond : Duration
        Of what they last longer.
    """

    least_s: float
    beyond: Duration

    def __post_init__(self) -> None:
        if not 0 <= self.least_s < inf:
            raise InputError(f"least duration must not be negative, got {self.least_s!r}")

    @property
    def mean_s(self) -> float:
        return self.least_s + self.beyond.mean_s

    def draw(self, rng: np.random.Generator) -> float:
        return self.least_s + self.beyond.draw(rng)

    def draw_length_biased(self, rng: np.random.Generator) -> float:
        # (a + y) f(y) is a mixture of f(y) and y f(y)
        if rng.random() * self.mean_s < self.least_s:
            return self.draw(rng)
        return self.least_s + self.beyond.draw_length_biased(rng)


def _require_positive(name: str, value: float) -> None:
    if not 0 < value < inf:
        raise InputError(f"{name} must be positive and finite, got {value!r}")
