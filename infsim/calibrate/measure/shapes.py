"""Shapes to measure: the layers of models of the catalogue, and their tensor-parallel shards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from infsim.model.architecture import Architecture
from infsim.model.catalog import load_architecture

TOKENS = (
    *range(1, 9), 10, 12, 14, 16, 20, 24, 28, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224,
    256, 320, 384, 448, 512, 640, 768, 896, 1024, 1280, 1536, 1792, 2048, 2560, 3072, 4096, 5120,
    6144, 8192,
)  # fmt: skip
"""Dense where batches are small: kernels change their tiles there."""
SMALL = 8
"""Linear layers are measured at every number of tokens up to this."""
CONTEXTS = (16, 32, 64, 128, 256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096, 6144, 8192)
CHUNKS = (16, 32, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096, 8192)


@dataclass(frozen=True)
class Matrix:
    """A linear layer: what it is for, output and input features, ranks that share it."""

    name: str
    n: int
    k: int
    devices: int


@dataclass(frozen=True)
class Heads:
    """Attention heads on one rank."""

    heads: int
    kv_heads: int
    head_dim: int


@dataclass(frozen=True)
class Shapes:
    """The shapes of some models on some numbers of ranks, without repeats.

    Parameters
    ----------
    models : sequence of str
        Transformers of the catalogue.
    shards : sequence of int
        Degrees of tensor parallelism.

    Raises
    ------
    InputError
        For an unknown model, or one that is no transformer.
    """

    models: Sequence[str]
    shards: Sequence[int] = (1,)

    def __post_init__(self) -> None:
        for name in self.models:
            load_architecture(name)

    @property
    def undivided(self) -> Shapes:
        """The same models on the fewest ranks."""
        return Shapes(self.models, self.shards[:1])

    @property
    def matrices(self) -> tuple[Matrix, ...]:
        """Linear layers, routers and experts left out."""
        found: dict[tuple[int, int], Matrix] = {}
        for model in self._models():
            for linear in model.graph().operators[0].linears:
                if linear.expert or linear.name == "router":
                    continue
                for devices in self.shards:
                    shape = linear.shard(devices)
                    found.setdefault(shape, Matrix(linear.name, *shape, devices))
        return tuple(found.values())

    @property
    def attentions(self) -> tuple[Heads, ...]:
        """Heads of each model and shard."""
        found = [
            Heads(m.heads // devices, max(m.kv_heads // devices, 1), m.head_dim)
            for m in self._models()
            for devices in self.shards
            if m.heads % devices == 0
        ]
        return tuple(dict.fromkeys(found))

    @property
    def hidden(self) -> tuple[int, ...]:
        """Hidden sizes."""
        return tuple(dict.fromkeys(m.hidden for m in self._models()))

    @property
    def inner(self) -> tuple[int, ...]:
        """Widths inside of the feed-forward parts."""
        return tuple(dict.fromkeys(m.ffn // d for m in self._models() for d in self.shards))

    @property
    def vocabularies(self) -> tuple[tuple[int, int], ...]:
        """Vocabulary and hidden size of each model."""
        return tuple(dict.fromkeys((m.vocabulary, m.hidden) for m in self._models()))

    def _models(self) -> list[Architecture]:
        return [load_architecture(name) for name in self.models]
