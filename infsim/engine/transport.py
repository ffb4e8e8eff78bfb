"""Messages between nodes and clients: propagation, serialization, contention, loss."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from infsim.cluster.cluster import Cluster
from infsim.cluster.node import Client, Node
from infsim.engine.clock import Call, Clock

Deliver = Callable[[Any, bool], None]
"""Called at delivery with the message's content and whether it arrived."""


class Message:
    """Bytes on their way from one endpoint to another."""

    __slots__ = (
        "action",
        "content",
        "delay",
        "generations",
        "rate",
        "receiver",
        "remaining",
        "sender",
        "size",
    )

    def __init__(
        self, sender: int, receiver: int, size: float, action: Deliver, content: Any
    ) -> None:
        self.sender = sender
        self.receiver = receiver
        self.size = size
        self.action = action
        self.content = content
        self.delay = 0.0
        self.rate = 0.0
        self.remaining = size
        self.generations = (0, 0)


class Transport:
    """Delivers messages; subclasses say how they share uplinks, links and downlinks.

    Endpoints are the nodes of the cluster followed by its clients. A node's generation is
    raised whenever it fails, so that a message knows whether an end failed under way.
    """

    def __init__(self, clock: Clock, cluster: Cluster) -> None:
        self.clock = clock
        ends: list[Node | Client] = [*cluster.nodes, *cluster.clients]
        self.nodes = len(cluster.nodes)
        self.uplink = [float(end.uplink_bytes_per_s) for end in ends]
        self.downlink = [float(end.downlink_bytes_per_s) for end in ends]
        self.delay: list[list[float]] = np.asarray(cluster.network.delay_s, float).tolist()
        self.bandwidth: list[list[float]] = np.asarray(cluster.network.bandwidth, float).tolist()
        self._network = cluster.network
        self._varies = cluster.network.variation is not None
        self._has_extra = cluster.network.tcp is not None
        self.generation = [0] * len(ends)
        self.ready = [True] * len(ends)
        self.sent = [0.0] * len(ends)
        self.received = [0.0] * len(ends)
        self.messages = 0
        self.lost = 0.0
        self.in_flight = 0.0

    def propagation_s(self, sender: int, receiver: int) -> float:
        """One-way delay of what is sent now; ``delay`` holds what it is on average."""
        if self._varies:
            return self._network.propagation_s(sender, receiver, self.clock.now)
        return self.delay[sender][receiver]

    def send(self, sender: int, receiver: int, size: float, action: Deliver, content: Any) -> None:
        """Send ``size`` bytes; ``action(content, arrived)`` is called at delivery.

        A message within one endpoint is no message: it is there at once, and not counted.
        """
        if sender == receiver:
            action(content, True)
            return
        message = Message(sender, receiver, size, action, content)
        message.generations = (self.generation[sender], self.generation[receiver])
        message.delay = self.propagation_s(sender, receiver)
        if self._has_extra:
            message.delay += self._network.message_extra_s(sender, receiver, size, self.clock.now)
        self.messages += 1
        self.sent[sender] += size
        self.in_flight += size
        self._begin(message)

    def _begin(self, message: Message) -> None:
        raise NotImplementedError

    def _deliver_at(self, time: float, message: Message) -> None:
        if time <= self.clock.now:
            self._deliver(message)
        else:
            self.clock.at(time, self._delivered, message)

    def _delivered(self, call: Call) -> None:
        self._deliver(call.argument)

    def _deliver(self, message: Message) -> None:
        sender, receiver = message.sender, message.receiver
        arrived = self.ready[receiver] and message.generations == (
            self.generation[sender],
            self.generation[receiver],
        )
        self.in_flight -= message.size
        if arrived:
            self.received[receiver] += message.size
        else:
            self.lost += message.size
        message.action(message.content, arrived)


