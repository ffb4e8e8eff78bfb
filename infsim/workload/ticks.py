"""Coarse clocks: many requests share a time, though they did not arrive together."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from infsim.rng import Streams
from infsim.workload.blocks import concatenate, empty, resize, take
from infsim.workload.requests import Requests, Workload

Floats = NDArray[np.float64]

_FEWEST_TICKS = 10
_LEAST_SHARED = 0.05
_LARGEST_JITTER = 0.01


def clock_tick(arrival_s: Floats) -> float | None:
    """Return the tick of a coarse clock in seconds, None if the clock is fine.

    A clock is coarse if most requests share their time with another one, and different times
    are about equally far apart, but for ticks without requests; or if one in twenty shares it, and
    different times are whole numbers of ticks apart. That far is a tick. Requests that come
    together at other times do come together.
    """
    times = np.unique(arrival_s)
    shared = 1 - len(times) / max(1, len(arrival_s))
    if len(times) < _FEWEST_TICKS or shared < _LEAST_SHARED:
        return None
    steps = np.diff(times)
    shortest, shorter, median = np.quantile(steps, (0, 0.1, 0.5))
    if shared >= 0.5 and shorter > 0.75 * median:
        return float(median)
    ticks = steps / shortest
    return float(shortest) if np.abs(ticks - np.rint(ticks)).max() < _LARGEST_JITTER else None


@dataclass(frozen=True)
class SpreadTicks:
    """Requests of a coarse clock, spread uniformly over its ticks; others stay as they are.

    The spread is the same for the same times, whatever the seed. The tick is that of the first
    requests, see `clock_tick`.

    Attributes
    ----------
    workload : Workload
    """

    workload: Workload

    def blocks(self, streams: Streams) -> Iterator[Requests]:
        parts = resize(self.workload.blocks(streams))
        first = next(parts, None)
        if first is None:
            return
        tick_s = clock_tick(first.arrival_s)
        parts = chain([first], parts)
        yield from parts if tick_s is None else _spread(parts, tick_s)


def _spread(parts: Iterator[Requests], tick_s: float) -> Iterator[Requests]:
    generator = np.random.default_rng(0)
    held = empty()
    times = np.zeros(0)
    for part in parts:
        held = concatenate([held, part])
        spread = part.arrival_s + tick_s * generator.random(len(part))
        times = np.sort(np.append(times, spread))
        # nothing that is still unread can be spread to before the last time that was read
        known = int(np.searchsorted(times, part.arrival_s[-1]))
        yield replace(take(held, slice(0, known)), arrival_s=times[:known])
        held, times = take(held, slice(known, None)), times[known:]
    yield replace(held, arrival_s=times)
