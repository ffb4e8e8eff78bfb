"""Tokens as kernels see them: rows of tiles, whose last one is computed whole.

A matrix product on a GPU computes its rows in tiles, so that 65 tokens take about as long as 128:
between measured numbers of tokens, its time is a staircase rather than a line. Lines are drawn in
the *work* of the tokens instead, which rises by most of a tile at its first row, and by the rest
along its others. Left out in turn, points of the table of an RTX 4090 are met within 1.3 % by that
at the 95th percentile, where lines in the tokens are 8.4 % off.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

from infsim.cost.curves import Curve
from infsim.errors import InputError

Tiles = tuple[tuple[int, int], ...]
"""First number of tokens, increasing from 1, and the rows of a tile from there on."""

LINES: Tiles = ()
FOURS: Tiles = ((1, 4),)
"""Processors: some kernels multiply four rows at a time, and a last one to three slowly."""
GPU: Tiles = ((1, 8), (17, 32), (65, 64))
GPU_FOURS: Tiles = ((1, 4), (17, 32), (65, 64))
CHOICES = (LINES, FOURS, GPU, GPU_FOURS)

STEP = 0.9
"""Share of a tile's work that is done for its first row."""
MOST = 100
"""Steps of a tile after so many tiles are too small to be drawn."""


def checked_tiles(tiles: Tiles) -> Tiles:
    """Return tiles that can be; others are an `InputError`."""
    starts = [first for first, _ in tiles]
    fewest = min((rows for _, rows in tiles), default=1)
    if tiles and (starts[0] != 1 or starts != sorted(set(starts)) or fewest < 1):
        raise InputError(f"tiles must begin at 1 and increase, with 1 row at least: {tiles}")
    if any(work(first, tiles) <= work(first - 1, tiles) for first in starts[1:]):
        raise InputError(f"tiles must not make more tokens less work: {tiles}")
    return tiles


def work(tokens: float, tiles: Tiles) -> float:
    """Return the work of so many tokens, in rows; strictly increasing, the tokens without tiles.

    Examples
    --------
    >>> work(64, GPU), round(work(65, GPU), 9), work(128, GPU), work(65, LINES)
    (64.0, 121.7, 128.0, 65.0)
    """
    rows = next((rows for first, rows in reversed(tiles) if first <= tokens), 0)
    if not rows:
        return float(tokens)
    return tokens + STEP * (rows * ceil(tokens / rows) - tokens)


def staircase(tokens: Sequence[float], times: Sequence[float], tiles: Tiles) -> Curve:
    """Return the curve through measured points that is linear in the work between them.

    Parameters
    ----------
    tokens, times : sequence of float
        Increasing numbers of tokens, and seconds.
    tiles : Tiles

    Examples
    --------
    >>> staircase((64, 128, 256), (1.0, 2.0, 4.0), GPU).at(130)
    2.90625
    """
    if not tiles:
        return Curve(tuple(tokens), tuple(times))
    in_work = Curve(tuple(work(m, tiles) for m in tokens), tuple(times))
    measured = dict(zip(map(float, tokens), times, strict=True))
    knots = sorted(measured.keys() | _edges(tokens[0], tokens[-1], tiles))
    return Curve(
        tuple(knots),
        tuple(measured[m] if m in measured else in_work.at(work(m, tiles)) for m in knots),
    )


def _edges(least: float, most: float, tiles: Tiles) -> set[float]:
    """Last tokens of tiles and first ones of the next, strictly between two numbers of tokens."""
    ends = [first for first, _ in tiles[1:]]
    found: set[float] = set()
    for (first, rows), end in zip(tiles, [*ends, most], strict=True):
        last = min(end, MOST * rows)
        for edge in range(-(-first // rows) * rows, ceil(last), rows):
            found |= {float(edge), float(edge + 1)}
    return {edge for edge in found if least < edge < most}
