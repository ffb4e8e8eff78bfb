"""Messages between endpoints: first in, first out, or sharing max-min fairly."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING

from infsim.cluster.node import Client
from infsim.cluster.node import Node as Machine

if TYPE_CHECKING:
    from infsim.engine.reference.world import World

Action = Callable[[], None]


@dataclass(eq=False)
class Message:
    """Bytes on their way, and what to do when they arrive or are lost."""

    source: int
    target: int
    size: float
    failures: tuple[int, int]
    """Failures of source and target when it was sent."""
    delivered: Action
    lost: Action
    delay_s: float = 0.0
    left: float = 0.0
    rate: float = 0.0


class Transport:
    """Sends messages, and counts their bytes."""

    def __init__(self, world: World) -> None:
        self.world = world
        network, cluster = world.experiment.cluster.network, world.experiment.cluster
        members: list[Machine | Client] = [*cluster.nodes, *cluster.clients]
        self.uplink = [member.uplink_bytes_per_s for member in members]
        self.downlink = [member.downlink_bytes_per_s for member in members]
        self.link = network.bandwidth.tolist()
        self.delay_s: list[list[float]] = network.delay_s.tolist()
        self.messages = 0
        self.bytes_sent = [0.0] * len(members)
        self.bytes_received = [0.0] * len(members)
        self.bytes_lost = 0.0
        self.bytes_in_flight = 0.0
        if world.experiment.settings.sharing == "fifo":
            self._carry: Callable[[Message], None] = Fifo(self).carry
        else:
            self._carry = MaxMin(self).carry

    def send(self, source: int, target: int, size: float, delivered: Action, lost: Action) -> None:
        """Send bytes from one endpoint to another; call back when they arrive or are lost."""
        self.messages += 1
        self.bytes_sent[source] += size
        self.bytes_in_flight += size
        failures = (self._failures(source), self._failures(target))
        network, now = self.world.experiment.cluster.network, self.world.clock.now
        delay_s = network.propagation_s(source, target, now)
        delay_s += network.message_extra_s(source, target, size, now)
        self._carry(Message(source, target, size, failures, delivered, lost, delay_s, left=size))

    def arrived(self, message: Message) -> None:
        """Handle a message at the time of its delivery."""
        self.bytes_in_flight -= message.size
        failures = (self._failures(message.source), self._failures(message.target))
        if failures != message.failures or not self._ready(message.target):
            self.bytes_lost += message.size
            message.lost()
        else:
            self.bytes_received[message.target] += message.size
            message.delivered()

    def _failures(self, endpoint: int) -> int:
        nodes = self.world.nodes
        return nodes[endpoint].failures if endpoint < len(nodes) else 0

    def _ready(self, endpoint: int) -> bool:
        nodes = self.world.nodes
        return endpoint >= len(nodes) or nodes[endpoint].status == "ready"


class Fifo:
    """Uplinks, links and downlinks are queues that pass bytes on while they receive them."""

    def __init__(self, transport: Transport) -> None:
        self.transport = transport
        self.uplink_free: dict[int, float] = defaultdict(float)
        self.link_free: dict[tuple[int, int], float] = defaultdict(float)
        self.downlink_free: dict[int, float] = defaultdict(float)

    def carry(self, message: Message) -> None:
        transport, clock = self.transport, self.transport.world.clock
        x, y, size = message.source, message.target, message.size
        first_s = max(clock.now, self.uplink_free[x])
        self.uplink_free[x] = first_s + size / transport.uplink[x]
        second_s = max(first_s, self.link_free[x, y])
        self.link_free[x, y] = second_s + size / transport.link[x][y]
        clock.at_or_now(second_s + message.delay_s, lambda: self._reach(message))

    def _reach(self, message: Message) -> None:
        """The first byte is there: queue at the downlink."""
        transport, clock = self.transport, self.transport.world.clock
        x, y, size = message.source, message.target, message.size
        third_s = max(clock.now, self.downlink_free[y])
        self.downlink_free[y] = third_s + size / transport.downlink[y]
        slowest = min(transport.uplink[x], transport.link[x][y], transport.downlink[y])
        clock.at_or_now(third_s + size / slowest, lambda: transport.arrived(message))


class MaxMin:
    """All messages share uplinks, links and downlinks max-min fairly."""

    def __init__(self, transport: Transport) -> None:
        self.transport = transport
        self.flows: list[Message] = []
        self.moved_s = 0.0
        self.changes = 0

    def carry(self, message: Message) -> None:
        self._move()
        self.flows.append(message)
        self._share()

    def _move(self) -> None:
        """Move the bytes that have gone through since the last time."""
        now = self.transport.world.clock.now
        for flow in self.flows:
            flow.left -= flow.rate * (now - self.moved_s)
        self.moved_s = now

    def _share(self) -> None:
        """Give every flow its rate anew, and see to the one that is through first."""
        self._fill()
        through = [f for f in self.flows if f.left <= 1e-12 * f.size or f.rate == inf]
        if through:
            self.flows = [flow for flow in self.flows if flow not in through]
            self._share()
            for flow in through:
                self._through(flow)
            return
        self.changes += 1
        if self.flows:
            change = self.changes
            first = min(self.flows, key=lambda flow: flow.left / flow.rate)
            time_s = self.transport.world.clock.now + first.left / first.rate
            self.transport.world.clock.at(time_s, lambda: self._finish(first, change))

    def _finish(self, flow: Message, change: int) -> None:
        if change == self.changes:
            self._move()
            flow.left = 0.0
            self._share()

    def _through(self, flow: Message) -> None:
        transport = self.transport
        arrival_s = transport.world.clock.now + flow.delay_s
        transport.world.clock.at_or_now(arrival_s, lambda: transport.arrived(flow))

    def _fill(self) -> None:
        """Raise all rates alike; where a resource is full, its flows stay as they are."""
        transport = self.transport
        capacity: dict[tuple[int, int, int], float] = {}
        users: dict[tuple[int, int, int], list[Message]] = {}
        for flow in self.flows:
            x, y = flow.source, flow.target
            for resource, rate in (
                ((0, x, x), transport.uplink[x]),
                ((1, x, y), transport.link[x][y]),
                ((2, y, y), transport.downlink[y]),
            ):
                if rate < inf:
                    capacity[resource] = rate
                    users.setdefault(resource, []).append(flow)
        for flow in self.flows:
            flow.rate = inf
        while users:
            level, full = min((capacity[r] / len(users[r]), r) for r in users)
            for flow in users[full]:
                flow.rate = level
                for resource, others in users.items():
                    if resource != full and flow in others:
                        capacity[resource] -= level
                        others.remove(flow)
            del users[full]
            users = {resource: flows for resource, flows in users.items() if flows}
