"""What is served: models, formats, deployments."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from infsim.scenario.schema.base import (
    Count,
    Many,
    Name,
    NameOrMapping,
    Natural,
    Part,
    PositiveFloat,
    PositiveFraction,
)


class InlineModel(Part):
    """What all models written out in a scenario have."""

    name: Name
    """Name of the model in results."""

    accuracy: str | None = None
    """Model of the scenario's table of accuracy whose answers this model gives."""


class Transformer(InlineModel):
    """A decoder-only transformer, by the figures of its published configuration."""

    kind: Literal["transformer"]
    layers: Count
    """Number of layers."""
    hidden: Count
    """Hidden size."""
    heads: Count
    """Query heads."""
    kv_heads: Count
    """Key and value heads (grouped-query attention)."""
    head_dim: Count
    """Size of a head."""
    ffn: Count
    """Inner size of the feed-forward part (of one expert)."""
    vocabulary: Count
    """Size of the vocabulary."""
    max_context: Count
    """Longest context in tokens, prompt and output together."""
    gated_ffn: bool = True
    """Whether the feed-forward part has three matrices (SwiGLU) rather than two."""
    tied_embeddings: bool = False
    """Whether the head shares the weights of the embedding."""
    experts: Count = 1
    """Experts of a mixture."""
    active_experts: Count = 1
    """Experts that a token uses."""


class Monolithic(InlineModel):
    """A model placed as a whole that answers in one pass, such as an image classifier."""

    kind: Literal["monolithic"]
    parameters: Count | None = None
    """Number of weights; by default that of the model in the table of accuracy."""
    macs: Count | None = None
    """Multiply-accumulates of one input; by default as in the table of accuracy."""
    output_values: Count = 1
    """Values of the answer."""


class OperatorFigures(Part):
    """One operator of a graph; figures are per token (or per item of a stream)."""

    macs: Natural = 0
    """Multiply-accumulates of the linear parts."""
    parameters: Natural = 0
    """Weights that are held and read."""
    output_values: Natural = 0
    """Values that a successor receives."""
    attention_dim: Natural = 0
    """Query heads times head size; 0 without attention."""
    kv_values_per_token: Natural = 0
    """Values that one token adds to the KV cache."""


Edge = Many[Any]


class Graph(InlineModel):
    """Any directed acyclic graph of operators."""

    kind: Literal["graph"]
    operators: dict[str, OperatorFigures]
    """Operators by name."""
    edges: Many[Edge] = ()
    """`[source, target]`, or `[source, target, values]` to send other than `output_values`."""
    generative: bool = False
    """Whether output tokens are made one by one; otherwise one pass answers a request."""
    max_context: Count | None = None
    """Longest context in tokens."""


AnyInlineModel = Annotated[Transformer | Monolithic | Graph, Field(discriminator="kind")]

ModelEntry = Annotated[
    Annotated[str, Tag("name")] | Annotated[AnyInlineModel, Tag("mapping")],
    NameOrMapping,
]
"""A model of the catalogue (`infsim list models`), or one written out."""


class InlineFormat(Part):
    """A number format, from scratch or with changes to one of the catalogue."""

    name: Name
    """Name of the format in results."""
    like: str | None = None
    """Format of the catalogue that gives what is not said here."""
    weight_bits: PositiveFloat | None = None
    """Stored bits per weight, scales and indices included."""
    activation_bits: PositiveFloat | None = None
    """Bits per value that passes between operators."""
    kv_bits: PositiveFloat | None = None
    """Bits per value of the KV cache."""
    embedding_bits: PositiveFloat | None = None
    """Stored bits per weight of embeddings and head."""
    compute: str | None = None
    """Number type of the multiplications: fp32, bf16, fp16, fp8, int8, int4."""
    density: PositiveFraction | None = None
    """Share of the weights that are not zero."""
    pattern: Literal["", "2:4", "unstructured", "csr", "block-32"] | None = None
    """Pattern of the zeros: 2:4 (skipped by devices that exploit it), unstructured (multiplied like
    any weight), csr or block-32 (not stored)."""


FormatEntry = Annotated[
    Annotated[str, Tag("name")] | Annotated[InlineFormat, Tag("mapping")],
    NameOrMapping,
]
"""A format of the catalogue (`infsim list formats`), or one written out."""


class NodeSelector(Part):
    """Nodes that meet all the conditions given."""

    names: Many[str] | None = None
    """Names of nodes or node groups, `*` and `?` are wildcards."""
    regions: Many[str] | None = None
    """Names of regions, with wildcards."""
    tiers: Many[str] | None = None
    """Names of tiers, with wildcards."""


def _selector_kind(value: Any) -> str | None:
    if isinstance(value, list | tuple):
        return "names"
    return "selector" if isinstance(value, dict | NodeSelector) else None


Nodes = Annotated[
    Annotated[Many[str], Tag("names")] | Annotated[NodeSelector, Tag("selector")],
    Discriminator(
        _selector_kind,
        custom_error_type="node_selector",
        custom_error_message="expected a list of names, or a mapping of names, regions, tiers",
    ),
]


class Deployment(Part):
    """A model in one format, offered on some of the nodes."""

    name: Name | None = None
    """Name in results; model and format by default."""
    model: ModelEntry | None = None
    """The model; that of the scenario by default."""
    format: FormatEntry | None = None
    """The number format; that of the scenario by default."""
    nodes: Nodes | None = None
    """Nodes that may hold parts of it; all by default."""
    expected_context: Count | None = None
    """Context length at which planning prices a step; by default 1024 tokens, or a single input
    where nothing is generated."""
    demand_tokens: Count | None = None
    """Hint for planning: KV tokens that a sequence is expected to take."""
