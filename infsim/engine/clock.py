"""The clock: SimPy's event queue, used with plain callbacks."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappush
from typing import Any

import simpy

# What comes first at one moment: the end of the run, then failures and returns of nodes, then
# the snapshot of a stale view, then everything else.
LIMIT, FIRST, SNAPSHOT, NORMAL = range(4)


class Call:
    """A SimPy event that only calls a function; a third of the cost of a ``Timeout``."""

    __slots__ = ("argument", "callbacks")
    _ok = True

    def __init__(self, action: Callable[[Call], None], argument: Any) -> None:
        self.callbacks: list[Callable[[Call], None]] | None = [action]
        self.argument = argument


class Clock(simpy.Environment):
    """A SimPy environment with calls at absolute times.

    SimPy schedules by delay, ``now + delay``: the sum rounds, so that a time computed elsewhere
    would be missed by an ulp. `at` puts the exact time into the queue.
    """

    stopped = False
    """Set to end the run before the next event."""
    events = 0
    """Events handled so far."""

    def moment(self) -> bool:
        """Handle all events of the next moment; False if there is none, or the run has ended."""
        queue = self._queue
        if not queue or self.stopped:
            return False
        time = queue[0][0]
        while queue and queue[0][0] == time and not self.stopped:
            self.step()
            self.events += 1
        return not self.stopped

    def at(
        self, time: float, action: Callable[[Call], None], argument: Any, priority: int = NORMAL
    ) -> None:
        """Call ``action(call)`` at ``time``; ``call.argument`` is the argument."""
        queue: list[Any] = self._queue
        heappush(queue, (time, priority, next(self._eid), Call(action, argument)))
