"""KV memory: blocks of sequences, and the prefix cache; what is in use is counted when asked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from infsim.engine.reference.parts import Holding, Hop, Path, Request, Sequence
from infsim.errors import InputError
from infsim.policy.interface import Request as RequestView

if TYPE_CHECKING:
    from infsim.engine.reference.world import World

Key = tuple[Hop, int]
"""An entry of the prefix cache: a hop, and the hash of a block."""


@dataclass
class Entry:
    """Cached KV of one hashed block at one hop."""

    blocks: int
    idle_since: tuple[int, int, int, int] = (0, 0, 0, 0)
    """When nobody referred to it any more: later ones compare greater."""


@dataclass
class Remainder:
    """Whole blocks of its own that a request has left at one hop."""

    blocks: int
    idle_since: tuple[int, int, int, int]


class Memory:
    """The KV memory of all nodes."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.settings = world.experiment.settings
        costs = world.experiment.costs
        self.capacity = [
            costs.kv_capacity_bytes(node.index) - node.weight_bytes for node in world.nodes
        ]
        for node, capacity in zip(world.nodes, self.capacity, strict=True):
            if capacity < 0:
                raise InputError(
                    f"node {node.machine.name!r} lacks {-capacity / 2**30:.2f} GiB for the weights"
                )
        self.peak = [0] * len(world.nodes)
        self.cache: list[dict[Key, Entry]] = [{} for _ in world.nodes]
        self.left: list[dict[Key, Remainder]] = [{} for _ in world.nodes]
        """What a request (by id, complemented once it has ended) has left at a hop."""
        self.releases = 0

    # --- what is in use

    def block_bytes(self, hop: Hop) -> int:
        """Bytes of one block of a hop."""
        deployment = self.world.experiment.deployments[hop.deployment]
        per_token = self.world.experiment.costs.kv_bytes_per_token(deployment, hop.operators)
        return self.settings.block_tokens * per_token

    def used(self, node: int) -> int:
        """Bytes that are reserved on a node."""
        private = sum(
            holding.private * self.block_bytes(hop)
            for sequence in self.world.holders()
            for hop, holding in sequence.held.items()
            if hop.node == node
        )
        return private + sum(self.entry_bytes(key) for key in self._referenced(node))

    def _referenced(self, node: int) -> set[Key]:
        """Entries on a node that some sequence refers to."""
        return {
            (hop, value)
            for sequence in self.world.holders()
            for hop, holding in sequence.held.items()
            if hop.node == node
            for value in holding.hashes
        }

    def idle(self, node: int) -> list[Key]:
        """Entries on a node that nobody refers to, the one for the longest time first."""
        cache, referenced = self.cache[node], self._referenced(node)
        return sorted(
            (key for key in cache if key not in referenced), key=lambda k: cache[k].idle_since
        )

    def entry_bytes(self, key: Key) -> int:
        """Bytes of an entry of the prefix cache."""
        return self.cache[key[0].node][key].blocks * self.block_bytes(key[0])

    def _make_room(self, node: int) -> None:
        """Forget what nobody refers to until all that is reserved has its place."""
        used = self.used(node)
        while used + self._idle_bytes(node) > self.capacity[node]:
            idle = [(self.cache[node][key].idle_since, key) for key in self.idle(node)]
            left = [(rest.idle_since, key) for key, rest in self.left[node].items()]
            if left and (not idle or min(left)[0] < min(idle)[0]):
                self._forget_block(node, min(left)[1])
            else:
                del self.cache[node][min(idle)[1]]
        self.peak[node] = max(self.peak[node], used)

    def _idle_bytes(self, node: int) -> int:
        entries = sum(self.entry_bytes(key) for key in self.idle(node))
        return entries + sum(
            rest.blocks * self.block_bytes(hop) for (hop, _), rest in self.left[node].items()
        )

    def _forget_block(self, node: int, key: Key) -> None:
        """Forget the last of the blocks that were left."""
        self.left[node][key].blocks -= 1
        if not self.left[node][key].blocks:
            del self.left[node][key]

    # --- what a sequence needs

    def blocks(self, tokens: int) -> int:
        """Blocks that hold so many tokens."""
        return -(-tokens // self.settings.block_tokens)

    def possible(self, path: Path, tokens: int) -> bool:
        """Whether so many tokens fit into the nodes of a path if they are alone."""
        need = self._by_node(path.hops, self.blocks(tokens))
        return all(need[node] <= self.capacity[node] for node in need)

    def _by_node(self, hops: Iterable[Hop], blocks: int) -> Counter[int]:
        """Bytes that so many blocks of each hop take on each node."""
        need: Counter[int] = Counter()
        for hop in hops:
            need[hop.node] += blocks * self.block_bytes(hop)
        return need

    def hits(self, request: Request, hops: Iterable[Hop], prompt: int) -> int:
        """Leading hashed blocks of the prompt that are cached on every hop."""
        return count_hits(request.view, [self._known(hop) for hop in hops], prompt)

    def found(self, request: Request, hops: Iterable[Hop], prompt: int, hits: int) -> int:
        """Tokens after these hits that the request itself has left on every hop."""
        view, size = request.view, self.settings.block_tokens
        if hits != whole_hashed(view):
            return 0
        blocks = [(prompt - 1 - hits * view.prefix_block_tokens) // size]
        for hop in hops:
            rest = self.left[hop.node].get((hop, request.id))
            blocks.append(rest.blocks if rest else 0)
        return max(0, min(blocks)) * size

    def _known(self, hop: Hop) -> set[int]:
        return {value for (other, value) in self.cache[hop.node] if other == hop}

    def _hashed_blocks(self, request: Request) -> int:
        """Blocks of KV in one hashed block."""
        size = request.view.prefix_block_tokens
        if size % self.settings.block_tokens:
            raise InputError(
                f"prefix blocks of {size} tokens are no multiple of the KV blocks of"
                f" {self.settings.block_tokens} tokens"
            )
        return size // self.settings.block_tokens

    def fit(self, sequences: list[tuple[Sequence, int]]) -> bool:
        """Whether all these waiting sequences, each with so many hits, fit together."""
        need: Counter[int] = Counter()
        referred: set[Key] = set()
        for sequence, hits in sequences:
            private = self._private(sequence, hits)
            need.update(self._by_node(sequence.path.hops, private))
            referred |= {
                (hop, value)
                for hop in sequence.path.hops
                for value in sequence.request.view.prefix_hashes[:hits]
            }
        for node in {hop.node for hop, _ in referred}:
            new = {key for key in referred if key[0].node == node} - self._referenced(node)
            need[node] += sum(self.entry_bytes(key) for key in new)
        return all(self.used(node) + need[node] <= self.capacity[node] for node in need)

    def _private(self, sequence: Sequence, hits: int) -> int:
        blocks = self.blocks(sequence.prompt)
        return blocks - hits * self._hashed_blocks(sequence.request) if hits else blocks

    # --- changes

    def admit(self, sequences: list[tuple[Sequence, int]]) -> None:
        """Reserve the KV of whole prompts, of which so many hashed blocks are hits."""
        for sequence, hits in sequences:
            hashes = sequence.request.view.prefix_hashes[:hits]
            for hop in sequence.path.hops:
                private = self._private(sequence, hits)
                sequence.held[hop] = Holding(private, list(hashes))
                self.left[hop.node].pop((hop, sequence.request.id), None)
        self._settle(hop for sequence, _ in sequences for hop in sequence.path.hops)

    def _settle(self, hops: Iterable[Hop]) -> None:
        for node in {hop.node for hop in hops}:
            self._make_room(node)

    def full(self, sequence: Sequence) -> bool:
        """Whether its blocks hold exactly its tokens, so that one more token needs another."""
        return self.held_blocks(sequence) * self.settings.block_tokens == sequence.kv

    def held_blocks(self, sequence: Sequence) -> int:
        """Blocks of a sequence, the same on each of its hops."""
        holding = next(iter(sequence.held.values()))
        if not holding.hashes:
            return holding.private
        return holding.private + len(holding.hashes) * self._hashed_blocks(sequence.request)

    def can_grow(self, sequence: Sequence) -> bool:
        """Whether every node of its path has room for one more block per hop."""
        need = self._by_node(sequence.path.hops, 1)
        return all(self.used(node) + need[node] <= self.capacity[node] for node in need)

    def grow(self, sequence: Sequence) -> None:
        """Reserve one more block on each hop."""
        for holding in sequence.held.values():
            holding.private += 1
        self._settle(sequence.held)

    def has_room(self, hop: Hop, blocks: int) -> bool:
        """Whether so many blocks of a hop fit on its node."""
        return self.used(hop.node) + blocks * self.block_bytes(hop) <= self.capacity[hop.node]

    def reserve(self, sequence: Sequence, hop: Hop, blocks: int) -> None:
        """Reserve blocks at one hop only, for a replay."""
        sequence.held[hop] = Holding(blocks)
        self._settle([hop])

    def publish(self, sequence: Sequence) -> None:
        """Its prompt has passed the last hop: turn its whole hashed blocks into entries."""
        view = sequence.request.view
        if not self.settings.prefix_cache or not view.prefix_hashes:
            return
        blocks = self._hashed_blocks(sequence.request)
        whole = whole_hashed(view)
        made: set[int] = set()
        for hop, holding in sequence.held.items():
            for value in view.prefix_hashes[len(holding.hashes) : whole]:
                if (hop, value) not in self.cache[hop.node]:
                    self.cache[hop.node][hop, value] = Entry(blocks)
                    holding.private -= blocks
                    holding.hashes.append(value)
                    made.add(hop.node)
        self.world.eased(made)

    def release(self, sequence: Sequence, owner: int | None = None) -> None:
        """Give up all that a sequence holds; entries stay in the cache without it.

        With an owner, its own whole blocks stay as well, until the room is needed.
        """
        self.releases += 1
        held, sequence.held = sequence.held, {}
        if owner is not None and self.settings.prefix_cache:
            self._leave(sequence, held, owner)
        for place, (hop, holding) in enumerate(held.items()):
            referenced = self._referenced(hop.node)
            for value in holding.hashes:
                if (hop, value) not in referenced:
                    position = sequence.request.view.prefix_hashes.index(value)
                    entry = self.cache[hop.node][hop, value]
                    entry.idle_since = (self.releases, 1, -position, place)
        self.world.eased({hop.node for hop in held})

    def _leave(self, sequence: Sequence, held: Iterable[Hop], owner: int) -> None:
        blocks = 0
        if sequence.passed:
            view = sequence.request.view
            hashed = whole_hashed(view) * view.prefix_block_tokens
            blocks = (sequence.kv - hashed) // self.settings.block_tokens
        for place, hop in enumerate(held):
            self.left[hop.node].pop((hop, owner), None)
            if blocks > 0:
                since = (self.releases, 0, place, 0)
                self.left[hop.node][hop, owner] = Remainder(blocks, since)

    def clear(self, node: int) -> None:
        """Forget all that a node held: it failed."""
        self.cache[node], self.left[node] = {}, {}
        for sequence in self.world.holders():
            for hop in [hop for hop in sequence.held if hop.node == node]:
                del sequence.held[hop]


def whole_hashed(view: RequestView) -> int:
    """Hashed blocks that lie within the input."""
    return min(len(view.prefix_hashes), view.input_tokens // view.prefix_block_tokens)


def count_hits(view: RequestView, known: list[set[int]], prompt: int) -> int:
    """Leading hashed blocks that are known on every hop; one token must remain to be computed."""
    most = min(len(view.prefix_hashes), (prompt - 1) // view.prefix_block_tokens)
    for hits in range(most):
        if not all(view.prefix_hashes[hits] in hashes for hashes in known):
            return hits
    return most
