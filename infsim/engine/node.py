"""A node at run time: one iteration at a time, shared by its hosts."""

from __future__ import annotations

from bisect import insort
from math import inf
from typing import TYPE_CHECKING, Protocol

from infsim.engine.clock import Call, Clock
from infsim.engine.memory import KvMemory
from infsim.engine.paths import HopKey
from infsim.engine.sequence import Sequence
from infsim.errors import CostError

if TYPE_CHECKING:
    from infsim.cluster.node import Node, Site
    from infsim.cluster.series import StepSeries
    from infsim.cost.energy import PowerDraw

READY, LOADING, DOWN = range(3)


class Host(Protocol):
    """The queue of work for one hop on its node."""

    key: HopKey

    def begin(self, now: float) -> bool:
        """Begin an iteration (by `RunningNode.run`) if there is something to run."""

    def end(self, now: float) -> None:
        """The iteration is over."""

    def interrupt(self, now: float, /) -> None:
        """Other work has come: end a run of iterations after the current one."""

    def fail(self, now: float, /) -> None:
        """The node failed."""

    def remove(self, sequence: Sequence) -> None:
        """A sequence is lost: take it out of the queues."""

    def settle(self, now: float, /) -> None:
        """Bring the memory in use up to date."""


class Accrued:
    """Integrals of a series of the site: over the time up, and over the energy above idle."""

    __slots__ = ("extra", "series", "up")

    def __init__(self, series: StepSeries) -> None:
        self.series = series
        self.up = self.extra = 0.0

    def over(self, up_s: float, extra_j: float) -> tuple[float, float]:
        """Return both integrals, at the end of a run with this time and energy in all."""
        if self.series.is_constant:  # nothing was added up on the way
            value = self.series.at(0.0)
            return up_s * value, extra_j * value
        return self.up, self.extra


class RunningNode:
    """State, queues and accounts of a node.

    Attributes
    ----------
    active : dict of Sequence to None
        Sequences whose path uses the node, in order of dispatch.
    epoch : int
        Raised by every failure.
    """

    def __init__(
        self, index: int, spec: Node, memory: KvMemory, clock: Clock, site: Site, power: PowerDraw
    ) -> None:
        self.index = index
        self.spec = spec
        self.memory = memory
        self.clock = clock
        self.state = READY
        self.leaving = False
        self.epoch = 0
        self.hosts: list[Host] = []
        self._keys: list[HopKey] = []
        self.active: dict[Sequence, None] = {}
        self.running: Host | None = None
        self.marked = False
        self.tokens = self.iterations = self.failures = 0
        self.busy_s = self.loading_s = self.down_s = 0.0
        self.power = power
        self.extra_j = self._extra_w = 0.0
        self.since_s = 0.0
        self.carbon, self.price = Accrued(site.carbon), Accrued(site.price)
        self._accrued = [a for a in (self.carbon, self.price) if not a.series.is_constant]
        self._turn: HopKey = (-1, -1, -1, -1)
        self._run = 0
        self._started_s = 0.0

    def add(self, host: Host) -> None:
        """Add a host, in the order in which they take turns."""
        at = len(self._keys)
        insort(self._keys, host.key)
        at = self._keys.index(host.key)
        self.hosts.insert(at, host)

    def boundary(self, now: float) -> None:
        """Let the next host with something to run begin."""
        if self.running is not None or self.state != READY:
            return
        hosts = self.hosts
        if len(hosts) == 1:
            if hosts[0].begin(now):
                self._turn = hosts[0].key
            return
        later = [host for host in hosts if host.key > self._turn]
        for host in later + hosts[: len(hosts) - len(later)]:
            if host.begin(now):
                self._turn = host.key
                return

    def run(self, host: Host, now: float, until: float, tokens: int) -> None:
        """Be busy with an iteration of so many tokens, or a run of them.

        Raises
        ------
        CostError
            If the time is none: it would turn back the clock, or stop it.
        """
        if not now <= until < inf:
            raise CostError(self.spec.name, until - now)
        self.running = host
        self._started_s = now
        self._extra_w = self.power.extra_w(tokens)
        self._run += 1
        self.clock.at(until, self._ended, self._run)

    def shorten(self, until: float) -> None:
        """Let the current run end earlier."""
        self._run += 1
        self.clock.at(until, self._ended, self._run)

    def _ended(self, call: Call) -> None:
        if call.argument != self._run:
            return
        now = self.clock.now
        host = self.running
        assert host is not None
        self.running = None
        self._account_busy(now)
        host.end(now)

    def stop(self, now: float) -> None:
        """Break off the iteration: the node failed, or the run is over."""
        if self.running is not None:
            self._run += 1
            self.running = None
            self._account_busy(now)

    def _account_busy(self, now: float) -> None:
        busy_s, extra_w = now - self._started_s, self._extra_w
        self.busy_s += busy_s
        self.extra_j += busy_s * extra_w
        for accrued in self._accrued:
            accrued.extra += accrued.series.integral(self._started_s, now) * extra_w

    def enter(self, state: int, now: float) -> None:
        """Change the state, and account for the time spent in the last one."""
        elapsed = now - self.since_s
        if self.state == LOADING:
            self.loading_s += elapsed
        elif self.state == DOWN:
            self.down_s += elapsed
        if self.state != DOWN:
            for accrued in self._accrued:
                accrued.up += accrued.series.integral(self.since_s, now)
        self.state = state
        self.since_s = now
