"""A small Llama in numpy, cut into stages: enough of a model that its tokens can be compared.

It is small beside its activations: three stages share the cores and the memory of one machine, and
would slow each other down as stages on machines of their own do not. With six layers of 1408
features that was 5 to 9 percent of single figures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]

HIDDEN = 512
FEED_FORWARD = 704
HEADS = 8
HEAD_DIM = HIDDEN // HEADS
VOCABULARY = 1024
LAYERS = 3
STAGES = 3
POSITIONS = 512


class Piece(NamedTuple):
    """New tokens of one sequence, after ``start`` tokens that are in the KV cache."""

    sequence: int
    start: int
    size: int
    wants_token: bool
    """Whether the token that follows is asked for."""
    last: bool = False
    """Whether that is the last one of the sequence."""


@dataclass
class Layer:
    """Weights of a layer, in the order in which the store sends them."""

    qkv: Array
    output: Array
    gate_up: Array
    down: Array

    @staticmethod
    def shapes() -> tuple[tuple[int, int], ...]:
        """Return rows and columns of the matrices."""
        return (
            (HIDDEN, 3 * HIDDEN),
            (HIDDEN, HIDDEN),
            (HIDDEN, 2 * FEED_FORWARD),
            (FEED_FORWARD, HIDDEN),
        )


def stage_shapes(stage: int) -> list[tuple[int, int]]:
    """Return the matrices that a stage holds: layers, and embeddings or head at the ends."""
    shapes = list(Layer.shapes()) * (LAYERS // STAGES)
    if stage in (0, STAGES - 1):
        shapes.append((VOCABULARY, HIDDEN))
    return shapes


def stage_bytes(stage: int) -> int:
    """Bytes of the weights of a stage."""
    return 4 * sum(rows * columns for rows, columns in stage_shapes(stage))


def stage_weights(stage: int, seed: int = 1) -> bytes:
    """Make the weights of a stage, always the same."""
    rng = np.random.default_rng([seed, stage])
    parts = []
    for rows, columns in stage_shapes(stage):
        scale = 1.0 if (rows, columns) == (VOCABULARY, HIDDEN) else rows**-0.5
        parts.append((scale * rng.standard_normal((rows, columns), dtype=np.float32)).tobytes())
    return b"".join(parts)


class Stage:
    """A third of the model with its KV cache."""

    def __init__(self, stage: int, weights: bytes | bytearray) -> None:
        self.stage = stage
        matrices, at = [], 0
        for rows, columns in stage_shapes(stage):
            size = rows * columns
            matrices.append(
                np.frombuffer(weights, np.float32, size, offset=4 * at).reshape(rows, columns)
            )
            at += size
        each = len(Layer.shapes())
        self.layers = [
            Layer(*matrices[i : i + each]) for i in range(0, each * (LAYERS // STAGES), each)
        ]
        self.ends = matrices[-1]
        self._cache: dict[int, Array] = {}
        angles = np.outer(np.arange(POSITIONS), 1e4 ** (-np.arange(HEAD_DIM // 2) / (HEAD_DIM / 2)))
        self._cos = np.cos(angles).astype(np.float32)[:, None, :]
        self._sin = np.sin(angles).astype(np.float32)[:, None, :]

    def embed(self, tokens: Sequence[int]) -> Array:
        """Return the values that go into the first layer."""
        return self.ends[list(tokens)]

    def forward(self, pieces: Sequence[Piece], values: Array) -> Array:
        """Compute the layers; the rows of ``values`` are the tokens of the pieces in turn."""
        for i, layer in enumerate(self.layers):
            values = values + self._attention(i, layer, pieces, _normed(values)) @ layer.output
            gate_up = _normed(values) @ layer.gate_up
            gate, up = gate_up[:, :FEED_FORWARD], gate_up[:, FEED_FORWARD:]
            values = values + (gate / (1 + np.exp(-gate)) * up) @ layer.down
        return values

    def tokens(self, pieces: Sequence[Piece], values: Array) -> list[int]:
        """Return the likeliest next token of each piece that wants one."""
        ends = np.cumsum([piece.size for piece in pieces]) - 1
        rows = [end for end, piece in zip(ends, pieces, strict=True) if piece.wants_token]
        if not rows:
            return []
        logits = _normed(values[rows]) @ self.ends.T
        return [int(token) for token in logits.argmax(axis=1)]

    def forget(self) -> None:
        """Empty the KV cache."""
        self._cache.clear()

    def _attention(
        self, layer: int, weights: Layer, pieces: Sequence[Piece], values: Array
    ) -> Array:
        qkv = (values @ weights.qkv).reshape(len(values), 3, HEADS, HEAD_DIM)
        out = np.empty((len(values), HEADS, HEAD_DIM), np.float32)
        at = 0
        for piece in pieces:
            rows = slice(at, at + piece.size)
            end = piece.start + piece.size
            cache = self._of(piece.sequence)[layer]
            query = self._rotated(qkv[rows, 0], piece.start)
            cache[0, piece.start : end] = self._rotated(qkv[rows, 1], piece.start)
            cache[1, piece.start : end] = qkv[rows, 2]
            keys, entries = cache[:, :end].transpose(0, 2, 1, 3)
            scores = query.transpose(1, 0, 2) @ keys.transpose(0, 2, 1) * HEAD_DIM**-0.5
            if piece.size > 1:
                hidden = np.arange(end) > np.arange(piece.start, end)[:, None]
                scores[:, hidden] = -np.inf
            weight = np.exp(scores - scores.max(axis=2, keepdims=True))
            weight /= weight.sum(axis=2, keepdims=True)
            out[rows] = (weight @ entries).transpose(1, 0, 2)
            at += piece.size
        return out.reshape(len(values), HIDDEN)

    def _of(self, sequence: int) -> Array:
        cache = self._cache.get(sequence)
        if cache is None:
            shape = (len(self.layers), 2, POSITIONS, HEADS, HEAD_DIM)
            cache = self._cache[sequence] = np.zeros(shape, np.float32)
        return cache

    def _rotated(self, values: Array, start: int) -> Array:
        rows = slice(start, start + len(values))
        cos, sin = self._cos[rows], self._sin[rows]
        a, b = values[..., : HEAD_DIM // 2], values[..., HEAD_DIM // 2 :]
        return np.concatenate([a * cos - b * sin, a * sin + b * cos], axis=-1)


def _normed(values: Array) -> Array:
    scale = np.sqrt(np.mean(values * values, axis=1, keepdims=True) + np.float32(1e-5))
    normed: Array = values / scale
    return normed
