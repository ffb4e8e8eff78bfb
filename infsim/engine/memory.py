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
        Bytes of prefix entries that nobody refers to; evicted, least recently used first,
        when an allocation needs the room.
    epoch : int
        Raised whenever everything is forgotten.
    """

    __slots__ = (
        "_bytes",
        "_idle",
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
            key, _ = self._idle.popitem(last=False)
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

    def clear(self) -> None:
        """Forget everything: the node failed."""
        self.used = self.idle_bytes = 0
        self._bytes.clear()
        self._references.clear()
        self._idle.clear()
        self.epoch += 1
