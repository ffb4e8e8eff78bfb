"""Memory in exact arithmetic: bytes of weights, of the KV cache, of activations."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from functools import lru_cache
from math import ceil

from infsim.model.formats import Format
from infsim.model.graph import Operator


@lru_cache(maxsize=4096)  # the layers of a chain are alike
def size_bytes(values: float, bits: float) -> int:
    """Bytes that hold so many values of so many bits each, rounded up.

    Bits are taken as they are written: 4.85 means 4.85, not the nearest binary fraction.

    Examples
    --------
    >>> size_bytes(3, 4.5), size_bytes(8000, 4.85)
    (2, 4850)
    """
    return ceil(Fraction(values) * Fraction(str(bits)) / 8)


def weight_bytes(operators: Iterable[Operator], form: Format) -> int:
    """Bytes of the weights that a node holds for these operators.

    Each operator is rounded up to whole bytes. A head that is tied to the embeddings of
    another of these operators is held once.
    """
    total = tied = 0
    has_embedding = False
    for operator in operators:
        total += size_bytes(operator.parameters, form.weight_bits)
        total += size_bytes(operator.head_parameters, form.embedding_bits)
        total += size_bytes(operator.extra_parameters, form.embedding_bits)
        tied += size_bytes(operator.tied_parameters, form.embedding_bits)
        has_embedding = has_embedding or operator.extra_parameters > 0
    return total - tied if has_embedding else total


def kv_bytes_per_token(operators: Iterable[Operator], form: Format) -> int:
    """Bytes that one token adds to the KV caches of these operators, each rounded up."""
    return sum(size_bytes(operator.kv_values_per_token, form.kv_bits) for operator in operators)


def activation_bytes(values: float, form: Format) -> int:
    """Bytes of activation values that are sent from one operator to another."""
    return size_bytes(values, form.activation_bits)
