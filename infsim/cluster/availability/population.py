"""Nodes that differ: each draws its own mean times from a population, and follows a rhythm."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from math import exp, inf
from typing import NamedTuple

import numpy as np

from infsim.cluster.availability.durations import Duration, Shifted, Weibull
from infsim.cluster.availability.interface import Outage, Process
from infsim.errors import InputError
from infsim.rng import Streams


class NodeClass(NamedTuple):
    """A kind of node.

    Attributes
    ----------
    weight : float
        Share of the nodes that are of this kind, relative to the others.
    up_mean_s, down_mean_s : float
        Mean time between failures, and mean time to return.
    """

    weight: float
    up_mean_s: float
    down_mean_s: float

    @property
    def fraction(self) -> float:
        """Share of time that such a node is up."""
        return self.up_mean_s / (self.up_mean_s + self.down_mean_s)


class Clock:
    """A clock that runs at another rate in each window of time, and begins again after the last.

    Parameters
    ----------
    window_s : float
    rates : sequence of float
        How fast it runs in each window, positive.
    """

    def __init__(self, window_s: float, rates: Sequence[float]) -> None:
        self._window_s = window_s
        self._rates = tuple(rates)
        self._shown = (0.0, *accumulate(rate * window_s for rate in rates))
        self._period_s = window_s * len(self._rates)

    def shows(self, time_s: float) -> float:
        """Return what the clock shows at a time."""
        periods, rest_s = divmod(time_s, self._period_s)
        window = min(int(rest_s / self._window_s), len(self._rates) - 1)
        within = (rest_s - window * self._window_s) * self._rates[window]
        return periods * self._shown[-1] + self._shown[window] + within

    def after(self, time_s: float, amount: float) -> float:
        """Return when the clock shows ``amount`` more than at a time."""
        periods, rest = divmod(self.shows(time_s) + amount, self._shown[-1])
        window = min(bisect_right(self._shown, rest) - 1, len(self._rates) - 1)
        within_s = (rest - self._shown[window]) / self._rates[window]
        return max(periods * self._period_s + window * self._window_s + within_s, time_s)


@dataclass(frozen=True)
class Rhythm:
    """How readily all nodes return and leave, by day and night, on week days and holidays.

    The hazard of each node is multiplied by these factors (proportional hazards): its durations
    are drawn on a clock that runs faster when many come, or go.

    Attributes
    ----------
    window_s : float
        Length of a window.
    join, leave : tuple of float
        Factor on the rates of returning and of leaving in each window; after the last window the
        first one follows.
    start_s : float or None
        Moment of the rhythm at which a run begins; None draws one in each replication, the same
        for all nodes.
    name : str
        Those whose rhythms have the same name begin at the same drawn moment.

    Raises
    ------
    InputError
        If there are no windows, or factors that are not positive and finite.
    """

    window_s: float
    join: tuple[float, ...]
    leave: tuple[float, ...]
    start_s: float | None = None
    name: str = "rhythm"

    def __post_init__(self) -> None:
        if not 0 < self.window_s < inf:
            raise InputError(f"window of a rhythm must be positive, got {self.window_s!r} s")
        if not self.join or len(self.join) != len(self.leave):
            raise InputError(
                f"a rhythm needs as many factors to join ({len(self.join)}) as to leave"
                f" ({len(self.leave)})"
            )
        for factor in (*self.join, *self.leave):
            if not 0 < factor < inf:
                raise InputError(f"factors of a rhythm must be positive, got {factor!r}")

    @cached_property
    def join_clock(self) -> Clock:
        """The clock on which nodes are down."""
        return Clock(self.window_s, self.join)

    @cached_property
    def leave_clock(self) -> Clock:
        """The clock on which nodes are up."""
        return Clock(self.window_s, self.leave)

    def begin_s(self, streams: Streams) -> float:
        """Return the moment of the rhythm at which a run begins."""
        if self.start_s is not None:
            return self.start_s
        return float(streams.stream("churn", "rhythm", self.name).random()) * (
            self.window_s * len(self.join)
        )


STEADY = Rhythm(1.0, (1.0,), (1.0,), start_s=0.0)


@dataclass(frozen=True)
class Population(Process):
    """Each node draws its kind, and then up and down times of that kind in turn.

    Attributes
    ----------
    classes : tuple of NodeClass
    up_shape, down_shape : float
        Shape of the Weibull distribution of the times of one node around its own mean; 1 is
        exponential. Heavy tails of all nodes together come from their differences.
    rhythm : Rhythm
    least_s : float
        No time is shorter; for classes whose mean is not twice that, than half of their mean.
    seen_within_s : float
        A trace lists only nodes that were up while it was taken. With the length of such a trace,
        nodes are drawn likewise: each is up at some time before this.

    Raises
    ------
    InputError
        If there are no classes, or weights, times or shapes that are impossible.
    """

    classes: tuple[NodeClass, ...]
    up_shape: float = 1.0
    down_shape: float = 1.0
    rhythm: Rhythm = STEADY
    least_s: float = 0.0
    seen_within_s: float = inf

    def __post_init__(self) -> None:
        if not self.classes:
            raise InputError("a population needs at least one class of nodes")
        for i, (weight, up_s, down_s) in enumerate(self.classes):
            if not 0 < weight < inf:
                raise InputError(f"class {i}: its weight must be positive, got {weight!r}")
            self.duration(up_s, self.up_shape)
            self.duration(down_s, self.down_shape)
            if not self.seen_share(i) > 1e-3:
                raise InputError(
                    f"class {i}: hardly any node that is down for {down_s:g} s is seen within"
                    f" {self.seen_within_s:g} s"
                )

    def duration(self, mean_s: float, shape: float) -> Duration:
        """Return the distribution of the times of a node of some mean."""
        if self.least_s == 0:
            return Weibull.from_mean(mean_s, shape)
        least_s = min(self.least_s, mean_s / 2)
        return Shifted(least_s, Weibull.from_mean(mean_s - least_s, shape))

    def seen_share(self, kind: int) -> float:
        """Return the share of nodes of a class that are up before ``seen_within_s``."""
        own = self.classes[kind]
        if self.seen_within_s == inf:
            return 1.0
        return 1 - (1 - own.fraction) * exp(-self.seen_within_s / own.down_mean_s)

    @cached_property
    def _cumulative(self) -> tuple[float, ...]:
        return tuple(accumulate(item.weight for item in self.classes))

    def pick(self, rng: np.random.Generator) -> int:
        """Draw the class of a node."""
        drawn = bisect_right(self._cumulative, rng.random() * self._cumulative[-1])
        return min(drawn, len(self.classes) - 1)

    def outages(self, streams: Streams, node: str) -> Iterator[Outage]:
        rng = streams.stream("churn", node)
        return self.alternate(self.pick(rng), rng, self.rhythm.begin_s(streams))

    def draw(self, rng: np.random.Generator) -> Iterator[Outage]:
        return self.alternate(self.pick(rng), rng, self.rhythm.start_s or 0.0)

    def alternate(
        self, kind: int, rng: np.random.Generator, begin_s: float = 0.0
    ) -> Iterator[Outage]:
        """Yield the outages of a node of some class whose time 0 is a random moment of its life.

        Parameters
        ----------
        kind : int
            Index of the class.
        rng : Generator
        begin_s : float
            Moment of the rhythm at time 0.
        """
        own = self.classes[kind]
        up = self.duration(own.up_mean_s, self.up_shape)
        down = self.duration(own.down_mean_s, self.down_shape)
        leave, join = self.rhythm.leave_clock, self.rhythm.join_clock
        back = begin_s
        while rng.random() >= own.fraction:
            back = join.after(begin_s, down.draw_residual(rng))
            if back < begin_s + self.seen_within_s:
                break
            back = begin_s
        if back > begin_s:
            yield Outage(0.0, back - begin_s)
            now = leave.after(back, up.draw(rng))
        else:
            now = leave.after(begin_s, up.draw_residual(rng))
        while now < inf:
            back = join.after(now, down.draw(rng))
            if back > now:  # equal only for times too short for a float
                yield Outage(now - begin_s, back - begin_s)
            now = leave.after(back, up.draw(rng))

    @property
    def expected_fraction(self) -> float:
        """Mean over the nodes, until ``seen_within_s``; the rhythm is taken as even."""
        total = sum(item.weight for item in self.classes)
        shares = [item.fraction / self.seen_share(i) for i, item in enumerate(self.classes)]
        return sum(w * share for (w, _, _), share in zip(self.classes, shares, strict=True)) / total
