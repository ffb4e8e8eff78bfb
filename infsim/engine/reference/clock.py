"""When things happen: SimPy's queue of events, with an order among those of one moment."""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum

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
        self.environment.schedule(event, EventPriority(turn), max(0.0, time_s - self.now))

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
