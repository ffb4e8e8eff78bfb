"""Reservations of KV memory along paths."""

from __future__ import annotations

from collections.abc import Hashable
from collections.abc import Sequence as Sequences

from infsim.engine.memory import KvMemory
from infsim.engine.paths import Hop
from infsim.engine.sequence import Sequence
from infsim.policy.interface import Request

Entries = list[list[Hashable]]
"""For each hop of a path the prefix entries that a sequence refers to."""


class KvReservations:
    """Reserves, grows and releases the KV of sequences on all hops of their paths.

    Parameters
    ----------
    memories : sequence of KvMemory
        One for each node.
    block_tokens : int
        Tokens of a block.
    prefix_cache : bool
        Whether blocks of equal prefixes are shared.
    """

    def __init__(
        self, memories: Sequences[KvMemory], block_tokens: int, prefix_cache: bool
    ) -> None:
        self.memories = memories
        self.block_tokens = block_tokens
        self.prefix_cache = prefix_cache

    def blocks(self, tokens: int) -> int:
        """Blocks that hold this many tokens."""
        return -(-tokens // self.block_tokens)

    # --- whether there is room -----------------------------------------------------------------

    def fits(self, sequences: Sequences[Sequence]) -> bool:
        """Whether the prompts of these waiting sequences can be reserved together."""
        if len(sequences) == 1 and not self.prefix_cache:
            path = sequences[0].path
            if len(path.hops) == 1:
                hop = path.hops[0]
                need = self.blocks(sequences[0].prompt) * hop.block_bytes
                return need <= self.memories[hop.node].free
        need_by_node: dict[int, int] = {}
        referred: dict[int, set[Hashable]] = {}
        for sequence in sequences:
            hits = self._hits(sequence)
            own = self.blocks(sequence.prompt) - self._scale(sequence.request) * hits
            for hop in sequence.path.hops:
                need_by_node[hop.node] = need_by_node.get(hop.node, 0) + own * hop.block_bytes
                if hits:
                    keys = referred.setdefault(hop.node, set())
                    keys.update(self._keys(sequence.request, hop, hits))
        for node, keys in referred.items():
            need_by_node[node] += self.memories[node].idle_size(keys)
        return all(need <= self.memories[node].free for node, need in need_by_node.items())

    def possible(self, sequence: Sequence) -> bool:
        """Whether the prompt would fit into empty memories."""
        blocks = self.blocks(sequence.prompt)
        need = self._block_bytes(sequence)
        return all(blocks * size <= self.memories[node].capacity for node, size in need.items())

    def room_for_block(self, sequence: Sequence) -> bool:
        """Whether every hop has room for one more block."""
        memories = self.memories
        hops = sequence.path.hops
        if len(sequence.path.nodes) == len(hops):
            return all(hop.block_bytes <= memories[hop.node].free for hop in hops)
        need = self._block_bytes(sequence)
        return all(size <= memories[node].free for node, size in need.items())

    def _block_bytes(self, sequence: Sequence) -> dict[int, int]:
        """Bytes of one block on each node of the path."""
        size = dict.fromkeys(sequence.path.nodes, 0)
        for hop in sequence.path.hops:
            size[hop.node] += hop.block_bytes
        return size

    # --- changes -------------------------------------------------------------------------------

    def reserve(self, sequences: Sequences[Sequence]) -> None:
        """Reserve prompts on all their hops; cached prefix blocks count as computed.

        The entries of all of them are referred to before any room is made.
        """
        for sequence in sequences:
            sequence.blocks = self.blocks(sequence.prompt)
            sequence.computed = sequence.kv = sequence._ticket.cached_tokens = 0
        if self.prefix_cache:
            self._refer(sequences)
        for sequence in sequences:
            for i, hop in enumerate(sequence.path.hops):
                self.memories[hop.node].allocate(self._own_bytes(sequence, i, hop))

    def _refer(self, sequences: Sequences[Sequence]) -> None:
        hits = [self._hits(sequence) for sequence in sequences]
        left = [
            self._left(sequence, count) for sequence, count in zip(sequences, hits, strict=True)
        ]
        for sequence, count, own in zip(sequences, hits, left, strict=True):
            cached = count * sequence.request.prefix_block_tokens
            sequence._ticket.cached_tokens = cached
            sequence._ticket.wasted -= own
            sequence.computed = sequence.kv = cached + own
            sequence.entries = []
            for hop in sequence.path.hops:
                keys = self._keys(sequence.request, hop, count)
                self.memories[hop.node].refer(keys)
                sequence.entries.append(keys)
                self.memories[hop.node].take(_left_key(hop, sequence.request.request_id))

    def _own_bytes(self, sequence: Sequence, position: int, hop: Hop) -> int:
        """Bytes of the blocks that only this sequence holds on a hop."""
        blocks = sequence.blocks
        if sequence.entries:
            blocks -= self._scale(sequence.request) * len(sequence.entries[position])
        return blocks * hop.block_bytes

    def add_block(self, sequence: Sequence) -> None:
        """Reserve one more block on every hop."""
        sequence.blocks += 1
        for hop in sequence.path.hops:
            self.memories[hop.node].allocate(hop.block_bytes)

    def release(self, sequence: Sequence, *, preempted: bool = False) -> None:
        """Give back everything on every hop.

        With a prefix cache, what is whole of its own blocks stays until the room is needed; a
        preempted sequence may find it again.
        """
        hops = sequence.path.hops
        for i, hop in enumerate(hops):
            self.memories[hop.node].release(self._own_bytes(sequence, i, hop))
        if sequence.entries is not None:
            request = sequence.request
            whole = self._scale(request) * _whole_hashed(request)
            left = sequence.kv // self.block_tokens - whole if sequence.prefilled else 0
            # nobody asks for what a sequence that has ended leaves: it only stands in the line
            owner = request.request_id if preempted else ~request.request_id
            for hop in hops:
                self.memories[hop.node].leave(_left_key(hop, owner), left, hop.block_bytes)
            self._unrefer(sequence, range(len(hops)))
        sequence.blocks = 0
        sequence.entries = None

    def release_hops(self, sequence: Sequence, positions: Sequences[int]) -> None:
        """Give back what the sequence holds on some hops."""
        hops = sequence.path.hops
        for i in positions:
            self.memories[hops[i].node].release(self._own_bytes(sequence, i, hops[i]))
        self._unrefer(sequence, positions)

    def _unrefer(self, sequence: Sequence, positions: Sequences[int]) -> None:
        """Refer to no prefix entries on some hops any more.

        The last prefix block becomes idle first, of one block the entry of the first hop.
        """
        if not sequence.entries:
            return
        hops = sequence.path.hops
        place = {value: i for i, value in enumerate(sequence.request.prefix_hashes)}
        held = [
            (-place[key[1]], i, key)  # type: ignore[index]
            for i in positions
            for key in sequence.entries[i]
        ]
        for _, i, key in sorted(held, key=lambda row: row[:2]):
            self.memories[hops[i].node].unrefer(key)

    # --- prefixes ------------------------------------------------------------------------------

    def cached_tokens(
        self,
        request: Request,
        hops: Sequences[Hop],
        prompt: int,
        known: Sequences[set[Hashable]] | None = None,
    ) -> int:
        """Leading tokens cached on every hop, leaving one to compute.

        ``known`` replaces what the nodes of the hops hold by what they held.
        """
        hashes = request.prefix_hashes
        limit = min(len(hashes), (prompt - 1) // request.prefix_block_tokens)
        found = 0
        while found < limit and all(
            (hop.key, hashes[found]) in known[i]
            if known is not None
            else self.memories[hop.node].holds((hop.key, hashes[found]))
            for i, hop in enumerate(hops)
        ):
            found += 1
        return found * request.prefix_block_tokens

    def cached(self, sequence: Sequence) -> int:
        """Leading tokens of a waiting sequence whose KV is there now."""
        hits = self._hits(sequence)
        return hits * sequence.request.prefix_block_tokens + self._left(sequence, hits)

    def _hits(self, sequence: Sequence) -> int:
        """Leading prefix blocks of a waiting sequence that are cached now."""
        if not self.prefix_cache:
            return 0
        request = sequence.request
        cached = self.cached_tokens(request, sequence.path.hops, sequence.prompt)
        return cached // request.prefix_block_tokens

    def _left(self, sequence: Sequence, hits: int) -> int:
        """Tokens after these hits that it left in its own blocks, on every hop."""
        request = sequence.request
        whole = _whole_hashed(request)
        if hits != whole:
            return 0
        most = (sequence.prompt - 1 - whole * request.prefix_block_tokens) // self.block_tokens
        for hop in sequence.path.hops:
            most = min(most, self.memories[hop.node].left(_left_key(hop, request.request_id)))
        return max(0, most) * self.block_tokens

    def _scale(self, request: Request) -> int:
        """KV blocks of one prefix block."""
        return request.prefix_block_tokens // self.block_tokens

    def _keys(self, request: Request, hop: Hop, count: int) -> list[Hashable]:
        return [(hop.key, request.prefix_hashes[i]) for i in range(count)]

    def share_prefix(self, sequence: Sequence) -> set[int]:
        """A prompt is computed: its further whole hashed blocks may be shared from now on.

        On each hop a block becomes an entry, which the sequence refers to, unless there is one.
        Returns the nodes that have new entries.
        """
        request = sequence.request
        made: set[int] = set()
        if sequence.entries is None or not request.prefix_hashes:
            return made
        whole = _whole_hashed(request)
        scale = self._scale(request)
        for hop, entries in zip(sequence.path.hops, sequence.entries, strict=True):
            memory = self.memories[hop.node]
            for i in range(len(entries), whole):
                key = (hop.key, request.prefix_hashes[i])
                if memory.share(key, scale * hop.block_bytes):
                    entries.append(key)
                    made.add(hop.node)
        return made


def _whole_hashed(request: Request) -> int:
    """Hashed blocks that lie within the input."""
    return min(len(request.prefix_hashes), request.input_tokens // request.prefix_block_tokens)


def _left_key(hop: Hop, owner: int) -> Hashable:
    return hop.key, "left", owner
