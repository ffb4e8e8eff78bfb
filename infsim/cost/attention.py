"""Time of attention in a batch, from measured grids.

A batch is known by its totals: prompt tokens T, their query-key pairs P, sequences D that decode
one token each, and the KV entries C that these read. Grids were measured with one prompt chunk and
with decodes of equal length, and are read as follows.

- Decodes: D sequences of C / D entries each. Between points of the grid the time is linear in the
  context, so that a growing batch moves along a line.
- Prompts: one chunk of T tokens after the prefix that gives it P pairs. Where even a chunk without
  a prefix has more pairs than that, several chunks share the batch: ``T / t`` of them, with t
  tokens and no prefix. Where such batches were not measured, they run side by side until they
  fill the processors, then in turns, and move their queries, keys, values and answers.
- Both: the grid of mixed batches if there is one, the sum otherwise.

Other head counts of the same head size are other amounts of the same work: queries scale prompts,
KV heads scale decodes (one block of a kernel computes one head of one sequence).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from math import ceil

from infsim.cost.calibration import AttentionTable

_Planes = list[list[list[float]]]

FULL = 8192
"""Query tokens times heads that fill the processors of a device: 256 tokens of 32 heads on the
RTX 4090, where a chunk of fewer, after a long prefix, takes no less time."""

MOVED = 0.6
"""Share of the memory's peak at which attention moves the values of many short prompts, about as
on the A100 and the L40S."""


class AttentionTime:
    """Seconds of attention of one operator.

    Parameters
    ----------
    table : AttentionTable
    query_ratio, kv_ratio : float
        Query heads and KV heads of the operator (its shard) over those of the table.
    pair_s, entry_s : float
        No less than this per query-key pair, and per KV entry, by the peaks of the device.
    """

    def __init__(
        self,
        table: AttentionTable,
        query_ratio: float = 1.0,
        kv_ratio: float = 1.0,
        pair_s: float = 0.0,
        entry_s: float = 0.0,
    ) -> None:
        self.table = table
        self._queries, self._keys = query_ratio, kv_ratio
        self.pair_s, self.entry_s = pair_s, entry_s
        self._chunks, self._prefixes = table.chunks, table.prefixes
        self._prefill = _rows(table.prefill_s, len(table.prefixes))
        self._decode = _rows(table.decode_s, len(table.contexts))
        self._joint: dict[int, _Planes] = {}
        self._placed: dict[float, tuple[int, float]] = {}
        self._several = _rows(table.prompts_s, len(table.prompt_chunks) or 1)
        group = table.heads / table.kv_heads
        self._token_s = (1 + group) * entry_s / kv_ratio / MOVED
        self.most_sequences = table.sequences[-1] / kv_ratio
        self.longest_context = table.contexts[-1]
        self.longest_chunk = table.chunks[-1] / query_ratio
        self.longest_prefix = table.prefixes[-1] + table.chunks[-1] / 2  # pairs per token

    @property
    def contexts(self) -> tuple[float, ...]:
        """Entries per sequence between which decodes are linear."""
        return self.table.contexts

    def decode_s(self, sequences: float) -> list[float]:
        """Seconds of so many decodes at each of `contexts`, never below the physical bound."""
        i, f = _place(self.table.sequences, sequences * self._keys)
        least = sequences * self.entry_s
        return [
            max(a + f * (b - a), least * c)
            for a, b, c in zip(self._decode[i], self._decode[i + 1], self.contexts, strict=True)
        ]

    def prefill_s(self, tokens: float, pairs: float) -> float:
        """Seconds of prompts without decodes."""
        place = self._placed.get(tokens)
        if place is None:
            place = self._placed[tokens] = _place(self._chunks, tokens * self._queries)
        prefix = pairs / tokens - (tokens * self._queries + 1) / 2
        if prefix >= 0 and tokens <= self.longest_chunk:
            i, f = place
            k, u = _place(self._prefixes, prefix)
            time_s = _between(self._prefill[i], self._prefill[i + 1], f, k, u)
        else:
            blocks, chunk, prefix, others_s = self._one_chunk(tokens, pairs)
            time_s = blocks * (self._chunk_s(chunk, prefix) + others_s)
        least_s = pairs * self.pair_s
        return time_s if time_s > least_s else least_s

    @property
    def is_joint(self) -> bool:
        """Whether prompts and decodes in one batch were measured."""
        return bool(self.table.mixed_s)

    def mixed_s(self, tokens: float, pairs: float, sequences: int, context: float) -> float:
        """Seconds of prompts and decodes together, of a table that `is_joint`."""
        blocks, chunk, prefix, others_s = self._one_chunk(tokens, pairs)
        planes = self._joint.get(sequences)
        if planes is None:
            planes = self._joint[sequences] = self._joint_planes(sequences)
        table = self.table
        i, f = _place(table.mixed_chunks, chunk)
        k, u = _place(table.mixed_prefixes, prefix)
        m, v = _place(table.mixed_contexts, context / sequences)
        near, far = planes[i], planes[i + 1]
        low = _between(near[k], near[k + 1], u, m, v)
        time_s = low + f * (_between(far[k], far[k + 1], u, m, v) - low) + others_s
        if blocks > 1:  # the decodes are in one of them
            time_s += (blocks - 1) * (self._chunk_s(chunk, prefix) + others_s)
        return max(time_s, pairs * self.pair_s, context * self.entry_s)

    def _joint_planes(self, sequences: int) -> _Planes:
        """Times of mixed batches with so many decodes: by chunk, then prefix, then context."""
        table = self.table
        counts, width = table.mixed_sequences, len(table.mixed_contexts)
        j, g = _place(counts, sequences * self._keys)
        rows = _rows(table.mixed_s, width)  # by chunk, prefix, sequences
        starts = range(0, len(rows), len(counts))
        blended = [
            [a + g * (b - a) for a, b in zip(rows[s + j], rows[s + j + 1], strict=True)]
            for s in starts
        ]
        deep = len(table.mixed_prefixes)
        return [blended[i : i + deep] for i in range(0, len(blended), deep)]

    def _one_chunk(self, tokens: float, pairs: float) -> tuple[float, float, float, float]:
        """Return blocks, and of each: chunk, prefix, and seconds of what is not in this chunk."""
        tokens *= self._queries
        pairs *= self._queries
        longest = self._chunks[-1]
        blocks = 1.0
        if tokens > longest:
            blocks = float(ceil(tokens / longest))
            tokens /= blocks
            pairs /= blocks
        prefix = pairs / tokens - (tokens + 1) / 2
        if prefix >= 0:
            return blocks, tokens, prefix, 0.0
        alone = max(2 * pairs / tokens - 1, 1.0)
        return blocks, alone, 0.0, self._others_s(tokens / alone, alone)

    def _others_s(self, prompts: float, chunk: float) -> float:
        """Seconds that further prompts of the same length take beside the first."""
        first_s = self._chunk_s(chunk, 0.0)
        if self._several:
            i, f = _place(self.table.prompts, prompts)
            k, u = _place(self.table.prompt_chunks, chunk)
            return max(_between(self._several[i], self._several[i + 1], f, k, u) - first_s, 0.0)
        filled = min(chunk * self.table.heads / FULL, 1.0)
        turns_s = (prompts * filled - 1) * (first_s - self._prefill[0][0])
        return max(turns_s, (prompts - 1) * chunk * self._token_s, 0.0)

    def _chunk_s(self, chunk: float, prefix: float) -> float:
        i, f = _place(self._chunks, chunk)
        k, u = _place(self._prefixes, prefix)
        return _between(self._prefill[i], self._prefill[i + 1], f, k, u)


def _place(axis: Sequence[float], x: float) -> tuple[int, float]:
    """Return the interval of an axis that x is in, and how far in it; before the axis, its start.

    Beyond the axis the share is above 1: values are continued along the last interval.
    """
    i = bisect_right(axis, x) - 1
    if i < 0:
        return 0, 0.0
    last = len(axis) - 2
    if i > last:
        i = last
    low = axis[i]
    return i, (x - low) / (axis[i + 1] - low)


def _between(row: Sequence[float], above: Sequence[float], f: float, k: int, u: float) -> float:
    """Return what lies a share f between two rows, and a share u after their k-th column."""
    low = row[k]
    low += u * (row[k + 1] - low)
    high = above[k]
    return low + f * (high + u * (above[k + 1] - high) - low)


def _rows(times: Sequence[float], width: int) -> list[Sequence[float]]:
    return [times[i : i + width] for i in range(0, len(times), width)]
