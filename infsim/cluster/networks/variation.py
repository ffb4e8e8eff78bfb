"""How delays change over minutes and hours."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from math import cos, exp, inf, pi, sqrt

import numpy as np

from infsim.errors import InputError
from infsim.rng import Streams

DAY_S = 86_400.0


@dataclass(frozen=True, slots=True)
class VariationModel:
    """Slow variation of delays, fitted to the changes between frames of PlanetLab.

    A pair's delay is multiplied by a lognormal factor with mean 1, which holds for a step of time
    and is correlated with the one before. Its logarithm is the sum of three autoregressive
    processes of order 1: one of each end (a bad access line is bad for everybody) and one of the
    pair. Their standard deviations, the spreads, differ a lot: most pairs hardly move, a few
    double. Spreads are lognormal themselves; that of a pair depends in part on its ends.

    Attributes
    ----------
    end_spread, pair_spread : float
        Medians of the spreads over ends and over pairs.
    end_sigma, pair_sigma : float
        Standard deviations of the logarithms of these spreads.
    end_share : float
        Share of the variance of a pair's logarithm of its spread that its ends explain.
    most_spread : float
        Largest spread.
    step_s : float
        How long a factor holds.
    correlation_s : float
        Time after which the correlation of the logarithms has fallen to 1/e.
    daily_swing : float
        Relative amplitude of a daily cosine, 0 to below 1.
    peak_s : float
        Time of the day at which it is highest, from second 0 of the run.

    Notes
    -----
    Fitted to the changes between frames 1, 9 and 18 of the 490 hosts of NetLatency-Data (Zhu et
    al., "Network latency estimation for personal devices", IEEE/ACM ToN 2017): .26 % in the
    median, 8.7 % at the 90th percentile, a factor of 1.9 at the 99th, and 31 to 51 % of the
    variance is that of ends. The frames are too far apart to see the correlation, so its time is
    an assumption; nor do they tell of a daily swing.
    """

    end_spread: float = 0.0002
    end_sigma: float = 2.7
    pair_spread: float = 0.003
    pair_sigma: float = 2.5
    end_share: float = 0.5
    most_spread: float = 0.4
    step_s: float = 60.0
    correlation_s: float = 1800.0
    daily_swing: float = 0.0
    peak_s: float = 0.0

    def __post_init__(self) -> None:
        for name in ("step_s", "correlation_s"):
            if not 0 < getattr(self, name) < inf:
                raise InputError(f"variation: {name} must be positive, got {getattr(self, name)!r}")
        for name in ("end_spread", "end_sigma", "pair_spread", "pair_sigma", "most_spread"):
            if not 0 <= getattr(self, name) < inf:
                value = getattr(self, name)
                raise InputError(f"variation: {name} must not be negative, got {value!r}")
        if not 0 <= self.end_share <= 1:
            raise InputError(f"variation: end_share must be in [0, 1], got {self.end_share!r}")
        if not 0 <= self.daily_swing < 1:
            raise InputError(f"variation: daily_swing must be in [0, 1), got {self.daily_swing!r}")


class _Process:
    """A stationary autoregressive process of order 1 with variance 1, as far as it is known."""

    __slots__ = ("_generator", "_keep", "_values", "level", "spread")

    BLOCK = 64

    def __init__(
        self, level: float, spread: float, keep: float, generator: np.random.Generator
    ) -> None:
        self.level = level
        self.spread = spread
        self._keep = keep
        self._generator = generator
        self._values = array("d", [float(generator.standard_normal())])

    def reach(self, step: int) -> array[float]:
        """Return the values up to a step, and a few more."""
        values, keep = self._values, self._keep
        new = sqrt(1 - keep * keep)
        while len(values) <= step:
            last = values[-1]
            for draw in self._generator.standard_normal(self.BLOCK).tolist():
                last = keep * last + new * draw
                values.append(last)
        return values


class SlowVariation:
    """Factors of delays by pair and time, drawn when they are first asked for.

    Parameters
    ----------
    model : VariationModel
    names : sequence of str
        Names of the endpoints; each end and each pair has random streams of its own.
    streams : Streams
        Factors do not depend on who asks for what, or when.
    """

    def __init__(self, model: VariationModel, names: Sequence[str], streams: Streams) -> None:
        self.model = model
        self._names = tuple(names)
        self._streams = streams
        self._count = len(self._names)
        self._per_s = 1 / model.step_s
        self._factors: dict[int, array[float]] = {}
        self._processes: dict[tuple[str, ...], _Process] = {}

    def factor(self, x: int, y: int, time_s: float) -> float:
        """Return what the delay between two endpoints is multiplied by; symmetric."""
        try:
            return self._factors[x * self._count + y][int(time_s * self._per_s)]
        except (KeyError, IndexError):
            return self._drawn(x, y, int(time_s * self._per_s))

    def _drawn(self, x: int, y: int, step: int) -> float:
        """Draw the factors of a pair up to a step."""
        factors = self._factors.setdefault(x * self._count + y, array("d"))
        self._factors[y * self._count + x] = factors
        ends = sorted((self._names[x], self._names[y]))
        first, second, pair = (self._process(*names) for names in ((ends[0],), (ends[1],), ends))
        a, b, c = first.spread, second.spread, pair.spread
        # the mean of a lognormal variable is exp(variance / 2) times its median
        middle = (a * a + b * b + c * c) / 2
        moves = zip(first.reach(step), second.reach(step), pair.reach(step), strict=False)
        for k, (u, v, w) in enumerate(islice(moves, len(factors), None), len(factors)):
            factors.append(exp(a * u + b * v + c * w - middle) * self._swing(k))
        return factors[step]

    def _swing(self, step: int) -> float:
        model = self.model
        if not model.daily_swing:
            return 1.0
        middle_s = (step + 0.5) * model.step_s
        return 1 + model.daily_swing * cos(2 * pi * (middle_s - model.peak_s) / DAY_S)

    def _process(self, *names: str) -> _Process:
        """Return the process of an end, or of a pair (both ends in order)."""
        process = self._processes.get(names)
        if process is None:
            model = self.model
            generator = self._streams.stream("network", "variation", *names)
            level = float(generator.standard_normal())
            median, sigma = model.end_spread, model.end_sigma
            if len(names) == 2:
                ends = sum(self._process(name).level for name in names)
                level = sqrt(model.end_share / 2) * ends + sqrt(1 - model.end_share) * level
                median, sigma = model.pair_spread, model.pair_sigma
            spread = min(median * exp(sigma * level), model.most_spread)
            keep = exp(-model.step_s / model.correlation_s)
            process = self._processes[names] = _Process(level, spread, keep, generator)
        return process
