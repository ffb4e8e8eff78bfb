"""A run from the first arrival to the last record."""

from __future__ import annotations

from collections.abc import Iterator
from math import inf

from infsim.engine.experiment import Experiment
from infsim.engine.reference.clock import Turn
from infsim.engine.reference.parts import Request
from infsim.engine.reference.world import World
from infsim.policy.interface import Request as RequestView
from infsim.results.recorder import RunRecord


def simulate_reference(experiment: Experiment) -> RunRecord:
    """Run an experiment, slowly, by the rules of ``docs/explanation/engine.md``.

    Parameters
    ----------
    experiment : Experiment
        Its policies may remember things: build it anew for every run.

    Returns
    -------
    RunRecord
        As the fast engine gives it, but with one segment for each iteration.

    Raises
    ------
    PolicyError
        If a policy raises, or answers what makes no sense.
    InputError
        If the weights of a plan do not fit, or prefix blocks are no multiple of KV blocks.
    ConservationError
        If the audit at the end fails.
    """
    run = Run(experiment)
    interrupted = False
    try:
        while not run.over:
            run.world.clock.step()
    except KeyboardInterrupt:
        interrupted = True
    end_s = run.end_s
    run.world.books.close(end_s)
    return run.world.recorder.finish(end_s, interrupted)


class Run:
    """Feeds the requests into a world, and knows when the run is over."""

    def __init__(self, experiment: Experiment) -> None:
        self.world = World(experiment)
        self.horizon_s = experiment.settings.horizon_s
        self.arrivals = self._requests()
        self.all_arrived = False
        self.limit_reached = False
        if self.horizon_s is not None:
            self._end_at(self.horizon_s)
        self._next(last_s=0.0)

    @property
    def over(self) -> bool:
        return self.limit_reached or (self.all_arrived and self._all_ended)

    @property
    def _all_ended(self) -> bool:
        return self.world.books.rows == len(self.world.requests)

    @property
    def end_s(self) -> float:
        """When the run ends: the limit if requests are left, else when the last one ended."""
        if self.limit_reached or not self._all_ended:
            return self.world.clock.now
        return max((request.end_s for request in self.world.requests), default=0.0)

    def _end_at(self, time_s: float) -> None:
        def end() -> None:
            self.limit_reached = True

        self.world.clock.at(time_s, end, Turn.END)

    def _next(self, last_s: float) -> None:
        """Wait for the next arrival; after the last one, for what is left at the most."""
        request = next(self.arrivals, None)
        horizon_s = inf if self.horizon_s is None else self.horizon_s
        if request is None or request.view.arrival_s >= horizon_s:
            self.all_arrived = True
            self._end_at(last_s + self.world.experiment.settings.drain_s)
            return

        def arrive() -> None:
            self.world.requests.append(request)
            self._next(request.view.arrival_s)
            self.world.dispatch.decide(request)

        self.world.clock.at(request.view.arrival_s, arrive)

    def _requests(self) -> Iterator[Request]:
        """All requests of the workload, by id."""
        experiment = self.world.experiment
        number = 0
        for block in experiment.workload.blocks(experiment.streams):
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
                yield Request(view, int(block.output_tokens[row]), self._home(view.client))
                number += 1

    def _home(self, client: int) -> int:
        """Where requests of a client are at first: its node, or the client itself."""
        cluster = self.world.experiment.cluster
        node = cluster.clients[client].node
        if node is None:
            return cluster.endpoint_of_client(client)
        return cluster.node_index(node)
