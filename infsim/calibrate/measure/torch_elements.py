"""Element-wise kernels, embedding, language-model head, sampling, and codecs, in PyTorch."""

from __future__ import annotations

# mypy: disable-error-code="import-not-found, no-untyped-call, no-any-unimported, unused-ignore"
# mypy: disable-error-code="no-any-return, misc, attr-defined"
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from infsim.calibrate.measure.kernel import Case, Kernel, Maker
from infsim.calibrate.measure.shapes import TOKENS, Shapes
from infsim.calibrate.measure.torch_case import (
    TOLERANCE,
    TWIN,
    case,
    random,
    require_torch,
    warm,
    wide,
)

if TYPE_CHECKING:
    from torch import Tensor

SEQUENCES = tuple(x for x in TOKENS if x <= 256)
"""Only sequences, not tokens, need logits."""
TOP_SHARE = 0.1
"""Values that the top-k codec keeps."""

Make = Callable[[int, int], Case]
"""From tokens and width to a case."""


def elements(shapes: Shapes, device: str) -> Iterator[Kernel]:
    """Yield the kernels between the linear layers, and before and behind them."""
    for width in shapes.hidden:
        yield _along_tokens("norm", "rms_norm", width, device, _norm(device))
        yield _along_tokens("residual", "add", width, device, _add(device))
    for width in shapes.inner:
        yield _along_tokens("activation", "silu_mul", width, device, _silu(device))
    for heads in shapes.attentions:
        width = (heads.heads + heads.kv_heads) * heads.head_dim
        yield _along_tokens("rotary", "rotary", width, device, _rotary(device, heads.head_dim))
        width = 2 * heads.kv_heads * heads.head_dim
        yield _along_tokens("kv_write", "index_copy", width, device, _kv_write(device))
    for vocabulary, hidden in shapes.vocabularies:
        yield _embedding(vocabulary, hidden, device)
        yield _head(vocabulary, hidden, device)
        yield _along_tokens("sample", "argmax", vocabulary, device, _argmax(device), SEQUENCES)


def codecs(shapes: Shapes, device: str) -> Iterator[Kernel]:
    """Yield codecs that make activations smaller for a link, and their decoders."""
    for width in shapes.hidden:
        for name, (encode, decode, tolerance) in _CODECS.items():
            yield _codec("quantize", name, width, device, encode, decode, tolerance)
            yield _codec("dequantize", name, width, device, encode, decode, tolerance)


def _random(*shape: int, device: str) -> Tensor:
    """Values as they pass between the kernels of a layer."""
    return random(*shape, form=wide(device), device=device)


def _along_tokens(
    kernel: str,
    name: str,
    width: int,
    device: str,
    make: Make,
    points: tuple[int, ...] = TOKENS,
) -> Kernel:
    def prepare() -> Maker:
        return lambda tokens: make(tokens, width)

    columns: dict[str, str | int | float] = {
        "kernel": kernel, "name": name, "format": wide(device), "library": "torch", "n": width,
    }  # fmt: skip
    return Kernel(columns, "tokens", points, prepare, TOLERANCE[wide(device)])


def _norm(device: str) -> Make:
    def make(tokens: int, width: int) -> Case:
        norm = require_torch().nn.functional.rms_norm
        x, gain = (_random(*s, device=device) for s in ((tokens, width), (width,)))
        exact = x.double()

        def reference() -> Tensor:
            scale = (exact.square().mean(-1, keepdim=True) + 1e-6).rsqrt()
            return exact * scale * gain.double()

        return warm(lambda: norm(x, (width,), gain, 1e-6), reference)

    return make


def _add(device: str) -> Make:
    def make(tokens: int, width: int) -> Case:
        x, y = (_random(tokens, width, device=device) for _ in range(2))
        return warm(lambda: x + y, lambda: x.double() + y.double())

    return make


def _silu(device: str) -> Make:
    def make(tokens: int, width: int) -> Case:
        silu = require_torch().nn.functional.silu
        both = _random(tokens, 2 * width, device=device)
        gate, up = both.chunk(2, -1)
        exact = gate.double()
        return warm(lambda: silu(gate) * up, lambda: exact / (1 + (-exact).exp()) * up.double())

    return make


