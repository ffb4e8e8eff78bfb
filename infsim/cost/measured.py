"""Time of an iteration from measured kernels: what a calibrated device is priced with."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from itertools import pairwise
from math import inf
from typing import NamedTuple

from infsim.cluster.node import Node
from infsim.cost.calibration import Calibration
from infsim.cost.curves import Curve, total
from infsim.cost.interface import StepCost
from infsim.cost.kernels import SpanKernels
from infsim.model.formats import Format
from infsim.model.graph import Operator


class MeasuredStepCost(StepCost):
    """Time of an iteration as the sum of its kernels, each from measured points.

    Everything that depends on the tokens of the iteration only is one piecewise-linear curve;
    decodes of so many sequences are piecewise linear in their context. Both are made when they
    are first asked for, and kept.

    Parameters
    ----------
    node : Node
    form : Format
    operators : sequence of Operator
        The span, all computed in one iteration.
    calibration : Calibration
        Of the node's device; `covers` says whether it has the format.
    calibrated : bool
        False if the coefficients were measured on another device.

    Attributes
    ----------
    calibrated : bool
    source : str
    calls, extrapolated : int
        Calls, and those of them with more tokens, sequences or context than measured, or, all of
        them, of matrices or heads that are unlike the measured ones.
    """

    def __init__(
        self,
        node: Node,
        form: Format,
        operators: Sequence[Operator],
        calibration: Calibration,
        *,
        calibrated: bool = True,
    ) -> None:
        self.calibrated = calibrated
        self.source = f"kernels of {calibration.device} ({calibration.source})"
        self.calls = self.extrapolated = 0
        kernels = SpanKernels(node, form, operators, calibration)
        self._tokens = kernels.by_tokens()
        self._sequences = kernels.by_sequences()
        self._attention = kernels.attention()
        self._overhead_s = kernels.overhead_s()
        self._outside = kernels.outside
        joint = all(attention.is_joint for _, attention in self._attention)
        self._mixed_s = [(n, a.mixed_s) for n, a in self._attention] if joint else None
        self._prefill_s = [(n, a.prefill_s) for n, a in self._attention]
        times = [attention for _, attention in self._attention]
        self._most_tokens = self._tokens.x[-1]
        self._longest_chunk = min((a.longest_chunk for a in times), default=inf)
        self._longest_prefix = min((a.longest_prefix for a in times), default=inf)
        self._most_sequences = min((a.most_sequences for a in times), default=inf)
        self._longest_context = min((a.longest_context for a in times), default=inf)
        self._base_s: dict[int, float] = {}
        self._head_s: dict[int, float] = {0: 0.0}
        self._lines: dict[int, _Lines] = {}

    def step_s(
        self,
        prefill_tokens: int,
        prefill_pairs: float,
        prefill_context: float,  # noqa: ARG002 - tokens and pairs say it all
        decode_sequences: int,
        decode_context: float,
        sequences: int,
    ) -> float:
        self.calls += 1
        head_s = self._head_s.get(sequences)
        if head_s is None:
            head_s = self._head(sequences)
        if not prefill_tokens:
            lines = self._lines.get(decode_sequences) or self._draw(decode_sequences)
            i = bisect_left(lines.limits, decode_context)
            if i >= lines.outside:
                self.extrapolated += 1
            return lines.bases_s[i] + head_s + lines.slopes_s[i] * decode_context
        tokens = prefill_tokens + decode_sequences
        time_s = self._base_s.get(tokens)
        if time_s is None:
            time_s = self._base(tokens)
        time_s += head_s
        if decode_sequences and self._mixed_s is not None:
            for count, mixed_s in self._mixed_s:
                time_s += count * mixed_s(
                    prefill_tokens, prefill_pairs, decode_sequences, decode_context
                )
        else:
            for count, prefill_s in self._prefill_s:
                time_s += count * prefill_s(prefill_tokens, prefill_pairs)
            if decode_sequences:
                lines = self._lines.get(decode_sequences) or self._draw(decode_sequences)
                i = bisect_left(lines.limits, decode_context)
                time_s += lines.attention_s[i] + lines.slopes_s[i] * decode_context
        if (
            self._outside
            or tokens > self._most_tokens
            or prefill_tokens > self._longest_chunk
            or prefill_pairs > self._longest_prefix * prefill_tokens
            or decode_sequences > self._most_sequences
            or decode_context > self._longest_context * decode_sequences
        ):
            self.extrapolated += 1
        return time_s

    def decode_line(self, sequences: int, context: float) -> tuple[float, float, float]:
        self.calls += 1
        head_s = self._head_s.get(sequences)
        if head_s is None:
            head_s = self._head(sequences)
        lines = self._lines.get(sequences) or self._draw(sequences)
        i = bisect_left(lines.limits, context)
        if i >= lines.outside:
            self.extrapolated += 1
        return lines.bases_s[i] + head_s, lines.slopes_s[i], lines.limits[i]

    def _base(self, tokens: int) -> float:
        time_s = self._base_s[tokens] = self._overhead_s + self._tokens.at(tokens)
        return time_s

    def _head(self, sequences: int) -> float:
        curve = self._sequences
        time_s = self._head_s[sequences] = 0.0 if curve is None else curve.at(sequences)
        return time_s

    def _draw(self, sequences: int) -> _Lines:
        """Lines of decodes of so many sequences, one between each two measured contexts."""
        base_s = self._base(sequences)
        if not sequences or not self._attention:
            lines = _Lines((inf,), (base_s,), (0.0,), (0.0,), 0 if self._outside else 1)
        else:
            lines = self._draw_attention(sequences, base_s)
        self._lines[sequences] = lines
        return lines

    def _draw_attention(self, sequences: int, base_s: float) -> _Lines:
        parts = [
            (float(count), Curve(attention.contexts, tuple(attention.decode_s(sequences))))
            for count, attention in self._attention
        ]
        curve = total(parts)
        points = [sequences * x for x in curve.x]
        slopes = [
            (t - s) / (b - a) for (a, s), (b, t) in pairwise(zip(points, curve.time_s, strict=True))
        ]
        bases = [t - slope * x for slope, x, t in zip(slopes, points, curve.time_s, strict=False)]
        # Beyond the grid as between its last contexts, but never faster than memory.
        least = sum(count * attention.entry_s for count, attention in self._attention)
        last = max(slopes[-1], least)
        alone = (curve.time_s[0], *bases, curve.time_s[-1] - last * points[-1])
        return _Lines(
            limits=(*points, inf),
            bases_s=tuple(base_s + base for base in alone),
            attention_s=alone,
            slopes_s=(0.0, *slopes, last),
            outside=0 if self._outside or sequences > self._most_sequences else len(points),
        )


class _Lines(NamedTuple):
    """Pieces of a line: the i-th holds up to the i-th limit of the total context."""

    limits: tuple[float, ...]
    bases_s: tuple[float, ...]
    attention_s: tuple[float, ...]  # of the bases, that of attention alone
    slopes_s: tuple[float, ...]
    outside: int  # pieces from this one on are extrapolated
