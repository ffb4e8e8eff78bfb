"""The desk of the engine: requests are taken in, delivered, dispatched, and end."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from infsim.engine.arrivals import ClosedArrivals, OpenArrivals
from infsim.engine.clock import LIMIT, SNAPSHOT, Call
from infsim.engine.deployments import RunningDeployment
from infsim.engine.failures import Failures
from infsim.engine.paths import Hop
from infsim.engine.sequence import DEAD, RUNNING, WAITING, Sequence, Ticket
from infsim.engine.views import DeliverySight, DeploymentSight
from infsim.errors import PolicyError
from infsim.policy.interface import Accept, Answer, Delivery, Forward, Request, Serve
from infsim.results.recorder import Status
from infsim.rng import Uniform
from infsim.workload.closed_loop import ClosedLoop

if TYPE_CHECKING:
    from infsim.engine.core import Engine

MAX_DECISIONS = 32


class Dispatcher:
    """Takes requests in, asks delivery and routing, and records how each request ends.

    Parameters
    ----------
    engine : Engine
    ended : callable
        Called with the number of requests that have ended, for a progress bar.
    """

    def __init__(self, engine: Engine, ended: Callable[[int], None] | None = None) -> None:
        self.engine = engine
        self.failures = Failures(engine, self)
        self.open: dict[int, Ticket] = {}
        self.done = 0
        self.tokens_kept = self.tokens_forgotten = 0
        self.latest_s = 0.0
        self._progress = ended
        experiment = engine.experiment
        self._nodes = len(experiment.cluster.nodes)
        self._origins = [
            experiment.cluster.node_index(client.node)
            if client.node is not None
            else self._nodes + i
            for i, client in enumerate(experiment.cluster.clients)
        ]
        self._delivery = experiment.delivery
        self._reviews = type(self._delivery).review is not Delivery.review
        self._sight = DeliverySight(
            [DeploymentSight(deployment) for deployment in engine.deployments],
            experiment.accuracy_validation,
            Uniform(experiment.streams.stream("delivery")),
        )
        self._snapshot_s = 0.0
        workload = experiment.workload
        self.arrivals = (
            ClosedArrivals(engine, self, workload)
            if isinstance(workload, ClosedLoop)
            else OpenArrivals(engine, self, workload)
        )
        self.arrivals.start()

    # --- arrivals ------------------------------------------------------------------------------

    def take(self, request: Request, output_tokens: int) -> Ticket:
        """Take a request in, at its client; `decide` then says what happens to it."""
        ticket = Ticket(
            request, output_tokens, self._nodes + request.client, self._origins[request.client]
        )
        self.open[request.request_id] = ticket
        return ticket

    def stop_at(self, time: float) -> None:
        """End the run at this time at the latest, before anything else that happens then."""
        self.engine.clock.at(time, self._stop, None, LIMIT)

    def _stop(self, _: Call) -> None:
        self.engine.clock.stopped = True

    # --- delivery ------------------------------------------------------------------------------

    def _look(self, ticket: Ticket) -> DeliverySight:
        now = self.engine.clock.now
        here = ticket.here if ticket.here < self._nodes else None
        row = self.engine.transport.delay[ticket.here]
        return self._sight.look(now, self.age(now), here, ticket.answers, row)

    def decide(self, ticket: Ticket) -> None:
        """Ask the delivery policy what happens where the request is."""
        request = ticket.request
        try:
            action = self._delivery.decide(request, self._look(ticket))
        except PolicyError:
            raise
        except (Exception, SystemExit) as error:
            raise self._wrong(
                request, f"decide() raised {type(error).__name__}: {error}"
            ) from error
        self._follow(ticket, action, "decide() must return Serve or Forward")

    def _follow(self, ticket: Ticket, action: object, rule: str) -> None:
        request = ticket.request
        ticket.decisions += 1
        if ticket.decisions > MAX_DECISIONS:
            raise self._wrong(request, f"more than {MAX_DECISIONS} decisions for one request")
        if isinstance(action, Serve):
            if not 0 <= action.deployment < len(self.engine.deployments):
                raise self._wrong(request, f"there is no deployment {action.deployment}")
            self.dispatch(ticket, self.engine.deployments[action.deployment])
        elif isinstance(action, Forward):
            if not 0 <= action.node < self._nodes:
                raise self._wrong(request, f"there is no node {action.node}")
            ticket.forwards += 1
            transport = self.engine.transport
            ends = (ticket.here, action.node)
            epochs = tuple(transport.generation[end] for end in ends)
            size = self._size(request.input_tokens)
            transport.send(*ends, size, self._forwarded, (ticket, ends, epochs))
        else:
            raise self._wrong(request, f"{rule}, got {action!r}")

    def _wrong(self, request: Request, reason: str) -> PolicyError:
        return PolicyError("delivery", self.engine.name_of("delivery"), request.request_id, reason)

    def _size(self, tokens: int) -> float:
        settings = self.engine.settings
        if settings.request_bytes is not None:
            return settings.request_bytes
        return tokens * settings.token_bytes

    def _forwarded(
        self, content: tuple[Ticket, tuple[int, int], tuple[int, ...]], arrived: bool
    ) -> None:
        ticket, ends, epochs = content
        if arrived:
            ticket.here = ends[1]
            self.decide(ticket)
            return
        transport = self.engine.transport
        failed = {
            end
            for end, epoch in zip(ends, epochs, strict=True)
            if transport.generation[end] != epoch or not transport.ready[end]
        }
        self.failures.lost_forward(ticket, tuple(sorted(failed)))

    # --- dispatch ------------------------------------------------------------------------------

    def age(self, now: float) -> float:
        """Age of what policies see."""
        return now - self._snapshot_s if self.engine.settings.staleness_s else 0.0

    def dispatch(self, ticket: Ticket, deployment: RunningDeployment) -> None:
        """Route a request through a deployment and send it on its way; park it if nobody can."""
        spec = deployment.spec
        request = ticket.request
        target = ticket.output_tokens if spec.model.generative else 1
        limit = spec.model.max_context
        if limit is not None:
            if request.input_tokens >= limit:
                self.finish(ticket, Status.REJECTED, "context limit")
                return
            target = min(target, limit - request.input_tokens)
        chosen = deployment.route(ticket, self.age(self.engine.clock.now))
        if chosen is None:
            deployment.parked.append(ticket)
            return
        ticket.deployment = spec.index
        path, ticket.replica, loads = chosen
        sequence = Sequence(ticket, path, loads, target)
        if self.engine.settings.prefix_cache:
            sequence.cached = self.engine.kv.cached
        for load in loads:
            load.waiting += 1
            load.queued_tokens += sequence.prompt
        for node in path.nodes:
            self.engine.nodes[node].active[sequence] = None
        self.engine.transport.send(
            ticket.here, path.entry.node, self._size(sequence.prompt), self._reached, sequence
        )

    def _reached(self, sequence: Sequence, arrived: bool) -> None:
        engine = self.engine
        nodes = sequence.path.nodes
        missing = tuple(
            n
            for n in nodes
            if sequence not in engine.nodes[n].active or not engine.transport.ready[n]
        )
        if missing or not arrived:
            self.failures.lose(sequence, missing)
            return
        if not engine.kv.possible(sequence):
            self.leave(sequence)
            self.finish(sequence._ticket, Status.REJECTED, "kv capacity")
            return
        sequence.state = WAITING
        sequence.queued_s = engine.clock.now
        engine.entry(sequence.path.entry).join(sequence)

    def retry_parked(self, deployment: RunningDeployment) -> None:
        """Dispatch parked requests again, in the order in which they parked."""
        for _ in range(len(deployment.parked)):
            self.dispatch(deployment.parked.popleft(), deployment)

    def start_snapshots(self) -> None:
        """With a stale view: show the state every ``staleness_s`` seconds."""
        if self.engine.settings.staleness_s:
            self.engine.clock.at(0.0, self._snapshot, 0, SNAPSHOT)

    def _snapshot(self, call: Call) -> None:
        number: int = call.argument
        period = self.engine.settings.staleness_s
        self._snapshot_s = self.engine.clock.now
        for deployment in self.engine.deployments:
            deployment.snapshot()
        for deployment in self.engine.deployments:
            self.retry_parked(deployment)
        self.engine.clock.at((number + 1) * period, self._snapshot, number + 1, SNAPSHOT)

    # --- ends ----------------------------------------------------------------------------------

    def leave(self, sequence: Sequence) -> None:
        """A sequence is over: it loads nobody any more."""
        for load in sequence.loads:
            if sequence.state == RUNNING:
                load.running -= 1
            else:
                load.waiting -= 1
            load.queued_tokens -= sequence.prompt - sequence.computed
        for node in sequence.path.nodes:
            self.engine.nodes[node].active.pop(sequence, None)
        sequence.state = DEAD

    def ended(self, sequence: Sequence, last: Hop) -> None:
        """A sequence has made all its tokens."""
        ticket = sequence._ticket
        ticket.generated = sequence.generated
        self.leave(sequence)
        if self._reviews:
            self._review(ticket, last.node)
        else:
            self._complete(ticket, last.node)

    def _complete(self, ticket: Ticket, node: int) -> None:
        end_s = self.engine.clock.now + self.engine.transport.propagation_s(node, ticket.client)
        # an earlier token may have come from farther away
        self.finish(ticket, Status.COMPLETED, "", max(end_s, ticket.first_token_s))

    def _review(self, ticket: Ticket, node: int) -> None:
        confidence, prediction = self._judge(ticket)
        answer = Answer(ticket.deployment, node, confidence, prediction)
        ticket.answers.append(answer)
        ticket.here = node
        request = ticket.request
        try:
            action = self._delivery.review(request, answer, self._look(ticket))
        except PolicyError:
            raise
        except (Exception, SystemExit) as error:
            raise self._wrong(
                request, f"review() raised {type(error).__name__}: {error}"
            ) from error
        if isinstance(action, Accept):
            self._complete(ticket, node)
            return
        self.forget(ticket)
        ticket.first_token_s = float("nan")
        self._follow(ticket, action, "review() must return Accept, Serve or Forward")

    def forget(self, ticket: Ticket) -> None:
        """The tokens that a request has made so far do not count any more."""
        self.tokens_forgotten += ticket.generated
        ticket.generated = 0

    def _judge(self, ticket: Ticket) -> tuple[float | None, int | None]:
        """Confidence and prediction of the deployment's model on the request's sample."""
        table = self.engine.experiment.accuracy
        model = self.engine.deployments[ticket.deployment].spec.model.accuracy_model
        sample = ticket.request.sample_id
        if table is None or model is None or sample < 0:
            return None, None
        return float(table.confidence[model][sample]), int(table.prediction[model][sample])

    def failed(self, sequence: Sequence, error: str) -> None:
        """A sequence cannot be finished, and its request with it."""
        sequence._ticket.generated = sequence.generated
        self.leave(sequence)
        self.finish(sequence._ticket, Status.FAILED, error)

    def finish(
        self, ticket: Ticket, status: Status, error: str = "", end_s: float | None = None
    ) -> None:
        """Record a request, once."""
        request = ticket.request
        if end_s is None:
            end_s = self.engine.clock.now
        del self.open[request.request_id]
        self.tokens_kept += ticket.generated
        correct, confidence = -1, float("nan")
        if status is Status.COMPLETED and request.sample_id >= 0:
            correct, confidence = self._correct(ticket)
        self.engine.recorder.request(
            request.request_id,
            request.session_id,
            request.client,
            request.arrival_s,
            ticket.start_s,
            ticket.first_token_s,
            end_s,
            request.input_tokens,
            ticket.output_tokens,
            ticket.generated,
            ticket.cached_tokens,
            ticket.preemptions,
            1 + ticket.recoveries,
            ticket.forwards,
            round(ticket.wasted),
            ticket.deployment,
            ticket.replica,
            correct,
            confidence,
            status,
            error,
        )
        self.done += 1
        self.latest_s = max(self.latest_s, end_s)
        if status is not Status.UNFINISHED:
            self.arrivals.ended(request, end_s, status is Status.COMPLETED)
        if self.arrivals.over and not self.open:
            self.engine.clock.stopped = True
        if self._progress is not None:
            self._progress(self.done)

    def _correct(self, ticket: Ticket) -> tuple[int, float]:
        confidence, _ = self._judge(ticket)
        if confidence is None:
            return -1, float("nan")
        table = self.engine.experiment.accuracy
        model = self.engine.deployments[ticket.deployment].spec.model.accuracy_model
        assert table is not None
        assert model is not None
        return int(table.correct[model][ticket.request.sample_id]), confidence
