"""The state of a run, and the parts that act on it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from infsim.cost.interface import StepCost
from infsim.engine.experiment import Experiment
from infsim.engine.reference.books import Books
from infsim.engine.reference.churn import Churn
from infsim.engine.reference.clock import Clock, Turn
from infsim.engine.reference.dispatch import Dispatch
from infsim.engine.reference.memory import Memory
from infsim.engine.reference.nodes import Nodes
from infsim.engine.reference.parts import Hop, Node, Path, Request, Sequence, State
from infsim.engine.reference.passes import Passes
from infsim.engine.reference.power import Meter
from infsim.engine.reference.replay import Replay
from infsim.engine.reference.state import View
from infsim.engine.reference.transport import Transport
from infsim.errors import InfsimError, PolicyError
from infsim.results.recorder import Recorder
from infsim.rng import Uniform

Answer = TypeVar("Answer")


class World:
    """Everything there is in a run.

    Attributes
    ----------
    requests : list of Request
        All requests that have arrived, by id.
    sequences : list of Sequence
        Those that are sent, waiting or admitted.
    lost : list of Sequence
        Those that are lost without anybody knowing; they hold KV.
    """

    def __init__(self, experiment: Experiment) -> None:
        self.experiment = experiment
        self.clock = Clock()
        self.recorder = Recorder()
        self.requests: list[Request] = []
        self.sequences: list[Sequence] = []
        self.lost: list[Sequence] = []
        self.nodes = [
            Node(index, machine, self._weight_bytes(index))
            for index, machine in enumerate(experiment.cluster.nodes)
        ]
        self.memory = Memory(self)
        self.meters = [Meter(self, node) for node in self.nodes]
        self.transport = Transport(self)
        self.iterations = Nodes(self)
        self.passes = Passes(self)
        self.dispatch = Dispatch(self)
        self.churn = Churn(self)
        self.replay = Replay(self)
        self.view = View(self)
        self.books = Books(self)
        streams = experiment.streams
        self.delivery_random = Uniform(streams.stream("delivery"))
        self.routing_random = [
            Uniform(streams.stream("routing", deployment.name))
            for deployment in experiment.deployments
        ]
        self._due: set[int] = set()

    def _weight_bytes(self, node: int) -> int:
        experiment = self.experiment
        return sum(
            experiment.costs.weight_bytes(deployment, stage.operators)
            for deployment, plan in zip(experiment.deployments, experiment.plans, strict=True)
            for stage in plan.stages
            if stage.node == node
        )

    # --- boundaries

    def touch(self, node: int) -> None:
        """Something has changed for a host: its node has a boundary at the end of this moment."""
        if not self._due:
            self.clock.at(self.clock.now, self._boundaries, Turn.BOUNDARY)
        self._due.add(node)

    def _boundaries(self) -> None:
        while self._due:
            node = min(self._due)
            self._due.remove(node)  # it may become due again by what happens now
            self.iterations.boundary(self.nodes[node])

    def eased(self, nodes: set[int]) -> None:
        """KV was given up or shared on some nodes: wake hosts where sequences wait for these."""
        for sequence in self.sequences:
            if sequence.state is State.WAITING and sequence.path.nodes & nodes:
                self.touch(sequence.path.entry.node)

    # --- questions that several parts ask

    def holders(self) -> list[Sequence]:
        """All sequences that may hold KV."""
        hosts = [host for node in self.nodes for host in node.hosts.values()]
        return self.sequences + self.lost + [s for host in hosts for s in host.ending]

    def cost(self, hop: Hop) -> StepCost:
        """Time of iterations of a hop."""
        deployment = self.experiment.deployments[hop.deployment]
        return self.experiment.costs.step(hop.node, deployment, hop.operators)

    def edge_bytes(self, source: Hop, target: Hop) -> int:
        """Bytes per token that go from a hop to another one; 0 without an edge."""
        return self.bytes_between(source.deployment, source.operators, target.operators)

    def bytes_between(self, index: int, sources: tuple[int, ...], targets: tuple[int, ...]) -> int:
        """Bytes per token that go from some operators of a deployment to others."""
        deployment = self.experiment.deployments[index]
        return sum(
            self.experiment.costs.activation_bytes(deployment, i, j)
            for i, j, _ in deployment.model.graph.edges
            if i in sources and j in targets
        )

    def successors(self, path: Path, hop: Hop) -> list[Hop]:
        """Hops of the path that follow a hop."""
        return [other for other in path.hops if self._joined(hop, other)]

    def predecessors(self, path: Path, hop: Hop) -> list[Hop]:
        """Hops of the path that come before a hop."""
        return [other for other in path.hops if self._joined(other, hop)]

    def _joined(self, source: Hop, target: Hop) -> bool:
        edges = self.experiment.deployments[source.deployment].model.graph.edges
        return source != target and any(
            i in source.operators and j in target.operators for i, j, _ in edges
        )

    def share(self, hops: Iterable[Hop]) -> float:
        """Share of these hops in the operators of their deployment."""
        return sum(
            len(hop.operators) / len(self.experiment.deployments[hop.deployment].model.graph)
            for hop in hops
        )

    def stage_number(self, hop: Hop) -> int:
        """Index of a stage among those of all plans."""
        before = self.experiment.plans[: hop.deployment]
        return sum(len(plan.stages) for plan in before) + hop.stage

    def client_endpoint(self, client: int) -> int:
        return self.experiment.cluster.endpoint_of_client(client)

    def delay_s(self, source: int, target: int) -> float:
        """One-way delay between two endpoints, as it is on average."""
        return self.transport.delay_s[source][target]

    def delay_now_s(self, source: int, target: int) -> float:
        """How long what is sent now is under way."""
        return self.experiment.cluster.network.propagation_s(source, target, self.clock.now)

    def ask(
        self,
        kind: str,
        policy: object,
        request: Request | None,
        question: Callable[..., Answer],
        *arguments: Any,
    ) -> Answer:
        """Ask a policy; whatever it raises becomes a `PolicyError`."""
        try:
            return question(*arguments)
        except InfsimError:
            raise
        except (Exception, SystemExit) as error:
            reason = f"it raised {type(error).__name__}: {error}"
            raise self.nonsense(kind, policy, request, reason) from error

    def nonsense(
        self, kind: str, policy: object, request: Request | None, reason: str
    ) -> PolicyError:
        """The error of a policy that answers what makes no sense."""
        name = getattr(policy, "policy_name", type(policy).__name__)
        return PolicyError(kind, name, request.id if request else None, reason)
