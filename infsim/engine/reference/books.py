"""The books of a run: rows of the record, and the audit at the end."""

from __future__ import annotations

from math import isclose, nan
from typing import TYPE_CHECKING

from infsim.engine.reference.answers import judged
from infsim.engine.reference.parts import Node, Request
from infsim.errors import ConservationError
from infsim.results.recorder import Status

if TYPE_CHECKING:
    from infsim.engine.reference.world import World


class Books:
    """Writes down what became of requests and nodes, and checks that nothing is missing."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.rows = 0
        self.tokens = 0

    def request(self, request: Request, status: str, error: str = "") -> None:
        """Take down a request that has ended."""
        view = request.view
        answer = None
        if status == "completed":
            answer = judged(self.world.experiment, request.deployment, view.sample_id)
        self.rows += 1
        self.tokens += request.made
        self.world.recorder.request(
            request_id=view.request_id,
            session_id=view.session_id,
            client=view.client,
            arrival_s=view.arrival_s,
            start_s=request.start_s,
            first_token_s=request.first_token_s,
            end_s=request.end_s,
            input_tokens=view.input_tokens,
            output_tokens=request.output_tokens,
            generated_tokens=request.made,
            cached_tokens=request.cached_tokens,
            preemptions=request.preemptions,
            attempts=request.attempts,
            forwards=request.forwards,
            wasted_tokens=round(request.wasted),
            deployment=request.dispatched[0],
            replica=request.dispatched[1],
            correct=-1 if answer is None else int(answer.correct),
            confidence=nan if answer is None else answer.confidence,
            status=Status[status.upper()],
            error=error,
        )

    def close(self, end_s: float) -> None:
        """Take down the nodes and what is unfinished, and audit the run."""
        world = self.world
        for node in world.nodes:
            for host in node.hosts.values():
                host.ending = []
        for request in world.requests:
            if not request.ended:
                self.request(request, "unfinished")
        for node in world.nodes:
            self._node(node, end_s)
        transport, costs = world.transport, world.experiment.costs
        world.recorder.counters.update(
            events=world.clock.events,
            messages=transport.messages,
            bytes_sent=sum(transport.bytes_sent),
            bytes_received=sum(transport.bytes_received),
            bytes_lost=transport.bytes_lost,
            bytes_in_flight=transport.bytes_in_flight,
            priced=sum(cost.calls for cost in costs.step_costs()),
            extrapolated=sum(cost.extrapolated for cost in costs.step_costs()),
        )
        self._audit()

    def _node(self, node: Node, end_s: float) -> None:
        world, index = self.world, node.index
        meter, memory, transport = world.meters[index], world.memory, world.transport
        if node.running is not None:
            world.iterations.record(node, finished=False, time_s=end_s)
        meter.read(end_s)
        world.recorder.node(
            node=index,
            name=node.machine.name,
            up_s=meter.up_s,
            busy_s=meter.busy_s,
            down_s=meter.down_s,
            loading_s=meter.loading_s,
            energy_j=meter.energy_j,
            carbon_g=meter.carbon_g,
            energy_cost=meter.energy_cost,
            peak_kv_bytes=memory.peak[index],
            weight_bytes=node.weight_bytes,
            kv_capacity_bytes=memory.capacity[index],
            tokens=node.tokens,
            iterations=node.iterations,
            failures=node.failures,
            bytes_sent=transport.bytes_sent[index],
            bytes_received=transport.bytes_received[index],
        )

    def _audit(self) -> None:
        world, transport = self.world, self.world.transport
        sent = sum(transport.bytes_sent)
        kept = sum(transport.bytes_received) + transport.bytes_lost + transport.bytes_in_flight
        checks = {
            "every request is recorded once": self.rows == len(world.requests),
            "tokens recorded are tokens made": self.tokens == sum(r.made for r in world.requests),
            "bytes sent are received, lost or in flight": isclose(sent, kept, abs_tol=1e-6),
            "only sequences that are alive or about to be missed hold KV": all(
                not sequence.request.ended for sequence in world.holders() if sequence.held
            ),
            "no memory is overfull": all(
                world.memory.peak[n.index] <= world.memory.capacity[n.index] for n in world.nodes
            ),
        }
        for what, holds in checks.items():
            if not holds:
                raise ConservationError(f"the audit of the reference engine failed: {what}")
