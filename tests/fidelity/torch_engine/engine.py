"""A small serving engine in PyTorch, of the kernels that `infsim calibrate run` measures.

A step computes prompts, each by itself, and all decodes together: in the slots from the first to
the last that decodes, over as many entries as the longest of them has, the others masked. What
does not depend on the layer is made once a step.
"""

from __future__ import annotations

# mypy: disable-error-code="import-not-found, no-untyped-call, no-any-unimported, unused-ignore"
# mypy: disable-error-code="no-any-return, misc, attr-defined"
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from infsim.calibrate.llama_cpp.library import Piece
from infsim.calibrate.measure.torch_case import random, require_torch, wide
from infsim.calibrate.measure.torch_model import Form, Layers, random_weights
from infsim.model.architecture import Architecture

if TYPE_CHECKING:
    from torch import Tensor

ROTARY_BASE = 10000.0


class TorchEngine:
    """A model with random weights and a KV cache for some sequences.

    Parameters
    ----------
    model : Architecture
        Without experts, with tied embeddings.
    form : Form
        Of the layers' matrices.
    sequences : int
        Slots of the KV cache.
    longest : int
        Tokens of a slot.
    device : str
        ``cpu`` or ``cuda``.
    """

    def __init__(
        self, model: Architecture, form: Form, sequences: int, longest: int, device: str = "cpu"
    ) -> None:
        torch = require_torch()
        self._weights = random_weights(model, form, device)
        self._layers = Layers(model, self._weights)
        self._device = device
        shape = 2, sequences, longest, model.kv_heads, model.head_dim
        self._caches = [
            random(*shape, form=wide(device), device=device) for _ in range(model.layers)
        ]
        rate = ROTARY_BASE ** -(torch.arange(0, model.head_dim, 2) / model.head_dim)
        angle = (torch.arange(longest)[:, None] * torch.cat([rate, rate]))[:, None].to(device)
        self._cos, self._sin = (
            f(angle).to(self._weights.head.dtype) for f in (torch.cos, torch.sin)
        )

    def step(self, pieces: Sequence[Piece]) -> list[int]:
        """Compute some tokens; the likeliest next one of each piece that wants one, in order."""
        torch = require_torch()
        with torch.inference_mode():
            batch = _Batch(pieces, self._caches[0])
            x = self._weights.head[batch.ids]
            cos, sin = self._cos[batch.positions], self._sin[batch.positions]
            for products, cache in zip(self._weights.layers, self._caches, strict=True):
                x = self._layers.layer(x, products, cos, sin, partial(batch.attend, cache))
            found: list[int] = self._layers.logits(x[batch.wanting]).argmax(-1).tolist()
        return found

    def forget(self, sequence: int, start: int = 0) -> None:
        """Nothing to do: what a slot held is never read again before it is written."""


class _Batch:
    """What all layers of a step share: where tokens are, and who sees whom."""

    def __init__(self, pieces: Sequence[Piece], cache: Tensor) -> None:
        torch = require_torch()
        self._attention = torch.nn.functional.scaled_dot_product_attention
        self._slot = cache.shape[2]
        device = cache.device

        def tensor(values: Sequence[int]) -> Tensor:
            return torch.tensor(values, dtype=torch.int64, device=device)

        ends, self._chunks = 0, []
        decodes: list[tuple[int, int, int]] = []
        ids: list[int] = []
        entries: list[int] = []
        positions: list[int] = []
        wanting = []
        for piece in pieces:
            size = len(piece.tokens)
            ids += piece.tokens
            own = range(piece.start, piece.start + size)
            positions += own
            entries += [piece.sequence * self._slot + i for i in own]
            if size == 1 and piece.start:
                decodes.append((piece.sequence, ends, piece.start + 1))
            else:
                mask = torch.ones(size, piece.start + size, dtype=torch.bool, device=device)
                self._chunks.append((ends, piece, mask.tril(piece.start) if piece.start else None))
            ends += size
            if piece.wants_token:
                wanting.append(ends - 1)
        self.ids, self.positions, self.wanting = tensor(ids), tensor(positions), tensor(wanting)
        self._entries = tensor(entries)
        self._decodes = len(decodes)
        if decodes:
            at, rows, lengths = zip(*sorted(decodes), strict=True)
            self._alone = rows == tuple(range(ends))  # nothing else, and in the order of slots
            self._first, self._last = at[0], at[-1]
            self._longest = max(lengths)
            self._rows, self._at = tensor(rows), tensor(at) - self._first
            self._mask = self._seen(tensor(lengths), cache)

    def _seen(self, lengths: Tensor, cache: Tensor) -> Tensor | None:
        """What is added to scores; None where all slots of the span see all entries."""
        torch = require_torch()
        slots = self._last + 1 - self._first
        if slots == self._decodes and int(lengths.min()) == self._longest:
            return None
        seen = torch.ones(slots, dtype=torch.int64, device=cache.device)
        seen[self._at] = lengths
        hidden = torch.arange(self._longest, device=cache.device) >= seen[:, None]
        mask = torch.zeros(hidden.shape, dtype=cache.dtype, device=cache.device)
        return mask.masked_fill(hidden, float("-inf"))[:, None, None]

    def attend(self, cache: Tensor, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Write keys and values into the cache of a layer, and return what each token sees."""
        for new, old in zip((k, v), cache.flatten(1, 2), strict=True):
            old.index_copy_(0, self._entries, new)
        parts = [self._chunk(cache, q, *chunk) for chunk in self._chunks]
        if not self._decodes:
            return parts[0] if len(parts) == 1 else require_torch().cat(parts)
        decoded = self._decoded(cache, q)
        if self._alone:
            return decoded
        found = q.new_empty(len(q), decoded.shape[1])
        found[self._rows] = decoded
        for (row, piece, _), part in zip(self._chunks, parts, strict=True):
            found[row : row + len(piece.tokens)] = part
        return found

    def _chunk(self, cache: Tensor, q: Tensor, row: int, piece: Piece, mask: Tensor) -> Tensor:
        size = len(piece.tokens)
        seen = cache[:, piece.sequence, None, : piece.start + size].transpose(2, 3)
        query = q[row : row + size].transpose(0, 1)[None]
        causal = mask is None and size > 1
        part = self._attention(query, *seen, attn_mask=mask, is_causal=causal, enable_gqa=True)
        return part[0].transpose(0, 1).flatten(1)

    def _decoded(self, cache: Tensor, q: Tensor) -> Tensor:
        """What decodes see, in the order of their slots."""
        slots = self._last + 1 - self._first
        query = q if self._alone else q[self._rows]
        if slots > self._decodes:
            spread = query.new_zeros(slots, *query.shape[1:])
            spread[self._at] = query
            query = spread
        seen = cache[:, self._first : self._last + 1, : self._longest].transpose(2, 3)
        part = self._attention(query[:, :, None], *seen, attn_mask=self._mask, enable_gqa=True)
        part = part[:, :, 0].flatten(1)
        return part[self._at] if slots > self._decodes else part
