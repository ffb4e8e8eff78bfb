"""Coefficients of the time of a step of an engine, fitted to steps that it made."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import lsq_linear

from infsim.cost.engine_steps import SPACING, Coefficients, EngineStepCost, EngineSteps
from infsim.results.folder import whole_file

Floats = NDArray[np.float64]

KNOTS = (1, 2, 4, 8, 16, 24, 32, 40, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 2048)
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

    @classmethod
    def of(cls, rows: ArrayLike) -> Self:
        """Return the columns of rows in this order."""
        return cls(*np.asarray(rows, dtype=np.float64).T)

    def take(self, which: NDArray[np.bool_]) -> Steps:
        return Steps(*(column[which] for column in self))


def fit(steps: Steps) -> Coefficients:
    """Fit tables and slopes to measured steps: least squares of the relative errors.

    Relative to what is expected, not to what was measured: steps that were slow by chance would
    weigh less, and the fit would be too fast by the square of the spread.

    Not a robust fit: the time that some steps lose to other programs is lost on the average, too,
    and the sum of many steps is what decides about the load.
    """
    pure = steps.prefill_tokens == 0
    mixed, decodes = _fit_mixed(steps.take(~pure)), _fit_decodes(steps.take(pure))
    pair_s, decode_s, final_s = mixed.slopes_s
    return Coefficients(
        tokens_s=mixed.table_s,
        decodes_s=decodes.table_s,
        scan_s=mixed.scan_s,
        decode_scan_s=decodes.scan_s,
        decode_s=decode_s,
        final_s=final_s,
        pair_s=pair_s,
    )


class _Fitted(NamedTuple):
    table_s: tuple[float, ...]
    scan_s: tuple[float, ...]
    slopes_s: list[float]


def _fit_mixed(steps: Steps) -> _Fitted:
    """Steps with prompts: slopes of pairs, decodes, and prompts that end."""
    tokens = (steps.prefill_tokens + steps.decode_sequences).astype(int)
    pairs = steps.prefill_pairs + steps.decode_context
    finals = steps.sequences - steps.decode_sequences
    entries = steps.prefill_context + steps.decode_context
    return _solve(tokens, entries, [pairs, steps.decode_sequences, finals], steps.time_s)


def _fit_decodes(steps: Steps) -> _Fitted:
    """Steps without prompts, whose pairs are their entries."""
    return _solve(steps.decode_sequences.astype(int), steps.decode_context, [], steps.time_s)


def _solve(
    sizes: NDArray[np.int64], entries: Floats, slopes: list[Floats], time_s: Floats
) -> _Fitted:
    """Fit a table in the sizes, one in the entries of the cache for each of them, and slopes.

    The first is a line between knots and a deviation of each size, the second a curve that never
    falls and bends as little as the steps allow.
    """
    every = np.arange(sizes.max() + 1)
    knots = np.array([knot for knot in KNOTS if knot <= sizes.max()])
    table = np.hstack([_hats(every, knots), np.eye(len(every))])
    places = SPACING * np.arange(max(int(np.ceil(entries.max() / SPACING)), 1) + 1)
    rising = np.tri(len(places))[:, 1:]  # from what is added at each place but the first
    scans = sizes[:, None] * (_hats(entries, places) @ rising)
    columns = np.column_stack([table[sizes], scans, *slopes])
    curve = slice(table.shape[1], table.shape[1] + scans.shape[1])
    once = RIDGE / np.median(time_s)
    usual = np.zeros((len(every) + scans.shape[1] - 1, columns.shape[1]))
    usual[: len(every), len(knots) : curve.start] = once * np.eye(len(every))
    usual[len(every) :, curve] = once * np.median(sizes) * np.diff(np.eye(scans.shape[1]), axis=0)
    least = np.full(columns.shape[1], -np.inf)
    least[curve.start :] = 0  # more work takes no less time, beyond what was measured too
    found = _least_squares(columns, usual, least, time_s)
    return _Fitted(
        tuple((table @ found[: curve.start]).tolist()),
        tuple((rising @ found[curve]).tolist()),
        found[curve.stop :].tolist(),
    )


def _least_squares(columns: Floats, usual: Floats, least: Floats, time_s: Floats) -> Floats:
    """Find coefficients that predict times, by the relative error, and are no less than some.

    The rows of ``usual`` say which combinations of coefficients are expected to be zero.
    """
    goal = np.concatenate([np.ones(len(time_s)), np.zeros(len(usual))])
    expected_s = time_s
    for _ in range(ITERATIONS):
        goal[: len(time_s)] = time_s / expected_s
        rows = np.vstack([columns / expected_s[:, None], usual])
        # the triangle has the same least squares, and hardly more rows than columns
        triangle = np.linalg.qr(np.column_stack([rows, goal])).R
        scale = np.abs(triangle[:, :-1]).max(axis=0)
        scale[scale == 0] = 1  # of what no step has
        solved = lsq_linear(
            triangle[:, :-1] / scale, triangle[:, -1], (least, np.inf), method="bvls"
        )
        found: Floats = solved.x / scale
        expected_s = np.maximum(columns @ found, 0.1 * time_s)
    return found


def _hats(x: ArrayLike, knots: NDArray[np.int64]) -> Floats:
    """Weights of the values at knots in a line between them, shape (points, knots)."""
    points = np.asarray(x, dtype=np.float64)
    return np.column_stack([np.interp(points, knots, row) for row in np.eye(len(knots))])


def predicted_s(coefficients: Coefficients, steps: Steps) -> Floats:
    """Seconds of each step as the coefficients say."""
    cost = EngineStepCost(coefficients, "")
    return np.array(
        [
            cost.step_s(int(tokens), pairs, context, int(decodes), entries, int(sequences))
            for tokens, pairs, context, decodes, entries, sequences in zip(*steps[:-1], strict=True)
        ]
    )


def write_steps(steps: EngineSteps, path: Path) -> None:
    """Write coefficients as JSON, whole or not at all."""
    with whole_file(path) as scratch:
        scratch.write_text(json.dumps(steps.to_json(), indent=1) + "\n", encoding="utf-8")
