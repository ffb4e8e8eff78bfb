"""The engine: clock, nodes, hosts and memory, and how batches move between them."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from infsim.cost.energy import PowerDraw
from infsim.engine.clock import Clock
from infsim.engine.deployments import RunningDeployment
from infsim.engine.experiment import Experiment
from infsim.engine.kv import KvReservations
from infsim.engine.memory import KvMemory
from infsim.engine.node import RunningNode
from infsim.engine.paths import Hop
from infsim.engine.pipeline import EntryHost, StageHost
from infsim.engine.sequence import RUNNING, Batch, Sequence
from infsim.engine.solo import SoloHost
from infsim.engine.transport import FifoTransport, MaxMinTransport, Transport
from infsim.errors import InfeasibleError
from infsim.results.recorder import Recorder

if TYPE_CHECKING:
    from infsim.engine.dispatch import Dispatcher

GIB = 1024.0**3


class Engine:
    """What the parts of the engine share.

    Attributes
    ----------
    nodes : list of RunningNode
    deployments : list of RunningDeployment
    tokens_made : int
        Output tokens of all requests, also those that were forgotten since.
    desk : Dispatcher
        Takes requests in, and learns of their ends. Set by `infsim.engine.simulation`.
    """

    desk: Dispatcher

    def __init__(self, experiment: Experiment) -> None:
        self.experiment = experiment
        self.settings = experiment.settings
        self.batching = experiment.batching
        self.relay = self.settings.transfer == "relay"
        self.clock = Clock()
        self.recorder = Recorder()
        self.transport = self._transport()
        self.weights = self._weights()
        self.nodes = self._nodes()
        self.kv = KvReservations(
            [node.memory for node in self.nodes],
            self.settings.block_tokens,
            self.settings.prefix_cache,
        )
        self.deployments: list[RunningDeployment] = []
        stages = 0
        for spec, plan in zip(experiment.deployments, experiment.plans, strict=True):
            self.deployments.append(RunningDeployment(self, spec, plan, stages))
            stages += len(plan.stages)
        self._solo = self._solo_nodes()
        self._hosts: dict[Hop, SoloHost | EntryHost | StageHost] = {}
        self._entries: list[EntryHost] = []
        self._due: list[RunningNode] = []
        self.tokens_made = 0

    def _transport(self) -> Transport:
        kind = MaxMinTransport if self.settings.sharing == "max-min" else FifoTransport
        return kind(self.clock, self.experiment.cluster)

    def _weights(self) -> list[int]:
        """Weight bytes on each node."""
        held = [0] * len(self.experiment.cluster.nodes)
        for spec, plan in zip(self.experiment.deployments, self.experiment.plans, strict=True):
            for stage in plan.stages:
                held[stage.node] += self.experiment.costs.weight_bytes(spec, stage.operators)
        return held

    def _nodes(self) -> list[RunningNode]:
        cluster = self.experiment.cluster
        nodes = []
        for i, spec in enumerate(cluster.nodes):
            capacity = int(self.experiment.costs.kv_capacity_bytes(i)) - self.weights[i]
            if capacity < 0:
                raise InfeasibleError(
                    f"the weights placed on node {spec.name!r} take"
                    f" {self.weights[i] / GIB:.2f} GiB, {-capacity / GIB:.2f} GiB more than it has"
                )
            site = cluster.sites[spec.site]
            power = PowerDraw(spec, site, self.experiment.costs.power(i))
            nodes.append(RunningNode(i, spec, KvMemory(capacity), self.clock, site, power))
        return nodes

    def _solo_nodes(self) -> list[bool]:
        """Nodes whose memory is used by single-hop paths only."""
        solo = [True] * len(self.nodes)
        for deployment in self.deployments:
            for candidate in deployment.candidates:
                if deployment.mesh or len(candidate.hops) > 1:
                    for node in candidate.nodes:
                        solo[node] = False
        return solo

    def name_of(self, kind: str) -> str:
        """Name of a policy, for messages."""
        policy = getattr(self.experiment, {"routing": "router"}.get(kind, kind), None)
        return str(getattr(policy, "policy_name", None) or type(policy).__name__)

    # --- boundaries ----------------------------------------------------------------------------

    def mark(self, node: RunningNode) -> None:
        """A node may have something to run: look when all of this moment has happened."""
        if not node.marked:
            node.marked = True
            self._due.append(node)

    def boundaries(self) -> None:
        """Let iterations begin on the nodes that are due, in order of their index."""
        due = self._due
        while due:
            node = min(due, key=_index) if len(due) > 1 else due[0]
            due.remove(node)
            node.marked = False
            node.boundary(self.clock.now)

    # --- hosts ---------------------------------------------------------------------------------

    def entry(self, hop: Hop) -> SoloHost | EntryHost:
        """The host where prompts of paths with this entry wait."""
        host = self._hosts.get(hop)
        if host is None:
            node = self.nodes[hop.node]
            if self._solo[hop.node] and self.batching.steady:
                host = SoloHost(self, node, hop)
            else:
                host = EntryHost(self, node, hop)
                self._entries.append(host)
            self._hosts[hop] = host
            node.add(host)
        assert not isinstance(host, StageHost)
        return host

    def stage(self, hop: Hop) -> StageHost:
        """The host of a hop that is not an entry."""
        host = self._hosts.get(hop)
        if host is None:
            node = self.nodes[hop.node]
            host = self._hosts[hop] = StageHost(self, node, hop)
            node.add(host)
        assert isinstance(host, StageHost)
        return host

    # --- batches -------------------------------------------------------------------------------

    def pass_on(self, batch: Batch, position: int, now: float) -> None:
        """A hop has computed a batch: send it to the hops that follow."""
        path = batch.path
        hop = path.hops[position]
        if batch.replay is not None:
            self.desk.failures.replayed(batch.replay, hop, now)
            return
        successors = path.successors[position]
        if not successors:
            batch.ends -= 1
            if not batch.ends:
                self._complete(batch, hop, now)
            return
        for target, token_bytes in successors:
            receiver = path.hops[target].node
            size = batch.tokens * token_bytes
            if self.relay and receiver != hop.node:
                content = (batch, target, size)
                self.transport.send(hop.node, batch.client, size, self._relay, content)
            else:
                self.transport.send(hop.node, receiver, size, self._reach, (batch, target))

    def _relay(self, content: tuple[Batch, int, float], arrived: bool) -> None:
        batch, target, size = content
        if arrived:
            receiver = batch.path.hops[target].node
            self.transport.send(batch.client, receiver, size, self._reach, (batch, target))

    def _reach(self, content: tuple[Batch, int], arrived: bool) -> None:
        # What a lost batch held is lost with the node that failed.
        if not arrived:
            return
        batch, target = content
        self.stage(batch.path.hops[target]).put(batch, target)

    def _complete(self, batch: Batch, last: Hop, now: float) -> None:
        """A batch is through: tokens are made, sequences end or go back to the entry."""
        entry = self.entry(batch.path.entry)
        assert isinstance(entry, EntryHost)
        made = batch.decodes + [sequence for sequence, final in batch.chunks if final]
        returning: list[Sequence] = []
        for sequence in made:
            if sequence.state != RUNNING:
                continue
            if not sequence.prefilled:
                self.prompt_done(sequence, last, now)
            sequence.generated += 1
            self.tokens_made += 1
            if sequence.generated < sequence._target:
                returning.append(sequence)
                continue
            entry.running -= 1
            self.release(sequence)
            self.desk.ended(sequence, last)
        if returning:
            size = len(returning) * self.settings.token_bytes
            content = (entry, returning, batch.client, size)
            if self.relay and last.node != entry.node.index:
                self.transport.send(last.node, batch.client, size, self._relay_back, content)
            else:
                self.transport.send(last.node, entry.node.index, size, self._back, content)

    def _relay_back(
        self, content: tuple[EntryHost, list[Sequence], int, float], arrived: bool
    ) -> None:
        if arrived:
            entry, _, client, size = content
            self.transport.send(client, entry.node.index, size, self._back, content)

    def _back(self, content: tuple[EntryHost, list[Sequence], int, float], arrived: bool) -> None:
        if arrived:
            content[0].come_back(content[1])

    # --- sequences -----------------------------------------------------------------------------

    def prompt_done(self, sequence: Sequence, last: Hop, now: float) -> None:
        """A prompt has passed the last hop: its first token is made."""
        sequence.prefilled = True
        if self.settings.prefix_cache:
            self.eased(self.kv.share_prefix(sequence))
        ticket = sequence._ticket
        if ticket.first_token_s != ticket.first_token_s:
            ticket.first_token_s = now + self.transport.propagation_s(last.node, ticket.client)

    def release(self, sequence: Sequence, *, preempted: bool = False) -> None:
        """Give back the KV of a sequence; hosts that wait for memory look again."""
        self.kv.release(sequence, preempted=preempted)
        self.eased(sequence.path.nodes)

    def eased(self, nodes: Collection[int]) -> None:
        """KV was released or shared on these nodes: entry hosts that wait for it look again."""
        for entry in self._entries:
            if entry.queue and any(
                node in nodes for waiting in entry.queue for node in waiting.path.nodes
            ):
                self.mark(entry.node)


def _index(node: RunningNode) -> int:
    return node.index
