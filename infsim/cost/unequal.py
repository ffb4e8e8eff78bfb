"""Attention of decodes of unequal contexts.

Kernels are measured with equal contexts. In a batch of unequal ones the processors that have the
longest work on while others are done, so that it takes a share of the way from the time of as many
with the mean context to that of as many with the longest. LLMServingSim fits this share to
measured batches (``alpha`` in its ``skew_fit``; casys-kaist/LLMServingSim, MIT): 0.07 for vLLM 0.28
on an RTX PRO 6000, 0.01 for vLLM 0.19 on an RTX 4090.
"""

from __future__ import annotations

from dataclasses import replace

from infsim.cost.calibration import Calibration
from infsim.cost.curves import Curve
from infsim.cost.tables import AttentionTable


def for_unequal(calibration: Calibration, longest: float) -> Calibration:
    """Return coefficients for batches whose longest context is so many times the mean one.

    Parameters
    ----------
    calibration : Calibration
    longest : float
        At least 1; contexts are equal at 1.
    """
    tables = tuple(_slower(table, longest) for table in calibration.attentions)
    return replace(calibration, attentions=tables)


def _slower(table: AttentionTable, longest: float) -> AttentionTable:
    if not table.unequal or longest <= 1:
        return table
    share = table.unequal
    decode_s = _towards(table.contexts, table.decode_s, longest, share)
    mixed_s = _towards(table.mixed_contexts, table.mixed_s, longest, share)
    return replace(table, decode_s=decode_s, mixed_s=mixed_s)


def _towards(
    contexts: tuple[float, ...], times: tuple[float, ...], longest: float, share: float
) -> tuple[float, ...]:
    """Move the times of each row along the contexts towards those of the longest context."""
    found: list[float] = []
    for start in range(0, len(times), len(contexts) or 1):
        row = times[start : start + len(contexts)]
        far = [_beyond(contexts, row, longest * x) for x in contexts]
        found += [t + share * max(f - t, 0.0) for t, f in zip(row, far, strict=True)]
    return tuple(found)


def _beyond(contexts: tuple[float, ...], row: tuple[float, ...], x: float) -> float:
    """The time at a context, past the last one along the last line."""
    if x <= contexts[-1]:
        return Curve(contexts, row).at(x)
    slope = (row[-1] - row[-2]) / (contexts[-1] - contexts[-2])
    return row[-1] + slope * (x - contexts[-1])
