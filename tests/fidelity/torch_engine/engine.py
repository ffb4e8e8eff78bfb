"""A small serving engine in PyTorch, of the kernels that `infsim calibrate run` measures.

A step computes prompts, each by itself, and all decodes together: in the slots from the first to
the last that decodes, over as many entries as the longest of them has, the others masked.
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
        shape = sequences, model.kv_heads, longest, model.head_dim
        self._caches = [
            tuple(random(*shape, form=wide(device), device=device) for _ in range(2))
            for _ in range(model.layers)
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
            batch = _Batch(pieces, self._device)
            x = self._weights.head[batch.ids]
            cos, sin = self._cos[batch.positions], self._sin[batch.positions]
            for products, cache in zip(self._weights.layers, self._caches, strict=True):
                x = self._layers.layer(x, products, cos, sin, partial(batch.attend, *cache))
            found: list[int] = self._layers.logits(x[batch.wanting]).argmax(-1).tolist()
        return found

    def forget(self, sequence: int, start: int = 0) -> None:
        """Nothing to do: what a slot held is never read again before it is written."""


class _Batch:
    """What all layers of a step share: where tokens are, and who sees whom."""

    def __init__(self, pieces: Sequence[Piece], device: str) -> None:
        torch = require_torch()
        self._attention = torch.nn.functional.scaled_dot_product_attention

        def tensor(values: list[int]) -> Tensor:
            return torch.tensor(values, dtype=torch.int64, device=device)

        ends, self._chunks, decodes = 0, [], []
        ids: list[int] = []
        slots: list[int] = []
        positions: list[int] = []
        wanting = []
        for piece in pieces:
            size = len(piece.tokens)
            ids += piece.tokens
            slots += [piece.sequence] * size
            positions += range(piece.start, piece.start + size)
            if size == 1 and piece.start:
                decodes.append((ends, piece.sequence, piece.start + 1))
            else:
                mask = torch.ones(size, piece.start + size, dtype=torch.bool, device=device)
                self._chunks.append((ends, piece, mask.tril(piece.start) if piece.start else None))
            ends += size
            if piece.wants_token:
                wanting.append(ends - 1)
        self.ids, self.positions, self.wanting = tensor(ids), tensor(positions), tensor(wanting)
        self._slots = tensor(slots)
        self._decodes = bool(decodes)
        if decodes:
            rows, at, lengths = (list(column) for column in zip(*decodes, strict=True))
            first = min(at)
            self._span = slice(first, max(at) + 1)
            self._longest = max(lengths)
            self._rows, self._at = tensor(rows), tensor(at) - first
            seen = torch.ones(max(at) + 1 - first, dtype=torch.int64, device=device)
            seen[self._at] = tensor(lengths)
            entries = torch.arange(self._longest, device=device)
            self._mask = (entries < seen[:, None])[:, None, None]

    def attend(self, keys: Tensor, values: Tensor, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Write keys and values into the cache of a layer, and return what each token sees."""
        keys[self._slots, :, self.positions] = k
        values[self._slots, :, self.positions] = v
        found = q.new_empty(q.shape)
        for row, piece, mask in self._chunks:
            end = piece.start + len(piece.tokens)
            own = slice(row, row + len(piece.tokens))
            seen = (cache[piece.sequence : piece.sequence + 1, :, :end] for cache in (keys, values))
            query = q[own].transpose(0, 1)[None]
            causal = mask is None and len(piece.tokens) > 1
            part = self._attention(query, *seen, attn_mask=mask, is_causal=causal, enable_gqa=True)
            found[own] = part[0].transpose(0, 1)
        if self._decodes:
            seen = (cache[self._span, :, : self._longest] for cache in (keys, values))
            query = q.new_zeros(len(self._mask), *q.shape[1:])
            query[self._at] = q[self._rows]
            part = self._attention(query[:, :, None], *seen, attn_mask=self._mask, enable_gqa=True)
            found[self._rows] = part[self._at, :, 0]
        return found.flatten(1)
