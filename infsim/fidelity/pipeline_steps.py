"""The cost of an iteration of a stage, fitted to measured iterations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from math import inf
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from infsim.cost.interface import StepCost

ITERATIONS = 12
KNOTS = (1, 2, 3, 4, 8, 16, 32, 48, 64, 80, 96, 112, 128)
GRAIN = 4
"""Rows that the library of the recorded processes multiplies at a time: three more take longer than
four more, by a tenth at 60 tokens."""


class TableStepCost(StepCost):
    """A table in the number of tokens, and slopes in pairs and in entries of the KV cache."""

    calibrated = True
    source = "measured iterations of a stage"

    def __init__(self, tokens_s: Sequence[float], pair_s: float, entry_s: float) -> None:
        self._tokens_s = tokens_s
        self._pair_s = pair_s
        self._entry_s = entry_s

    def step_s(
        self,
        prefill_tokens: int,
        prefill_pairs: float,
        prefill_context: float,  # noqa: ARG002 - looking through it costs what its pairs cost
        decode_sequences: int,
        decode_context: float,
        sequences: int,  # noqa: ARG002 - all tokens cost the same
    ) -> float:
        tokens = prefill_tokens + decode_sequences
        slopes_s = self._pair_s * prefill_pairs + self._entry_s * decode_context
        return self._tokens_s[tokens] + slopes_s

    def decode_line(
        self,
        sequences: int,
        context: float,  # noqa: ARG002 - the line holds at any
    ) -> tuple[float, float, float]:
        return self._tokens_s[sequences], self._entry_s, inf


def fit(steps: Mapping[str, Any]) -> TableStepCost:
    """Fit a stage to its iterations: least absolute relative errors, so that outliers do not count.

    The table rises from knot to knot, but for a remainder of `GRAIN`, and no slope is negative:
    prompts alone would not tell tokens from pairs, since the pairs of one follow from its tokens.
    An iteration takes longer now and then because other programs run; on a machine that is shared,
    the figures compared are therefore medians, too.
    """
    tokens = steps["prefill_tokens"] + steps["decode_sequences"]
    columns = np.column_stack(
        [_rises(tokens), _remainders(tokens), steps["prefill_pairs"], steps["decode_context"]]
    )
    expected = time = steps["time_us"].astype(float)
    weight = 1 / expected
    for _ in range(ITERATIONS):
        found = nnls(columns * weight[:, None], time * weight)[0]
        expected = np.maximum(columns @ found, 0.1 * time)
        weight = 1 / expected / np.sqrt(np.maximum(np.abs(time / expected - 1), 1e-3))
    found = found / 1e6
    every = np.arange(KNOTS[-1] + 1)
    table = np.column_stack([_rises(every), _remainders(every)]) @ found[:-2]
    return TableStepCost(table.tolist(), float(found[-2]), float(found[-1]))


def _rises(tokens: NDArray[Any]) -> NDArray[np.float64]:
    """Return a column for the first knot, and one for the rise from each knot to the next."""
    between = [np.clip((tokens - low) / (high - low), 0.0, 1.0) for low, high in pairwise(KNOTS)]
    return np.column_stack([np.ones(len(tokens)), *between])


def _remainders(tokens: NDArray[Any]) -> NDArray[np.bool_]:
    """Return a column for each number of tokens beyond a multiple of the grain, the first aside."""
    found: NDArray[np.bool_] = tokens[:, None] % GRAIN == np.arange(1, GRAIN)
    return found & (tokens[:, None] > GRAIN)
