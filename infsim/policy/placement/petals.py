"""Petals: each server chooses its blocks by itself, and moves when that helps the swarm.

Borzunov et al., "Petals: collaborative inference and fine-tuning of large models", ACL'23
(demo), section 3.2; the rules are those of ``bigscience-workshop/petals``, ``block_selection.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from infsim.policy.placement.milp import Infeasible

Floats = NDArray[np.float64]

#: A better place must be so by this fraction of a server's throughput, or ties keep it moving.
HYSTERESIS = 1e-3


@dataclass(frozen=True, slots=True)
class Window:
    """The blocks ``[start, end)`` held by a server of some throughput (tokens/s)."""

    start: int
    end: int
    throughput: float


def block_throughputs(windows: Sequence[Window], blocks: int) -> Floats:
    """Return the summed throughput of the servers of each block."""
    total = np.zeros(blocks)
    for window in windows:
        total[window.start : window.end] += window.throughput
    return total


def choose_start(throughputs: Floats, length: int) -> int:
    """Return the start of the window that needs a new server the most.

    The window whose block throughputs, sorted, are lexicographically smallest; the lowest index
    among equals.
    """
    if length > len(throughputs):
        raise Infeasible(f"a window of {length} blocks is longer than {len(throughputs)} blocks")
    windows = np.sort(np.lib.stride_tricks.sliding_window_view(throughputs, length), axis=1)
    return int(np.lexsort(windows.T[::-1])[0])


def join(blocks: int, servers: Sequence[tuple[int, float]]) -> tuple[Window, ...]:
    """Place servers, given as (blocks held, tokens/s), in order of arrival."""
    windows: list[Window] = []
    for length, throughput in servers:
        length = min(length, blocks)
        start = choose_start(block_throughputs(windows, blocks), length)
        windows.append(Window(start, start + length, throughput))
    return tuple(windows)


def should_move(windows: Sequence[Window], server: int, blocks: int, quality: float = 0.75) -> bool:
    """Return whether a server should leave its blocks for others.

    Never if a block would be left without a server. Else it imagines its own best move, then
    all servers moving in turn until nobody wants to, and moves if the present minimum throughput
    over all blocks is below ``quality`` of the minimum reached so.
    """
    before = float(block_throughputs(windows, blocks).min())
    others = [window for i, window in enumerate(windows) if i != server]
    if before > 0 and block_throughputs(others, blocks).min() <= 0:
        return False
    after = float(block_throughputs(settle(windows, server, blocks), blocks).min())
    return after > 0 and before < (quality - HYSTERESIS) * after


def settle(
    windows: Sequence[Window], first: int, blocks: int, rounds: int = 100
) -> tuple[Window, ...]:
    """Return where the servers end if ``first`` moves first and then all, in turn.

    Nobody moves if ``first`` does not want to. A server moves only for a window that is better
    by more than `HYSTERESIS` of its own throughput. Petals repeats this in random order until
    nothing moves; here the order is fixed and the rounds are limited, since nothing guarantees
    that it ends.
    """
    current = list(windows)
    if not _move(current, first, blocks):
        return tuple(current)
    for _ in range(rounds):
        moved = [_move(current, i, blocks) for i in range(len(current))]
        if not any(moved):
            break
    return tuple(current)


def _move(windows: list[Window], i: int, blocks: int) -> bool:
    """Move server ``i`` to its best window; return whether it moved."""
    own = windows[i]
    load = block_throughputs(windows, blocks)
    load[own.start : own.end] -= own.throughput * (1 + HYSTERESIS)
    start = choose_start(load, own.end - own.start)
    if start == own.start:
        return False
    windows[i] = Window(start, start + own.end - own.start, own.throughput)
    return True