def _rotary(device: str, head_dim: int) -> Make:
    def make(tokens: int, width: int) -> Case:
        torch = require_torch()
        x = _random(tokens, width // head_dim, head_dim, device=device)
        angle = torch.rand(tokens, 1, head_dim, device=device)
        cos, sin = (f(angle).to(x.dtype) for f in (torch.cos, torch.sin))

        def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
            low, high = x.chunk(2, -1)
            return x * cos + torch.cat([-high, low], -1) * sin

        return warm(
            lambda: rotate(x, cos, sin), lambda: rotate(x.double(), cos.double(), sin.double())
        )

    return make


def _kv_write(device: str) -> Make:
    def make(tokens: int, width: int) -> Case:
        torch = require_torch()
        cache = _random(2 * tokens, width, device=device)
        slots = torch.randperm(2 * tokens, device=device)[:tokens]
        new = _random(tokens, width, device=device)

        def reference() -> Tensor:
            exact = cache.double()
            exact[slots] = new.double()
            return exact

        return warm(lambda: cache.index_copy_(0, slots, new), reference)

    return make


def _argmax(device: str) -> Make:
    def make(tokens: int, width: int) -> Case:
        logits = _random(tokens, width, device=device)

        def reference() -> Tensor:  # of several largest values any may be taken
            return logits.double().amax(-1)

        def run() -> Any:
            return logits.argmax(-1)

        found = warm(run, reference)
        chosen = case(lambda: logits.gather(1, run()[:, None]), reference)
        return Case(found.run, chosen.error, found.touch)

    return make


def _embedding(vocabulary: int, hidden: int, device: str) -> Kernel:
    def prepare() -> Maker:
        torch = require_torch()
        table = _random(vocabulary, hidden, device=device)

        def make(tokens: int) -> Case:
            ids = torch.randint(vocabulary, (tokens,), device=device)
            return case(
                lambda: table[ids],
                lambda: table.double()[ids],
                ids.sum,
                tokens * hidden * table.element_size(),
            )

        return make

    columns: dict[str, str | int | float] = {
        "kernel": "embedding", "name": "embedding", "format": wide(device), "library": "torch",
        "n": hidden,
    }  # fmt: skip
    return Kernel(columns, "tokens", TOKENS, prepare, TOLERANCE[wide(device)])


def _head(vocabulary: int, hidden: int, device: str) -> Kernel:
    def prepare() -> Maker:
        linear = require_torch().nn.functional.linear
        weights = _random(vocabulary, hidden, device=device)
        twin = _random(TWIN, hidden, device=device)

        def make(tokens: int) -> Case:
            x = _random(tokens, hidden, device=device)

            def reference() -> Tensor:
                return x.double() @ weights.double().T

            return case(
                lambda: linear(x, weights), reference, lambda: linear(x, twin), weights.nbytes
            )

        return make

    columns: dict[str, str | int | float] = {
        "kernel": "head", "name": "head", "format": wide(device), "library": "torch",
        "n": vocabulary, "k": hidden,
    }  # fmt: skip
    return Kernel(columns, "tokens", SEQUENCES, prepare, TOLERANCE[wide(device)])


def _codec(
    kernel: str, name: str, width: int, device: str,
    encode: Callable[[Tensor], Any], decode: Callable[[Any], Tensor], tolerance: float,
) -> Kernel:  # fmt: skip
    """A codec or its decoder; both are right if what was coded comes out again."""

    def prepare() -> Maker:
        def make(tokens: int) -> Case:
            x = random(tokens, width, device=device)
            coded = encode(x)

            def run() -> Any:
                return encode(x) if kernel == "quantize" else decode(coded)

            through = case(lambda: decode(encode(x)), x.double)
            return Case(run, through.error, touch=run)

        return make

    columns: dict[str, str | int | float] = {
        "kernel": kernel, "name": name, "format": "fp32", "library": "torch", "n": width,
    }  # fmt: skip
    return Kernel(columns, "tokens", TOKENS, prepare, tolerance)


def _to_int(x: Tensor, largest: int) -> tuple[Tensor, Tensor]:
    torch = require_torch()
    scale = x.abs().amax(-1, keepdim=True) / largest
    return (x / scale).round().to(torch.int8), scale


def _from_int(coded: tuple[Tensor, Tensor]) -> Tensor:
    values, scale = coded
    return values * scale


def _to_int4(x: Tensor) -> tuple[Tensor, Tensor]:
    """Two values a byte."""
    torch = require_torch()
    values, scale = _to_int(x, 7)
    nibbles = (values + 8).to(torch.uint8)
    return nibbles[..., ::2] | nibbles[..., 1::2] << 4, scale


def _from_int4(coded: tuple[Tensor, Tensor]) -> Tensor:
    torch = require_torch()
    packed, scale = coded
    nibbles = torch.stack([packed & 15, packed >> 4], -1).flatten(-2)
    return (nibbles.to(torch.int8) - 8) * scale


def _to_top(x: Tensor) -> tuple[Tensor, Tensor, int]:
    torch = require_torch()
    width = x.shape[-1]
    indices = x.abs().topk(int(TOP_SHARE * width), dim=-1, sorted=False).indices
    return x.gather(-1, indices).half(), indices.to(torch.int32), width


def _from_top(coded: tuple[Tensor, Tensor, int]) -> Tensor:
    torch = require_torch()
    values, indices, width = coded
    full = torch.zeros(*values.shape[:-1], width, device=values.device)
    return full.scatter_(-1, indices.long(), values.float())


_CODECS: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any], float]] = {
    "fp16": (lambda x: x.half(), lambda x: x.float(), TOLERANCE["fp16"]),
    "int8": (lambda x: _to_int(x, 127), _from_int, 0.03),
    "int4": (_to_int4, _from_int4, 0.3),
    "top-10%": (_to_top, _from_top, 0.9),
}
"""Encoder, decoder, and the share of random normal values that is lost at most: a tenth of them
holds 44 % of their energy, so top-k loses 75 % of the norm."""
