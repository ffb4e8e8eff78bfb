"""Attention in PyTorch: prompts after a prefix, decodes over contexts, and both in one step."""

from __future__ import annotations

# mypy: disable-error-code="import-not-found, no-untyped-call, no-any-unimported, unused-ignore"
# mypy: disable-error-code="no-any-return, misc, attr-defined"
from collections.abc import Iterator
from itertools import product
from typing import TYPE_CHECKING, Any

from infsim.calibrate.measure.kernel import Case, Kernel, Maker
from infsim.calibrate.measure.shapes import CHUNKS, CONTEXTS, Heads, Shapes
from infsim.calibrate.measure.torch_case import TOLERANCE, case, random, require_torch, wide

if TYPE_CHECKING:
    from torch import Tensor

PREFIXES = (0, 512, 2048)
DECODES = (1, 2, 4, 8, 16, 32, 64)
PROMPTS = (2, 4, 8)
MIXED_CHUNKS = (64, 256, 1024)
MIXED = tuple(product((0, 1024), (1, 4, 16), (256, 2048)))
"""Prefix of the chunk, sequences that decode, and their context."""
SHORT = 16
"""Tokens that are attended to just before, untimed: as for `TWIN`, its code is in the cache."""
MOST_ENTRIES = 2**17
"""KV entries of a decoding batch in all: more is left to the line beyond."""


def attentions(shapes: Shapes, device: str) -> Iterator[Kernel]:
    """Yield attention of each shape of heads in the usual number type, and in fp32 on processors.

    Keys and values come from memory, queries from the kernel before.
    """
    for form in dict.fromkeys((wide(device), "fp32")) if device == "cpu" else (wide(device),):
        for heads in shapes.attentions:
            attention = _Attention(heads, form, device)
            yield from (attention.decode(count) for count in DECODES)
            yield from (attention.prefill(1, prefix) for prefix in PREFIXES)
            yield from (attention.prefill(count, 0) for count in PROMPTS)
            # whether calls share a step depends neither on the format nor on the number of heads
            if form == wide(device) and heads in shapes.undivided.attentions:
                yield from (attention.mixed(*step) for step in MIXED)


class _Attention:
    """Attention of one shape of heads in one number format on one device."""

    def __init__(self, heads: Heads, form: str, device: str) -> None:
        self._heads = heads
        self._form = form
        self._device = device

    def decode(self, count: int) -> Kernel:
        """Sequences with one query each, along their context."""

        def make(context: int) -> Case:
            q, k, v = self._tensors(count, 1, context)
            short = self._tensors(1, 1, SHORT)
            return case(
                lambda: _attend(q, k, v),
                lambda: _exact(q, k, v),
                lambda: (_attend(*short), q.sum()),
                k.nbytes + v.nbytes,
            )

        points = tuple(c for c in CONTEXTS if c * count <= MOST_ENTRIES)
        return self._kernel("decode", "context", points, make, decodes=count)

    def prefill(self, count: int, prefix: int) -> Kernel:
        """Chunks of prompts after a prefix, along the length of the chunk."""

        def make(chunk: int) -> Case:
            q, k, v = self._tensors(count, chunk, prefix + chunk)
            mask = self._mask(chunk, prefix)
            short = self._tensors(1, SHORT, SHORT + min(prefix, 1))
            other = self._mask(SHORT, min(prefix, 1))
            return case(
                lambda: _attend(q, k, v, mask),
                lambda: _exact(q, k, v),
                lambda: (_attend(*short, other), q.sum()),
                k.nbytes + v.nbytes,
            )

        return self._kernel("prefill", "chunk", CHUNKS, make, prefills=count, prefix=prefix)

    def mixed(self, prefix: int, decodes: int, context: int) -> Kernel:
        """A chunk and decodes in one step, one call after the other, along the chunk."""

        def make(chunk: int) -> Case:
            q, k, v = self._tensors(1, chunk, prefix + chunk)
            mask = self._mask(chunk, prefix)
            one, keys, values = self._tensors(decodes, 1, context)

            def run() -> Tensor:
                return _joined(_attend(q, k, v, mask), _attend(one, keys, values))

            def exact() -> Tensor:
                return _joined(_exact(q, k, v), _exact(one, keys, values))

            cold_bytes = sum(x.nbytes for x in (k, v, keys, values))
            return case(run, exact, lambda: (q.sum(), one.sum()), cold_bytes)

        return self._kernel(
            "mixed", "chunk", MIXED_CHUNKS, make,
            prefills=1, prefix=prefix, decodes=decodes, context=context,
        )  # fmt: skip

    def _kernel(
        self, name: str, axis: str, points: tuple[int, ...], make: Maker, **columns: int
    ) -> Kernel:
        heads = self._heads
        told: dict[str, str | int | float] = {
            "kernel": "attention", "name": name, "format": self._form, "library": "torch-sdpa",
            "heads": heads.heads, "kv_heads": heads.kv_heads, "head_dim": heads.head_dim,
        }  # fmt: skip
        return Kernel(told | columns, axis, points, lambda: make, TOLERANCE[self._form])

    def _tensors(self, count: int, queries: int, entries: int) -> tuple[Tensor, Tensor, Tensor]:
        h = self._heads
        q = random(count, h.heads, queries, h.head_dim, form=self._form, device=self._device)
        shape = count, h.kv_heads, entries, h.head_dim
        k, v = (random(*shape, form=self._form, device=self._device) for _ in range(2))
        return q, k, v

    def _mask(self, chunk: int, prefix: int) -> Any:
        """Who sees whom; None for the kernel's own causal order, which starts at the first key."""
        if not prefix:
            return None
        torch = require_torch()
        if self._device == "cuda":  # flash attention knows this order, not a mask
            from torch.nn.attention.bias import causal_lower_right

            return causal_lower_right(chunk, prefix + chunk)
        return torch.ones(chunk, prefix + chunk, dtype=torch.bool).tril(prefix)


def _attend(q: Tensor, k: Tensor, v: Tensor, mask: Any = None) -> Tensor:
    attention = require_torch().nn.functional.scaled_dot_product_attention
    causal = mask is None and q.shape[2] > 1
    return attention(q, k, v, attn_mask=mask, is_causal=causal, enable_gqa=True)


def _exact(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attention in float64, the last query at the last key."""
    torch = require_torch()
    group = q.shape[1] // k.shape[1]
    keys, values = (x.double().repeat_interleave(group, 1) for x in (k, v))
    scores = q.double() @ keys.transpose(-1, -2) / q.shape[-1] ** 0.5
    hidden = torch.ones(scores.shape[-2:], dtype=torch.bool, device=q.device)
    hidden = hidden.triu(1 + k.shape[2] - q.shape[2])
    return scores.masked_fill(hidden, float("-inf")).softmax(-1) @ values


def _joined(a: Tensor, b: Tensor) -> Tensor:
    return require_torch().cat([a.reshape(-1), b.reshape(-1)])
