"""Run an experiment: the entry point of the fast engine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from infsim.engine.core import Engine
from infsim.engine.dispatch import Dispatcher
from infsim.engine.experiment import Experiment, check_plan_ahead
from infsim.engine.node import RunningNode
from infsim.errors import ConservationError
from infsim.results.recorder import RunRecord, Status


def simulate(
    experiment: Experiment,
    *,
    progress: Callable[[int], None] | None = None,
    engine: Literal["fast", "reference"] = "fast",
) -> RunRecord:
    """Run one alternative, one replication.

    Parameters
    ----------
    experiment : Experiment
        Policies in it keep state: give each run its own.
    progress : callable, optional
        Called with the number of requests that have ended, whenever one does.
    engine : {"fast", "reference"}
        The reference engine follows the same rules, slowly and obviously.

    Returns
    -------
    RunRecord
        Marked as interrupted if Ctrl-C came before the end; what had ended by then is in it.

    Raises
    ------
    PolicyError
        If a policy raises or answers what it must not.
    CostError
        If a cost model answers a time that no iteration can take.
    InputError
        If the experiment asks for what the engine cannot do.
    ConservationError
        If the audit at the end fails: a bug of the engine.
    """
    check_plan_ahead(experiment)
    if engine == "reference":
        from infsim.engine.reference import simulate_reference

        return simulate_reference(experiment)
    return Simulation(experiment, progress).run()


class Simulation:
    """One run of the fast engine."""

    def __init__(
        self, experiment: Experiment, progress: Callable[[int], None] | None = None
    ) -> None:
        self.engine = Engine(experiment)
        self.desk = self.engine.desk = Dispatcher(self.engine, progress)

    def run(self) -> RunRecord:
        """Run to the end and return the record."""
        interrupted = False
        try:
            self._loop()
        except KeyboardInterrupt:
            interrupted = True
        return self._finish(interrupted)

    def _loop(self) -> None:
        engine, desk = self.engine, self.desk
        desk.failures.start()
        desk.start_snapshots()
        if engine.settings.horizon_s is not None:
            desk.stop_at(engine.settings.horizon_s)
        moment, boundaries = engine.clock.moment, engine.boundaries
        while moment():
            boundaries()

    # --- the end -------------------------------------------------------------------------------

    def _finish(self, interrupted: bool) -> RunRecord:
        engine, desk = self.engine, self.desk
        # The run goes on until the last answer has reached its client.
        now = engine.clock.now if desk.open else max(desk.latest_s, engine.clock.now)
        everything_ended = not desk.open and not desk.failures.undetected
        for node in engine.nodes:
            self._settle(node, now)
        for ticket in list(desk.open.values()):
            desk.finish(ticket, Status.UNFINISHED, "", float("nan"))
        if not interrupted:
            self._audit(everything_ended)
        transport = engine.transport
        for node in engine.nodes:
            self._record_node(node, now)
        engine.recorder.counters.update(
            events=engine.clock.events,
            messages=transport.messages,
            bytes_sent=sum(transport.sent),
            bytes_received=sum(transport.received),
            bytes_lost=transport.lost,
            bytes_in_flight=transport.in_flight,
            priced=sum(cost.calls for cost in engine.experiment.costs.step_costs()),
            extrapolated=sum(cost.extrapolated for cost in engine.experiment.costs.step_costs()),
        )
        return engine.recorder.finish(now, interrupted)

    def _settle(self, node: RunningNode, now: float) -> None:
        """Break off what runs; sequences know the tokens they have made."""
        for host in node.hosts:
            host.fail(now)
        for sequence in node.active:
            sequence._ticket.generated = sequence.generated
        node.stop(now)
        node.enter(node.state, now)

    def _record_node(self, node: RunningNode, now: float) -> None:
        spec, engine = node.spec, self.engine
        up_s = now - node.down_s
        power, extra_j = node.power, node.extra_j
        engine.recorder.node(
            node=node.index,
            name=spec.name,
            up_s=up_s,
            busy_s=node.busy_s,
            down_s=node.down_s,
            loading_s=node.loading_s,
            energy_j=power.energy_j(up_s, extra_j),
            carbon_g=power.per_kwh(*node.carbon.over(up_s, extra_j)),
            energy_cost=power.per_kwh(*node.price.over(up_s, extra_j)),
            peak_kv_bytes=node.memory.peak,
            weight_bytes=engine.weights[node.index],
            kv_capacity_bytes=node.memory.capacity,
            tokens=node.tokens,
            iterations=node.iterations,
            failures=node.failures,
            bytes_sent=engine.transport.sent[node.index],
            bytes_received=engine.transport.received[node.index],
        )

    def _audit(self, everything_ended: bool) -> None:
        """Conservation: tokens, bytes, memory, nothing left behind when all requests have ended."""
        made, kept = self.engine.tokens_made, self.desk.tokens_kept
        if made != kept + self.desk.tokens_forgotten:
            raise ConservationError(
                f"{made} tokens were made, {kept} are recorded and"
                f" {self.desk.tokens_forgotten} were forgotten"
            )
        transport = self.engine.transport
        balance = (
            sum(transport.sent) - sum(transport.received) - transport.lost - transport.in_flight
        )
        if abs(balance) > 1e-9 * max(1.0, sum(transport.sent)):
            raise ConservationError(f"{balance} bytes sent are neither received nor lost")
        for node in self.engine.nodes:
            memory = node.memory
            if not 0 <= memory.used <= memory.capacity or memory.peak > memory.capacity:
                raise ConservationError(
                    f"node {node.spec.name!r} uses {memory.used} (at most {memory.peak}) of"
                    f" {memory.capacity} bytes of KV memory"
                )
            if everything_ended and (memory.used or node.active):
                raise ConservationError(
                    f"node {node.spec.name!r} still holds {memory.used} bytes of KV and"
                    f" {len(node.active)} sequences when all requests have ended"
                )
