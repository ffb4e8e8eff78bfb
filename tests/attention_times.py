"""Attention of a batch from measured grids, the slow and obvious way."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import ceil, prod
from typing import Any

import numpy as np
from scipy.interpolate import PchipInterpolator

from infsim.cost.attention import FULL, MOVED
from infsim.cost.monotone import PARTS
from infsim.cost.tables import AttentionTable

Axes = Sequence[Sequence[float]]


def interpolated(axes: Axes, times: Sequence[float], place: Sequence[float]) -> float:
    """Linear along each axis, one after the other; before an axis its start, beyond it its end."""
    if not axes:
        return times[0]
    axis, x = axes[0], place[0]
    below = [i for i, (low, _) in enumerate(pairwise(axis)) if low <= x]
    i = max(below, default=0)
    step = prod(len(other) for other in axes[1:])
    low, high = (
        interpolated(axes[1:], times[j * step : (j + 1) * step], place[1:]) for j in (i, i + 1)
    )
    return low + (max(x, axis[0]) - axis[i]) / (axis[i + 1] - axis[i]) * (high - low)


def curved(axes: Axes, times: Sequence[float], along: int) -> tuple[list[Sequence[float]], Any]:
    """The same grid with a monotone cubic through the points of one axis, in short lines."""
    x = np.array(axes[along])
    parts = [np.linspace(a, b, PARTS + 1)[:-1] for a, b in pairwise(x)]
    points = np.concatenate([*parts, x[-1:]])
    cells = np.array(times).reshape([len(axis) for axis in axes])
    smooth = PchipInterpolator(x, cells, axis=along)(points)
    return [*axes[:along], points.tolist(), *axes[along + 1 :]], smooth.ravel().tolist()


def attention_s(
    table: AttentionTable, ratio: float, entry_s: float,
    tokens: float, pairs: float, sequences: int, context: float,
) -> float:  # fmt: skip
    """Seconds of prompts, and of decodes beside them if there are sequences."""
    tokens, pairs = tokens * ratio, pairs * ratio
    blocks = max(ceil(tokens / table.chunks[-1]), 1)
    tokens, pairs = tokens / blocks, pairs / blocks
    prefix = pairs / tokens - (tokens + 1) / 2
    chunk, prompts = tokens, 1.0
    if prefix < 0:
        chunk, prefix = max(2 * pairs / tokens - 1, 1.0), 0.0
        prompts = tokens / chunk
    prefill = curved((table.chunks, table.prefixes), table.prefill_s, 0)
    first_s = interpolated(*prefill, (chunk, prefix))
    others_s = 0.0
    if prompts != 1.0 and table.prompts:
        several = curved((table.prompts, table.prompt_chunks), table.prompts_s, 1)
        others_s = max(interpolated(*several, (prompts, chunk)) - first_s, 0.0)
    elif prompts != 1.0:
        filled = min(chunk * table.heads / FULL, 1.0)
        group = table.heads / table.kv_heads
        moved_s = (1 + group) * entry_s / ratio / MOVED
        turns_s = (prompts * filled - 1) * (first_s - table.prefill_s[0])
        others_s = max(turns_s, (prompts - 1) * chunk * moved_s, 0.0)
    if not sequences:
        return blocks * (first_s + others_s)
    joint = (
        table.mixed_chunks, table.mixed_prefixes, table.mixed_sequences, table.mixed_contexts
    )  # fmt: skip
    batch = chunk, prefix, sequences * ratio, context / sequences
    beside_s = interpolated(*curved(joint, table.mixed_s, 0), batch) + others_s
    return beside_s + (blocks - 1) * (first_s + others_s)
