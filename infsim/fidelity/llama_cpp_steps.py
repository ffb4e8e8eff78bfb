"""The cost of a step of the engine, fitted to measured steps.

The time of the matrices is a table in the number of tokens, because it has steps (7 tokens may
take longer than 8); that of attention is linear in the pairs of queries and keys that belong
together, and in all pairs of tokens of the step and entries of the cache, since the engine's
sequences share one cache and every token looks through all of it, in whole blocks. Steps that
only decode are a class of their own, each of whose tokens needs logits.
"""

from __future__ import annotations

from math import ceil
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from infsim.cost.interface import StepCost

Floats = NDArray[np.float64]

BLOCK = 256
"""Entries of the cache by which the engine rounds up what it looks through (`get_n_kv`)."""
KNOTS = (1, 2, 4, 8, 16, 24, 32, 40, 48)
ITERATIONS = 4
RIDGE = 1.0
"""Weight of deviations from the line between knots: as if each had once been seen to be zero."""


class Steps(NamedTuple):
    """Columns of measured steps, as in `StepCost.step_s`, and their times."""

    prefill_tokens: Floats
    prefill_pairs: Floats
    prefill_context: Floats
    decode_sequences: Floats
    decode_context: Floats
    sequences: Floats
    time_s: Floats

    def take(self, which: NDArray[np.bool_]) -> Steps:
        return Steps(*(column[which] for column in self))


class FittedStepCost(StepCost):
    """Time of a step by tables and slopes.

    Parameters
    ----------
    tokens_s, decodes_s : array
        Seconds for so many tokens of a step with a prompt, and decodes of a step without one.
    decode_s, final_s : float
        Seconds per decode, and per prompt that ends, in a step with a prompt.
    pair_s, scan_s : float
        Seconds per pair that belongs together, and per pair of token and entry of the cache, in
        steps with a prompt.
    decode_pair_s, decode_scan_s : float
        The same in steps without one.
    """

    calibrated = True
    source = "measured steps of llama.cpp"

    def __init__(
        self,
        tokens_s: Floats,
        decodes_s: Floats,
        decode_s: float,
        final_s: float,
        pair_s: float,
        scan_s: float,
        decode_pair_s: float,
        decode_scan_s: float,
    ) -> None:
        self._tokens_s = tokens_s.tolist()
        self._decodes_s = decodes_s.tolist()
        self._decode_s, self._final_s = decode_s, final_s
        self._pair_s = pair_s
        self._scan_s = scan_s
        self._decode_pair_s = decode_pair_s
        self._decode_scan_s = decode_scan_s

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
        tokens = prefill_tokens + decode_sequences
        entries = BLOCK * ceil((prefill_context + decode_context) / BLOCK)
        return float(
            self._tokens_s[tokens]
            + self._decode_s * decode_sequences
            + self._final_s * (sequences - decode_sequences)
            + self._pair_s * (prefill_pairs + decode_context)
            + self._scan_s * tokens * entries
        )

    def decode_line(self, sequences: int, context: float) -> tuple[float, float, float]:
        entries = BLOCK * ceil(context / BLOCK)
        base_s = self._decodes_s[sequences] + self._decode_scan_s * sequences * entries
        return base_s, self._decode_pair_s, entries


def fit(steps: Steps) -> FittedStepCost:
    """Fit tables and slopes to measured steps: least squares of the relative errors.

    Relative to what is expected, not to what was measured: steps that were slow by chance would
    weigh less, and the fit would be too fast by the square of the spread.

    Not a robust fit: the time that some steps lose to other programs is lost on the average, too,
    and the sum of many steps is what decides about the load.
    """
    pure = steps.prefill_tokens == 0
    tokens_s, (pair_s, scan_s, decode_s, final_s) = _fit_mixed(steps.take(~pure))
    decodes_s, (decode_pair_s, decode_scan_s) = _fit_decodes(steps.take(pure))
    return FittedStepCost(
        tokens_s, decodes_s, decode_s, final_s, pair_s, scan_s, decode_pair_s, decode_scan_s
    )


def _fit_mixed(steps: Steps) -> tuple[Floats, list[float]]:
    """Steps with prompts: the table of tokens, then the slopes."""
    tokens = (steps.prefill_tokens + steps.decode_sequences).astype(int)
    pairs = steps.prefill_pairs + steps.decode_context
    scans = tokens * _blocks(steps.prefill_context + steps.decode_context)
    finals = steps.sequences - steps.decode_sequences
    return _solve(tokens, [pairs, scans, steps.decode_sequences, finals], steps.time_s)


def _fit_decodes(steps: Steps) -> tuple[Floats, list[float]]:
    """Steps without prompts: the table of sequences, then the slopes."""
    decodes = steps.decode_sequences.astype(int)
    scans = decodes * _blocks(steps.decode_context)
    return _solve(decodes, [steps.decode_context, scans], steps.time_s)


def _blocks(entries: Floats) -> Floats:
    """Round up to whole blocks of the cache."""
    return BLOCK * np.ceil(entries / BLOCK)


def _solve(
    sizes: NDArray[np.int64], slopes: list[Floats], time_s: Floats
) -> tuple[Floats, list[float]]:
    """Fit a table in the sizes and slopes: a line between knots, and a deviation of each size."""
    knots = [knot for knot in KNOTS if knot <= sizes.max()]
    every = np.arange(sizes.max() + 1)
    hats = np.column_stack([np.interp(every, knots, row) for row in np.eye(len(knots))])
    table = np.hstack([hats, np.eye(len(every))])
    columns = np.column_stack([table[sizes], *slopes])
    prior = np.zeros((len(every), columns.shape[1]))
    prior[:, len(knots) : len(knots) + len(every)] = RIDGE / np.median(time_s) * np.eye(len(every))
    goal = np.concatenate([np.ones(len(time_s)), np.zeros(len(every))])
    expected_s = time_s
    for _ in range(ITERATIONS):
        goal[: len(time_s)] = time_s / expected_s
        rows = np.vstack([columns / expected_s[:, None], prior])
        found = np.linalg.lstsq(rows, goal, rcond=None)[0]
        expected_s = np.maximum(columns @ found, 0.1 * time_s)
    table_s: Floats = table @ found[: table.shape[1]]
    return table_s, found[table.shape[1] :].tolist()
