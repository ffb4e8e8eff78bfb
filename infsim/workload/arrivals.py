"""When requests arrive: endless processes with a rate."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from infsim.errors import InputError
from infsim.rng import Streams


class Arrivals(Protocol):
    """A process of arrival times."""

    def times(self, streams: Streams, block: int) -> Iterator[NDArray[np.float64]]:
        """Yield increasing times in seconds, about `block` at a time, without end or until one.

        The times do not depend on `block`.
        """
        ...


@dataclass(frozen=True)
class _Renewal(ABC):
    """Independent gaps of one distribution.

    Attributes
    ----------
    rate_per_s : float
        Mean number of arrivals per second.
    """

    rate_per_s: float

    def __post_init__(self) -> None:
        if not 0 < self.rate_per_s < math.inf:
            raise InputError(f"a rate of {self.rate_per_s} /s, must be above 0", key="rate_per_s")

    @abstractmethod
    def gaps(self, generator: np.random.Generator, n: int) -> NDArray[np.float64]:
        """Draw n gaps, in seconds."""

    def times(self, streams: Streams, block: int) -> Iterator[NDArray[np.float64]]:
        generator = streams.stream("workload", "arrivals")
        last_s = 0.0
        while True:
            gaps = self.gaps(generator, block)
            # added before the cumulative sum, so that rounding does not depend on the block
            gaps[0] += last_s
            times = np.cumsum(gaps)
            last_s = times[-1]
            yield times


@dataclass(frozen=True)
class Poisson(_Renewal):
    """Arrivals that do not know of each other: exponential gaps."""

    def gaps(self, generator: np.random.Generator, n: int) -> NDArray[np.float64]:
        return generator.exponential(1 / self.rate_per_s, n)


@dataclass(frozen=True)
class Gamma(_Renewal):
    """Gamma-distributed gaps: burstier than Poisson for a CV above 1, more regular below.

    Attributes
    ----------
    cv : float
        Coefficient of variation of the gaps.
    """

    cv: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.cv < math.inf:
            raise InputError(f"a CV of {self.cv}, must be above 0", key="cv")

    def gaps(self, generator: np.random.Generator, n: int) -> NDArray[np.float64]:
        shape = self.cv**-2
        return generator.gamma(shape, 1 / (shape * self.rate_per_s), n)


@dataclass(frozen=True)
class Deterministic(_Renewal):
    """Equal gaps; the first request arrives at 0 s."""

    def gaps(self, generator: np.random.Generator, n: int) -> NDArray[np.float64]:
        del generator
        return np.full(n, 1 / self.rate_per_s)

    def times(self, streams: Streams, block: int) -> Iterator[NDArray[np.float64]]:
        del streams
        start = 0
        while True:
            # multiples of the gap, not a sum of gaps: no rounding error adds up
            yield np.arange(start, start + block) / self.rate_per_s
            start += block
