"""Reservations of KV memory along paths."""

from __future__ import annotations

from collections.abc import Hashable
from collections.abc import Sequence as Sequences

from infsim.engine.memory import KvMemory
from infsim.engine.paths import Hop
from infsim.engine.sequence import Sequence
from infsim.policy.interface import Request

Holding = tuple[KvMemory, int, int, Sequences[Hashable]]
"""A memory, its epoch, and the own bytes and prefix entries that a lost sequence has there."""


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

    def fits(self, sequences: Sequences[Sequence]) -> bool:
        """Whether the prompts of these sequences can be reserved together."""
        if len(sequences) == 1 and not self.prefix_cache:
            path = sequences[0].path
            if len(path.hops) == 1:
                hop = path.hops[0]
                need = self.blocks(sequences[0].prompt) * hop.block_bytes
                return need <= self.memories[hop.node].free
        return self._fit(sequences, [memory.free for memory in self.memories])

    def possible(self, sequence: Sequence) -> bool:
        """Whether the prompt would fit into empty memories."""
        return self._fit([sequence], [memory.capacity for memory in self.memories], cached=False)

    def _fit(self, sequences: Sequences[Sequence], free: list[int], *, cached: bool = True) -> bool:
        for sequence in sequences:
            shared = self._cached_blocks(sequence) if cached else 0
            blocks = self.blocks(sequence.prompt)
            for hop in sequence.path.hops:
                free[hop.node] -= self._need(sequence, hop, blocks, shared)
                if free[hop.node] < 0:
                    return False
        return True

    def _need(self, sequence: Sequence, hop: Hop, blocks: int, shared: int) -> int:
        own = (blocks - self._own_scale(sequence.request) * shared) * hop.block_bytes
        if not shared:
            return own
        return own + self.memories[hop.node].idle_size(self._keys(sequence.request, hop, shared))

    def _own_scale(self, request: Request) -> int:
        """KV blocks of one hashed prefix block."""
        return request.prefix_block_tokens // self.block_tokens

    def reserve(self, sequence: Sequence) -> None:
        """Reserve the prompt on every hop; cached prefix blocks count as computed."""
        blocks = self.blocks(sequence.prompt)
        shared = self._cached_blocks(sequence)
        request = sequence.request
        if self.prefix_cache:
            sequence.entries = [self._keys(request, hop, shared) for hop in sequence.path.hops]
            for hop, keys in zip(sequence.path.hops, sequence.entries, strict=True):
                self.memories[hop.node].refer(keys)
        sequence.blocks = blocks
        sequence.computed = sequence.kv = shared * request.prefix_block_tokens
        sequence.ticket.cached_tokens = sequence.computed
        own = blocks - shared * self._own_scale(request) if shared else blocks
        for hop in sequence.path.hops:
            self.memories[hop.node].allocate(own * hop.block_bytes)

    def release(self, sequence: Sequence) -> None:
        """Give back everything on every hop."""
        for memory, _, size, entries in self.holdings(sequence):
            memory.release(size, entries)
        sequence.blocks = 0
        sequence.entries = None

    def holdings(self, sequence: Sequence) -> list[Holding]:
        """What the sequence holds, hop by hop."""
        held: list[Holding] = []
        scale = self._own_scale(sequence.request)
        for i, hop in enumerate(sequence.path.hops):
            memory = self.memories[hop.node]
            entries = sequence.entries[i] if sequence.entries else ()
            own = (sequence.blocks - scale * len(entries)) * hop.block_bytes
            held.append((memory, memory.epoch, own, entries))
        return held

    def room_for_block(self, sequence: Sequence) -> bool:
        """Whether every hop has room for one more block."""
        memories = self.memories
        hops = sequence.path.hops
        if len(sequence.path.nodes) == len(hops):
            return all(hop.block_bytes <= memories[hop.node].free for hop in hops)
        need = dict.fromkeys(sequence.path.nodes, 0)
        for hop in hops:
            need[hop.node] += hop.block_bytes
        return all(size <= memories[node].free for node, size in need.items())

    def add_block(self, sequence: Sequence) -> None:
        """Reserve one more block on every hop."""
        sequence.blocks += 1
        for hop in sequence.path.hops:
            self.memories[hop.node].allocate(hop.block_bytes)

    # --- prefixes ------------------------------------------------------------------------------

    def cached_tokens(self, request: Request, hops: Sequences[Hop], prompt: int) -> int:
        """Leading tokens cached on every hop, leaving one to compute."""
        hashes = request.prefix_hashes
        limit = min(len(hashes), (prompt - 1) // request.prefix_block_tokens)
        found = 0
        while found < limit and all(
            self.memories[hop.node].holds((hop.key, hashes[found])) for hop in hops
        ):
            found += 1
        return found * request.prefix_block_tokens

    def cached(self, sequence: Sequence) -> int:
        """Leading tokens of a waiting sequence that are cached now."""
        return self.cached_tokens(sequence.request, sequence.path.hops, sequence.prompt)

    def _cached_blocks(self, sequence: Sequence) -> int:
        if not self.prefix_cache:
            return 0
        return self.cached(sequence) // sequence.request.prefix_block_tokens

    def _keys(self, request: Request, hop: Hop, count: int) -> list[Hashable]:
        return [(hop.key, request.prefix_hashes[i]) for i in range(count)]

    def share_prefix(self, sequence: Sequence) -> None:
        """A prompt is computed: its further whole hashed blocks may be shared from now on.

        On each hop a block becomes an entry, which the sequence refers to, unless there is one.
        """
        request = sequence.request
        if sequence.entries is None or not request.prefix_hashes:
            return
        whole = min(len(request.prefix_hashes), request.input_tokens // request.prefix_block_tokens)
        scale = self._own_scale(request)
        for hop, entries in zip(sequence.path.hops, sequence.entries, strict=True):
            memory = self.memories[hop.node]
            for i in range(len(entries), whole):
                key = (hop.key, request.prefix_hashes[i])
                if memory.share(key, scale * hop.block_bytes):
                    entries.append(key)
