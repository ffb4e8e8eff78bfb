"""When things happen: SimPy's queue of events, with an order among those of one moment."""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from heapq import heappush

import simpy
from simpy.events import EventPriority


class Turn(IntEnum):
    """Order of what happens at one moment."""

    END = 0
    FAILURE = 1
    SNAPSHOT = 2
    NORMAL = 3
    BOUNDARY = 4


class Clock:
    """Calls functions at given times."""

    def __init__(self) -> None:
        self.environment = simpy.Environment()
        self.events = 0

    @property
    def now(self) -> float:
        return float(self.environment.now)

    def at(self, time_s: float, action: Callable[[], None], turn: Turn = Turn.NORMAL) -> None:
        """Call ``action()`` at a time."""
        event = simpy.Event(self.environment)
        event._ok, event._value = True, None
        event.callbacks.append(lambda _: action())
        # SimPy schedules by delay, and now + (time - now) may miss the time by a rounding error
        environment = self.environment
        entry = (max(time_s, self.now), EventPriority(turn), next(environment._eid), event)
        heappush(environment._queue, entry)

    def at_or_now(self, time_s: float, action: Callable[[], None]) -> None:
        """Call ``action()`` at a time; at once if that is now."""
        if time_s <= self.now:
            action()
        else:
            self.at(time_s, action)

    def step(self) -> None:
        """Go on to the next event."""
        self.environment.step()
        self.events += 1
