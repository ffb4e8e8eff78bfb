"""Transformer architectures: from the figures of a published configuration to operators."""

from __future__ import annotations

from dataclasses import dataclass

from infsim.errors import InputError
from infsim.model.graph import Linear, Operator, OperatorGraph, chain


@dataclass(frozen=True)
class Architecture:
    """A decoder-only transformer, described by the figures of its ``config.json``.

    Attributes
    ----------
    name : str
    layers, hidden, heads, kv_heads, head_dim, ffn, vocabulary : int
        Sizes; ``ffn`` is the inner size of the feed-forward part (of one expert).
    gated_ffn : bool
        Three matrices (SwiGLU) rather than two.
    max_context : int
        Longest context in tokens.
    tied_embeddings : bool
        The head shares the weights of the embedding.
    experts, active_experts : int
        Mixture of experts: how many feed-forward parts a layer has, and a token uses.
    attention_bias : str
        Which projections of attention have biases: ``"none"``, ``"qkv"`` or ``"all"``.
    ffn_bias : bool
        The feed-forward matrices have biases.
    norm_bias : bool
        Norms have a bias beside their weight (LayerNorm rather than RMSNorm).
    embedding_norm : bool
        A norm follows the embedding (BLOOM).
    head_norm : bool
        Queries and keys are normalised per head (Qwen3).
    source : str
        Where the figures come from.
    """

    name: str
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    ffn: int
    vocabulary: int
    max_context: int
    gated_ffn: bool = True
    tied_embeddings: bool = False
    experts: int = 1
    active_experts: int = 1
    attention_bias: str = "none"
    ffn_bias: bool = False
    norm_bias: bool = False
    embedding_norm: bool = False
    head_norm: bool = False
    source: str = "unspecified"

    def __post_init__(self) -> None:
        for name in (
            "layers", "hidden", "heads", "kv_heads", "head_dim", "ffn", "vocabulary",
            "max_context", "experts", "active_experts",
        ):  # fmt: skip
            if getattr(self, name) < 1:
                raise InputError(
                    f"architecture {self.name!r}: {name} must be at least 1,"
                    f" got {getattr(self, name)}"
                )
        if self.heads % self.kv_heads:
            raise InputError(
                f"architecture {self.name!r}: heads ({self.heads}) must be a multiple of"
                f" kv_heads ({self.kv_heads})"
            )
        if self.attention_bias not in ("none", "qkv", "all"):
            raise InputError(
                f"architecture {self.name!r}: attention_bias must be none, qkv or all,"
                f" got {self.attention_bias!r}"
            )

    @property
    def parameters(self) -> int:
        """All weights, biases and norms included; tied embeddings are counted once."""
        return (
            self.layers * self._layer_parameters
            + self._embedding_parameters
            + self._norm_parameters  # the final norm
            + (0 if self.tied_embeddings else self.vocabulary * self.hidden)
        )

    @property
    def kv_values_per_token(self) -> int:
        """Values that one token adds to the KV cache, over all layers."""
        return self.layers * self._layer_kv_values

    def graph(self) -> OperatorGraph:
        """Return the chain of layers.

        The embedding is folded into the first layer (memory only), the final norm and the
        head into the last one.
        """
        layers = []
        for i in range(self.layers):
            last = i == self.layers - 1
            layers.append(
                Operator(
                    name=f"layer{i}",
                    parameters=self._layer_parameters,
                    macs_per_token=self._layer_macs,
                    output_values=self.hidden,
                    attention_dim=self.heads * self.head_dim,
                    kv_values_per_token=self._layer_kv_values,
                    head_parameters=self._head_parameters if last else 0,
                    head_macs=self.vocabulary * self.hidden if last else 0,
                    extra_parameters=self._embedding_parameters if i == 0 else 0,
                    tied_parameters=(
                        self.vocabulary * self.hidden if last and self.tied_embeddings else 0
                    ),
                    experts=self.experts,
                    active_experts=self.active_experts,
                    expert_parameters=self._expert_parameters,
                    linears=self._linears,
                    heads=self.heads,
                    kv_heads=self.kv_heads,
                    head_dim=self.head_dim,
                )
            )
        return chain(layers)

    @property
    def _linears(self) -> tuple[Linear, ...]:
        """The matrices of a layer, those of one input fused as serving engines do."""
        inner, experts = self.heads * self.head_dim, self.experts > 1
        up = Linear("gate_up", 2 * self.ffn, self.hidden, expert=experts)
        if not self.gated_ffn:
            up = Linear("up", self.ffn, self.hidden, expert=experts)
        return (
            Linear("qkv", inner + self._layer_kv_values, self.hidden),
            Linear("o", self.hidden, inner, rows_split=True),
            *((Linear("router", self.experts, self.hidden),) if experts else ()),
            up,
            Linear("down", self.hidden, self.ffn, rows_split=True, expert=experts),
        )

    @property
    def _layer_parameters(self) -> int:
        return (
            self._attention_weights
            + self._attention_biases
            + self._feed_forward_weights * self.experts
            + self._feed_forward_biases * self.experts
            + self._router_weights
            + 2 * self._norm_parameters
        )

    @property
    def _layer_macs(self) -> int:
        return (
            self._attention_weights
            + self._feed_forward_weights * self.active_experts
            + self._router_weights
        )

    @property
    def _layer_kv_values(self) -> int:
        return 2 * self.kv_heads * self.head_dim

    @property
    def _attention_weights(self) -> int:
        queries_and_output = 2 * self.hidden * self.heads * self.head_dim
        return queries_and_output + self.hidden * self._layer_kv_values

    @property
    def _attention_biases(self) -> int:
        norms = 2 * self.head_dim if self.head_norm else 0
        if self.attention_bias == "none":
            return norms
        qkv = self.heads * self.head_dim + self._layer_kv_values
        return norms + qkv + (self.hidden if self.attention_bias == "all" else 0)

    @property
    def _feed_forward_weights(self) -> int:
        return (3 if self.gated_ffn else 2) * self.hidden * self.ffn

    @property
    def _feed_forward_biases(self) -> int:
        inner = 2 * self.ffn if self.gated_ffn else self.ffn
        return inner + self.hidden if self.ffn_bias else 0

    @property
    def _expert_parameters(self) -> int:
        if self.experts == 1:
            return 0
        return self.experts * (self._feed_forward_weights + self._feed_forward_biases)

    @property
    def _router_weights(self) -> int:
        return self.hidden * self.experts if self.experts > 1 else 0

    @property
    def _norm_parameters(self) -> int:
        return 2 * self.hidden if self.norm_bias else self.hidden

    @property
    def _embedding_parameters(self) -> int:
        norm = self._norm_parameters if self.embedding_norm else 0
        return self.vocabulary * self.hidden + norm

    @property
    def _head_parameters(self) -> int:
        return self.vocabulary * self.hidden + self._norm_parameters
