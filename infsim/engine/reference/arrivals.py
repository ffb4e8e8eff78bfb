"""Where requests come from: a workload that is known beforehand, or users who wait for answers."""

from __future__ import annotations

from collections.abc import Iterator
from math import inf
from typing import TYPE_CHECKING

from infsim.engine.reference.clock import Turn
from infsim.engine.reference.parts import Request
from infsim.policy.interface import Request as RequestView
from infsim.workload.closed_loop import ClosedLoop
from infsim.workload.requests import Workload

if TYPE_CHECKING:
    from infsim.engine.reference.world import World


class Arrivals:
    """What both kinds have in common."""

    def __init__(self, world: World) -> None:
        self.world = world
        horizon_s = world.experiment.settings.horizon_s
        self.horizon_s = inf if horizon_s is None else horizon_s
        self.arrived = 0
        self.limit_reached = False

    @property
    def over(self) -> bool:
        """No request will come any more, unless one that is in the system ends."""
        raise NotImplementedError

    def ended(self, request: Request, answered: bool) -> None:
        """A request has ended."""

    def home(self, client: int) -> int:
        """Where requests of a client are at first: its node, or the client itself."""
        cluster = self.world.experiment.cluster
        node = cluster.clients[client].node
        if node is None:
            return cluster.endpoint_of_client(client)
        return cluster.node_index(node)

    def end_after_drain(self, last_s: float) -> None:
        """End the run some time after an arrival, if it was the last one."""
        arrived = self.arrived

        def end() -> None:
            if self.arrived == arrived and self.over:
                self.limit_reached = True

        self.world.clock.at(last_s + self.world.experiment.settings.drain_s, end, Turn.END)


class OpenArrivals(Arrivals):
    """Requests that arrive at given times."""

    def __init__(self, world: World, workload: Workload) -> None:
        super().__init__(world)
        self.requests = self._requests(workload)
        self.all_arrived = False
        self._next(last_s=0.0)

    @property
    def over(self) -> bool:
        return self.all_arrived

    def _next(self, last_s: float) -> None:
        request = next(self.requests, None)
        if request is None or request.view.arrival_s >= self.horizon_s:
            self.all_arrived = True
            self.end_after_drain(last_s)
            return

        def arrive() -> None:
            self.arrived += 1
            self.world.requests.append(request)
            self._next(request.view.arrival_s)
            self.world.dispatch.decide(request)

        self.world.clock.at(request.view.arrival_s, arrive)

    def _requests(self, workload: Workload) -> Iterator[Request]:
        """All requests of the workload, by id."""
        number = 0
        for block in workload.blocks(self.world.experiment.streams):
            for row in range(len(block)):
                hashes: tuple[int, ...] = ()
                if block.prefix_offsets is not None and block.prefix_hashes is not None:
                    start, end = block.prefix_offsets[row : row + 2]
                    hashes = tuple(block.prefix_hashes[start:end].tolist())
                view = RequestView(
                    request_id=number,
                    arrival_s=float(block.arrival_s[row]),
                    input_tokens=int(block.input_tokens[row]),
                    client=int(block.client[row]),
                    session_id=int(block.session_id[row]),
                    sample_id=int(block.sample_id[row]),
                    prefix_hashes=hashes,
                    prefix_block_tokens=block.prefix_block_tokens,
                )
                yield Request(view, int(block.output_tokens[row]), self.home(view.client))
                number += 1


class ClosedArrivals(Arrivals):
    """Users who ask, wait for the end of their request, think, and ask again."""

    def __init__(self, world: World, loop: ClosedLoop) -> None:
        super().__init__(world)
        self.loop = loop
        self.users = loop.begin(world.experiment.streams)
        self.answered: dict[int, bool] = {}
        self.user_of: dict[int, int] = {}
        self.thinking = 0
        for number, user in enumerate(self.users):
            self._think(number, user.start_s)

    @property
    def full(self) -> bool:
        return self.loop.requests is not None and self.arrived >= self.loop.requests

    @property
    def over(self) -> bool:
        return self.full or self.thinking == 0

    def ended(self, request: Request, answered: bool) -> None:
        number = self.user_of[request.id]
        self.answered[number] = answered
        self._think(number, request.end_s)

    def _think(self, number: int, since_s: float) -> None:
        if self.full:
            return
        time_s = since_s + self.users[number].think_s()
        duration_s = inf if self.loop.duration_s is None else self.loop.duration_s
        if time_s >= min(duration_s, self.horizon_s):
            return
        self.thinking += 1

        def arrive() -> None:
            self.thinking -= 1
            if not self.full:
                self._ask(number, time_s)

        self.world.clock.at(time_s, arrive)

    def _ask(self, number: int, time_s: float) -> None:
        turn = self.users[number].ask(self.answered.get(number, False))
        size = 512 if self.loop.dialogue is None else self.loop.dialogue.prefix_block_tokens
        view = RequestView(
            request_id=self.arrived,
            arrival_s=time_s,
            input_tokens=turn.input_tokens,
            client=turn.client,
            session_id=turn.session_id,
            sample_id=turn.sample_id,
            prefix_hashes=turn.prefix_hashes,
            prefix_block_tokens=size,
        )
        self.user_of[self.arrived] = number
        self.arrived += 1
        request = Request(view, turn.output_tokens, self.home(view.client))
        self.world.requests.append(request)
        self.end_after_drain(time_s)
        self.world.dispatch.decide(request)
