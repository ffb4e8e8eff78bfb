"""Number formats of compressed and uncompressed models."""

from __future__ import annotations

from dataclasses import dataclass

from infsim.errors import InputError, did_you_mean

COMPUTE_TYPES = ("fp32", "bf16", "fp16", "fp8", "int8", "int4")
"""Number types in which a device can have a peak rate."""

UNSTRUCTURED = "unstructured"
SKIPPED = ("csr", "block-32")
"""Patterns whose zeros no kernel multiplies, on any device."""
PATTERNS = ("", "2:4", UNSTRUCTURED, *SKIPPED)

_FALLBACK = {
    "fp32": ("fp32",),
    "bf16": ("bf16", "fp16", "fp32"),
    "fp16": ("fp16", "bf16", "fp32"),
    "fp8": ("fp8", "fp16", "bf16", "fp32"),
    "int8": ("int8", "fp16", "bf16", "fp32"),
    "int4": ("int4", "int8", "fp16", "bf16", "fp32"),
}


@dataclass(frozen=True)
class Format:
    """How the numbers of a model are stored and multiplied.

    Attributes
    ----------
    name : str
    weight_bits : float
        Stored bits per weight, scales, zero points and sparse indices included.
    activation_bits : float
        Bits per value that passes from operator to operator.
    kv_bits : float
        Bits per value of the KV cache.
    embedding_bits : float
        Stored bits per weight of embeddings and head, which most formats leave in 16 bits.
    compute : str
        Number type of the multiplications, a key of ``Device.peak_flops``. Weight-only
        formats (w4a16) multiply in 16 bits after unpacking.
    density : float
        Share of the weights that are not zero.
    pattern : str
        Pattern of the zeros, one of `PATTERNS`. Zeros of ``"2:4"`` are skipped by devices that
        exploit it; ``"unstructured"`` ones are stored and multiplied like any weight; ``"csr"``
        and ``"block-32"`` weights are stored without their zeros, for kernels that skip them.
    source : str
        Where the figures come from.
    """

    name: str
    weight_bits: float
    activation_bits: float = 16
    kv_bits: float = 16
    embedding_bits: float = 16
    compute: str = "fp16"
    density: float = 1.0
    pattern: str = ""
    source: str = "unspecified"

    def __post_init__(self) -> None:
        for name in ("weight_bits", "activation_bits", "kv_bits", "embedding_bits"):
            value = getattr(self, name)
            if not 0 < value <= 64:
                raise InputError(f"format {self.name!r}: {name} must be in (0, 64], got {value!r}")
        if not 0 < self.density <= 1:
            raise InputError(f"format {self.name!r}: density must be in (0, 1]: {self.density!r}")
        if self.pattern not in PATTERNS:
            hint = did_you_mean(self.pattern, PATTERNS)
            raise InputError(f"format {self.name!r}: unknown pattern {self.pattern!r}{hint}")
        if self.compute not in COMPUTE_TYPES:
            hint = did_you_mean(self.compute, COMPUTE_TYPES)
            raise InputError(
                f"format {self.name!r}: compute must be one of {', '.join(COMPUTE_TYPES)},"
                f" got {self.compute!r}{hint}"
            )


def multiplied(form: Format, sparse_patterns: tuple[str, ...]) -> float:
    """Share of the weights that a device multiplies, which exploits some patterns of zeros."""
    skips = form.pattern in SKIPPED or form.pattern in sparse_patterns
    return form.density if skips else 1.0


def compute_type(wanted: str, available: frozenset[str]) -> str:
    """Number type that a device computes in when a format wants another one.

    A type that is missing is emulated in the next wider one that is there: int4 in int8, and
    8-bit types in a 16-bit float (values are converted on the fly), 16-bit floats in the other
    16-bit float, and everything in fp32 at last.

    Examples
    --------
    >>> compute_type("fp8", frozenset({"fp16", "fp32"}))
    'fp16'
    """
    for candidate in _FALLBACK[wanted]:
        if candidate in available:
            return candidate
    raise InputError(f"no number type among {sorted(available)} can stand in for {wanted}")
