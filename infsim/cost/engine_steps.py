"""Time of whole steps of an engine, fitted to steps that it made: ``steps.json``.

The time of the matrices is a table in the number of tokens, because it has steps (7 tokens may
take longer than 8). That of attention is linear in the pairs of queries and keys that belong
together. The sequences of llama.cpp share one cache, of which every token looks through everything
up to the highest entry in use, in blocks of 256. Where that is depends on requests that have ended,
so that in the mean it is a curve in the entries of the step. Steps that only decode are a
class of their own, each of whose tokens needs logits.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Any, Self

from infsim.cluster.node import Node
from infsim.cost.interface import StepCost
from infsim.errors import InputError, Where
from infsim.model.formats import Format

SPACING = 64
"""Entries of the cache between points of the curve of looking through it."""


@dataclass(frozen=True)
class Coefficients:
    """What a step takes.

    Attributes
    ----------
    tokens_s, decodes_s : tuple of float
        Seconds for so many tokens of a step with a prompt, and decodes of a step without one,
        from 0 on.
    scan_s, decode_scan_s : tuple of float
        Seconds that each token of a step with a prompt, and without one, looks through the cache,
        for every `SPACING` entries from 0 on.
    decode_s, final_s : float
        Seconds per decode, and per prompt that ends, in a step with a prompt.
    pair_s : float
        Seconds per pair of query and key that belong together, in a step with a prompt.

    Raises
    ------
    InputError
        If a table has fewer than two entries.
    """

    tokens_s: tuple[float, ...]
    decodes_s: tuple[float, ...]
    scan_s: tuple[float, ...]
    decode_scan_s: tuple[float, ...]
    decode_s: float
    final_s: float
    pair_s: float

    def __post_init__(self) -> None:
        for name in TABLES:
            if len(getattr(self, name)) < 2:
                raise InputError(f"{name} must have two entries, got {getattr(self, name)}")


TABLES = ("tokens_s", "decodes_s", "scan_s", "decode_scan_s")


class EngineStepCost(StepCost):
    """Time of a step by tables and slopes; beyond the tables, on the line of their second half."""

    calibrated = True

    def __init__(self, coefficients: Coefficients, source: str) -> None:
        self.source = source
        self.calls = self.extrapolated = 0
        self._known = coefficients
        self._tokens_s, self._decodes_s, self._scan_s, self._decode_scan_s = (
            _Table(getattr(coefficients, name)) for name in TABLES
        )

    def step_s(
        self,
        prefill_tokens: int,
        prefill_pairs: float,
        prefill_context: float,
        decode_sequences: int,
        decode_context: float,
        sequences: int,
    ) -> float:
        if not prefill_tokens:
            base_s, slope_s, _ = self.decode_line(decode_sequences, decode_context)
            return base_s + slope_s * decode_context
        self.calls += 1
        known, table, scan = self._known, self._tokens_s, self._scan_s
        tokens = prefill_tokens + decode_sequences
        place = (prefill_context + decode_context) / SPACING
        if tokens > table.last or place > scan.last:
            self.extrapolated += 1
        i = int(place)
        # called for what is beyond only: a call costs as much as the rest
        scan_s, slope_s = scan.lines[i] if i < scan.last else scan.line(i)
        base_s, _ = table.lines[tokens] if tokens < table.last else table.line(tokens)
        return (
            base_s
            + tokens * (scan_s + slope_s * (place - i))
            + known.decode_s * decode_sequences
            + known.final_s * (sequences - decode_sequences)
            + known.pair_s * (prefill_pairs + decode_context)
        )

    def decode_line(self, sequences: int, context: float) -> tuple[float, float, float]:
        self.calls += 1
        table, scan = self._decodes_s, self._decode_scan_s
        i = int(context / SPACING)
        if sequences > table.last or context > SPACING * scan.last:
            self.extrapolated += 1
        scan_s, slope_s = scan.lines[i] if i < scan.last else scan.line(i)
        base_s, _ = table.lines[sequences] if sequences < table.last else table.line(sequences)
        base_s += sequences * (scan_s - slope_s * i)
        return base_s, sequences * slope_s / SPACING, SPACING * (i + 1.0)


class _Table:
    """Values at 0, 1, 2, ..., drawn on as steep as the second half of them, but not downwards."""

    def __init__(self, values: tuple[float, ...]) -> None:
        self.last = len(values) - 1
        middle = self.last // 2
        self._rise = max((values[-1] - values[middle]) / (self.last - middle), 0.0)
        self.lines = [(a, b - a) for a, b in pairwise(values)]
        self._end = values[-1]

    def line(self, i: int) -> tuple[float, float]:
        """Value at i, and how much more it is at i + 1."""
        if i < self.last:
            return self.lines[i]
        return self._end + self._rise * (i - self.last), self._rise


@dataclass(frozen=True)
class EngineSteps:
    """What is known of an engine that serves one model on one device.

    Attributes
    ----------
    device, model, format : str
        Names in the scenario of what the coefficients hold for.
    source : str
        What was measured.
    coefficients : Coefficients
    errors : mapping of str to float
        Relative errors of traces that were left out of the fit.
    """

    device: str
    model: str
    format: str
    source: str
    coefficients: Coefficients
    errors: Mapping[str, float] = field(default_factory=dict)

    @property
    def subject(self) -> str:
        """What the coefficients hold for."""
        return f"{self.model} in {self.format} on one {self.device}"

    def holds_for(self, node: Node, form: Format, model: str) -> bool:
        """Whether a model in a format on a node is what was measured."""
        alone = node.count == 1 and node.device.name == self.device
        return alone and (model, form.name) == (self.model, self.format)

    def cost(self) -> EngineStepCost:
        """Return a new cost model."""
        return EngineStepCost(self.coefficients, self.source)

    def to_json(self) -> dict[str, Any]:
        """Return plain data, the content of the file."""
        return asdict(self) | {"errors": dict(self.errors)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any], where: Where) -> Self:
        """Build it from the content of the file.

        Raises
        ------
        InputError
            For missing entries, and values that are no numbers.
        """
        try:
            given = data["coefficients"]
            tokens_s, decodes_s, scan_s, decode_scan_s = (_numbers(given[name]) for name in TABLES)
            slopes = (float(given[name]) for name in ("decode_s", "final_s", "pair_s"))
            coefficients = Coefficients(tokens_s, decodes_s, scan_s, decode_scan_s, *slopes)
            device, model, form, source = (
                str(data[name]) for name in ("device", "model", "format", "source")
            )
            return cls(device, model, form, source, coefficients, dict(data["errors"]))
        except KeyError as error:
            raise InputError(f"no {error.args[0]!r} in it", where=where) from None
        except (TypeError, ValueError) as error:
            raise InputError(f"not steps of an engine: {error}", where=where) from None
        except InputError as error:
            raise error.at(where) from None


def _numbers(values: object) -> tuple[float, ...]:
    if not isinstance(values, list):
        raise TypeError(f"no list, but {values!r}")
    return tuple(float(value) for value in values)
