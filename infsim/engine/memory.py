"""KV memory of a node: bytes in use, and prefixes kept for later requests."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Iterable


class KvMemory:
    """KV bytes of one node.

    Attributes
    ----------
    capacity : int
        Bytes for KV: memory minus weights.
    used : int
        Bytes that sequences hold: their own blocks and the prefix entries they refer to.
    idle_bytes : int
        Bytes of prefix entries that nobody refers to, and of blocks left behind; evicted, least
        recently used first, when an allocation needs the room.
    epoch : int
        Raised whenever everything is forgotten.
    """

    __slots__ = (
        "_bytes",
        "_idle",
        "_left",
        "_references",
        "capacity",
        "epoch",
        "idle_bytes",
        "peak",
        "used",
    )

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.used = 0
        self.peak = 0
        self.idle_bytes = 0
        self._bytes: dict[Hashable, int] = {}
        self._references: dict[Hashable, int] = {}
        self._left: dict[Hashable, tuple[int, int]] = {}
        self._idle: OrderedDict[Hashable, None] = OrderedDict()
        self.epoch = 0

    @property
    def free(self) -> int:
        """Bytes that an allocation may take."""
        return self.capacity - self.used

    def allocate(self, size: int) -> None:
        """Take bytes; the caller has checked that they are free."""
        self.used += size
        if self.used > self.peak:
            self.peak = self.used
        while self.used + self.idle_bytes > self.capacity and self._idle:
            key = next(iter(self._idle))
            if key in self._left:
                self._shorten(key)
            else:
                del self._idle[key]
                self.idle_bytes -= self._bytes.pop(key)

    def release(self, size: int) -> None:
        """Give back own bytes."""
        self.used -= size

    def unrefer(self, key: Hashable) -> None:
        """Refer to an entry no more; the last one to do so leaves it idle."""
        left = self._references[key] - 1
        if left:
            self._references[key] = left
            return
        del self._references[key]
        self._idle[key] = None
        self.used -= self._bytes[key]
        self.idle_bytes += self._bytes[key]

    def entries(self) -> set[Hashable]:
        """All prefix entries that are here."""
        return set(self._bytes)

    def holds(self, key: Hashable) -> bool:
        """Whether a prefix entry is here."""
        return key in self._bytes

    def idle_size(self, keys: Iterable[Hashable]) -> int:
        """Bytes of those entries that nobody refers to at present."""
        return sum(self._bytes[key] for key in keys if key in self._idle)

    def refer(self, keys: Iterable[Hashable]) -> None:
        """Refer to entries that are here."""
        for key in keys:
            count = self._references.get(key, 0)
            self._references[key] = count + 1
            if not count:
                del self._idle[key]
                size = self._bytes[key]
                self.idle_bytes -= size
                self.used += size

    def share(self, key: Hashable, size: int) -> bool:
        """Turn own bytes into an entry that the caller refers to; False if it exists."""
        if key in self._bytes:
            return False
        self._bytes[key] = size
        self._references[key] = 1
        return True

    # --- blocks that a sequence has left behind ------------------------------------------------

    def leave(self, key: Hashable, blocks: int, size: int) -> None:
        """Keep blocks of so many bytes that were just given back, until the room is needed."""
        self.take(key)
        if blocks:
            self._left[key] = blocks, size
            self._idle[key] = None
            self.idle_bytes += blocks * size

    def left(self, key: Hashable) -> int:
        """How many of the blocks that were left are still here."""
        return self._left[key][0] if key in self._left else 0

    def take(self, key: Hashable) -> None:
        """Take back, or forget, what was left."""
        if key in self._left:
            blocks, size = self._left.pop(key)
            del self._idle[key]
            self.idle_bytes -= blocks * size

    def _shorten(self, key: Hashable) -> None:
        """Evict as many of the last blocks as room is needed for."""
        blocks, size = self._left[key]
        need = self.used + self.idle_bytes - self.capacity
        gone = min(blocks, -(-need // size)) if size else blocks
        self.idle_bytes -= gone * size
        if gone < blocks:
            self._left[key] = blocks - gone, size
        else:
            del self._left[key], self._idle[key]

    def clear(self) -> None:
        """Forget everything: the node failed."""
        self.used = self.idle_bytes = 0
        self._bytes.clear()
        self._references.clear()
        self._idle.clear()
        self._left.clear()
        self.epoch += 1