class FifoTransport(Transport):
    """Uplinks, links and downlinks are queues that pass bytes on while they receive them."""

    def __init__(self, clock: Clock, cluster: Cluster) -> None:
        super().__init__(clock, cluster)
        self._up_free = [0.0] * len(self.uplink)
        self._down_free = [0.0] * len(self.uplink)
        self._link_free: dict[tuple[int, int], float] = {}

    def _begin(self, message: Message) -> None:
        sender, receiver, size = message.sender, message.receiver, message.size
        up, link = self.uplink[sender], self.bandwidth[sender][receiver]
        down = self.downlink[receiver]
        start = self.clock.now
        if up != np.inf:
            start = max(start, self._up_free[sender])
            self._up_free[sender] = start + size / up
        if link != np.inf:
            pair = (sender, receiver)
            start = max(start, self._link_free.get(pair, 0.0))
            self._link_free[pair] = start + size / link
        message.rate = min(up, link, down)
        first_byte = start + message.delay
        if down == np.inf:
            self._deliver_at(first_byte + size / message.rate, message)
        elif first_byte <= self.clock.now:
            self._receive(message, first_byte)
        else:
            self.clock.at(first_byte, self._reached, message)

    def _reached(self, call: Call) -> None:
        self._receive(call.argument, self.clock.now)

    def _receive(self, message: Message, first_byte: float) -> None:
        receiver = message.receiver
        start = max(first_byte, self._down_free[receiver])
        self._down_free[receiver] = start + message.size / self.downlink[receiver]
        self._deliver_at(start + message.size / message.rate, message)


class MaxMinTransport(Transport):
    """All messages in progress share uplinks, links and downlinks max-min fairly."""

    def __init__(self, clock: Clock, cluster: Cluster) -> None:
        super().__init__(clock, cluster)
        self._flows: list[Message] = []
        self._updated_s = 0.0
        self._turn = 0

    def _begin(self, message: Message) -> None:
        rate = min(
            self.uplink[message.sender],
            self.bandwidth[message.sender][message.receiver],
            self.downlink[message.receiver],
        )
        if rate == np.inf or message.size <= 0.0:
            self._deliver_at(self.clock.now + message.delay, message)
            return
        self._advance()
        self._flows.append(message)
        self._share()

    def _advance(self) -> None:
        elapsed = self.clock.now - self._updated_s
        self._updated_s = self.clock.now
        if elapsed > 0.0:
            for flow in self._flows:
                flow.remaining -= flow.rate * elapsed

    def _share(self) -> None:
        """Set the rates by progressive filling and await the next message to get through."""
        self._turn += 1
        if not self._flows:
            return
        capacity: dict[tuple[int, ...], float] = {}
        users: dict[tuple[int, ...], list[Message]] = {}
        for flow in self._flows:
            for resource, rate in self._resources(flow):
                capacity[resource] = rate
                users.setdefault(resource, []).append(flow)
        unfixed = set(self._flows)
        while unfixed:
            fair, tightest = min(
                (capacity[resource] / len(flows), resource) for resource, flows in users.items()
            )
            for flow in users.pop(tightest):
                flow.rate = fair
                unfixed.discard(flow)
                for resource, _ in self._resources(flow):
                    if resource in users:
                        users[resource].remove(flow)
                        capacity[resource] -= fair
                        if not users[resource]:
                            del users[resource]
        finish = min(flow.remaining / flow.rate for flow in self._flows)
        self.clock.at(self.clock.now + max(finish, 0.0), self._through, self._turn)

    def _resources(self, flow: Message) -> list[tuple[tuple[int, ...], float]]:
        sender, receiver = flow.sender, flow.receiver
        resources: list[tuple[tuple[int, ...], float]] = [
            ((0, sender), self.uplink[sender]),
            ((1, receiver), self.downlink[receiver]),
            ((2, sender, receiver), self.bandwidth[sender][receiver]),
        ]
        return [(resource, rate) for resource, rate in resources if rate != np.inf]

    def _through(self, call: Call) -> None:
        if call.argument != self._turn:
            return
        self._advance()
        # What is left of the messages that are through is a matter of rounding.
        due = min(self._flows, key=lambda flow: flow.remaining / flow.rate)
        done = [f for f in self._flows if f is due or f.remaining <= 1e-12 * f.size]
        self._flows = [flow for flow in self._flows if flow not in done]
        self._share()
        for flow in done:
            self._deliver_at(self.clock.now + flow.delay, flow)
