"""Time of attention in a batch, from measured grids.

A batch is known by its totals: prompt tokens T, their query-key pairs P, sequences D that decode
one token each, and the KV entries C that these read. Grids were measured with one prompt chunk and
with decodes of equal length, and are read as follows.

- Along the length of a chunk, times follow a monotone cubic through those measured
  (`infsim.cost.monotone`); along all other axes, lines.
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

import numpy as np

from infsim.cost.grids import Axis, Cell, Layer, Layers, Plane
from infsim.cost.monotone import refined
from infsim.cost.tables import AttentionTable

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
        chunks, prefill_s = _along_chunks((table.chunks, table.prefixes), table.prefill_s, 0)
        self._prefill = Plane(chunks, table.prefixes, prefill_s)
        self._chunks, self._prefixes = chunks, table.prefixes
        self._shortest_s, self._filled = table.prefill_s[0], table.heads / FULL
        none = bisect_right(table.prefixes, 0.0)
        self._alone = [  # the cells of chunks without a prefix, along the chunk
            (x, c - c_y * y, c_x - c_xy * y)
            for x, y, c, c_x, c_y, c_xy in (row[none] for row in self._prefill.cells)
        ]
        self._decode = Plane(table.sequences, table.contexts, table.decode_s)
        self._several: Plane | None = None
        if table.prompts:
            axes = table.prompts, table.prompt_chunks
            lengths, prompts_s = _along_chunks(axes, table.prompts_s, 1)
            self._several = Plane(table.prompts, lengths, prompts_s)
        self._mixed: Layers | None = None
        if table.mixed_s:
            mixed = (
                table.mixed_chunks, table.mixed_prefixes, table.mixed_sequences,
                table.mixed_contexts,
            )  # fmt: skip
            lengths, mixed_s = _along_chunks(mixed, table.mixed_s, 0)
            self._mixed = Layers(lengths, *mixed[1:], mixed_s)
        self._beside: dict[int, Layer] = {}
        self._sizes: dict[float, _Size] = {}
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
        scaled, least = sequences * self._keys, sequences * self.entry_s
        return [max(self._decode.at(scaled, c), least * c) for c in self.contexts]

    def prefill_s(self, tokens: float, pairs: float) -> float:
        """Seconds of prompts without decodes."""
        blocks, chunk, half, row = self._sizes.get(tokens) or self._size(tokens)
        per_token = pairs / tokens
        prefix = per_token - half
        if prefix >= 0:
            x, y, c, c_x, c_y, c_xy = row[bisect_right(self._prefixes, prefix)]
            x = chunk - x
            time_s = c + c_x * x + (c_y + c_xy * x) * (prefix - y)
        else:
            length = 2 * per_token - 1
            if length < 1.0:
                length = 1.0
            x, c, c_x = self._alone[bisect_right(self._chunks, length)]
            time_s = c + c_x * (length - x)
            time_s += self._others_s(chunk / length, length, time_s)
        if blocks > 1:
            time_s *= blocks
        least_s = pairs * self.pair_s
        return time_s if time_s > least_s else least_s

    @property
    def is_joint(self) -> bool:
        """Whether prompts and decodes in one batch were measured."""
        return self._mixed is not None

    def mixed_s(self, tokens: float, pairs: float, sequences: int, context: float) -> float:
        """Seconds of prompts and decodes together, of a table that `is_joint`."""
        blocks, chunk, half, _ = self._sizes.get(tokens) or self._size(tokens)
        layer = self._beside.get(sequences) or self._layer(sequences)
        per_token = pairs / tokens
        prefix = per_token - half
        others_s = 0.0
        if prefix < 0:
            length = 2 * per_token - 1
            if length < 1.0:
                length = 1.0
            x, c, c_x = self._alone[bisect_right(self._chunks, length)]
            others_s = self._others_s(chunk / length, length, c + c_x * (length - x))
            chunk, prefix = length, 0.0
        z = context / sequences
        # this is `layer.at`, without the call
        i, k = bisect_right(layer.x, chunk), bisect_right(layer.y, prefix)
        m = bisect_right(layer.z, z)
        x, y, z0, c, c_x, c_y, c_xy, u, v, w, q = layer.cells[i][k][m] or layer.make(i, k, m)
        x = chunk - x
        y = prefix - y
        time_s = c + c_x * x + (c_y + c_xy * x) * y + (u + v * x + (w + q * x) * y) * (z - z0)
        time_s += others_s
        if blocks > 1:  # the decodes are in one of them
            time_s += (blocks - 1) * (self._prefill.at(chunk, prefix) + others_s)
        least_s = pairs * self.pair_s
        if time_s < least_s:
            time_s = least_s
        least_s = context * self.entry_s
        return time_s if time_s > least_s else least_s

    def _layer(self, sequences: int) -> Layer:
        """Times of mixed batches with so many decodes."""
        assert self._mixed is not None
        layer = self._beside[sequences] = self._mixed.at(sequences * self._keys)
        return layer

    def _size(self, tokens: float) -> _Size:
        """What depends on the tokens only, for prompts of as many heads as the table's."""
        chunk, longest, blocks = tokens * self._queries, self.table.chunks[-1], 1.0
        if chunk > longest:
            blocks = float(ceil(chunk / longest))
            chunk /= blocks
        row = self._prefill.cells[bisect_right(self._prefill.x, chunk)]
        size = self._sizes[tokens] = blocks, chunk, (chunk + 1) / 2, row
        return size

    def _others_s(self, prompts: float, chunk: float, first_s: float) -> float:
        """Seconds that further prompts of the same length take beside the first, no prefix."""
        several = self._several
        if several is not None:  # this is `several.at`, without the call
            x, y, c, c_x, c_y, c_xy = several.cells[bisect_right(several.x, prompts)][
                bisect_right(several.y, chunk)
            ]
            x = prompts - x
            others_s = c + c_x * x + (c_y + c_xy * x) * (chunk - y) - first_s
        else:
            filled = chunk * self._filled
            turns = prompts - 1 if filled > 1 else prompts * filled - 1
            others_s = turns * (first_s - self._shortest_s)
            moved_s = (prompts - 1) * chunk * self._token_s
            if moved_s > others_s:
                others_s = moved_s
        return others_s if others_s > 0.0 else 0.0


def _along_chunks(
    axes: Sequence[Axis], times: Sequence[float], axis: int
) -> tuple[tuple[float, ...], list[float]]:
    """Return the axis of chunks, and a grid, with points on the curve between those measured."""
    cells = np.array(times).reshape([len(each) for each in axes])
    points, cells = refined(axes[axis], cells, axis)
    return points, cells.ravel().tolist()


_Size = tuple[float, float, float, list[Cell]]
"""Blocks that the longest measured chunk makes of so many tokens, the chunk of each, its pairs per
token where there is no prefix, and its row of cells along the prefixes."""
