"""Attention measured by the mean distance that queries look back, on a grid of prefixes.

Some tables are regular in the *key* of a batch, its query-key pairs per token, and not in the
prefix: every chunk then has prefixes of its own, and batches with keys below half their tokens are
several prompts. Time is all but a function of tokens and key, so that a regular grid of prefixes is
read off along the keys of each chunk.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from infsim.calibrate.table import KernelTable

Floats = NDArray[np.float64]

FEWER = 0.8
"""Tables are regular in the key if there are less than so many keys for each prefix."""

ALIKE = 0.02
"""Keys that differ relatively by less are one: chunks of odd tokens have keys of their own."""


def on_prefixes(rows: KernelTable) -> KernelTable:
    """Return the rows with the same prefixes for every chunk.

    Parameters
    ----------
    rows : KernelTable
        Attention of one shape of heads. Those whose chunks share prefixes are returned as they are.

    Returns
    -------
    KernelTable
        Batches without prompts, and single chunks on the prefixes that the smallest chunk was
        measured with, and 0, as far as keys go.
    """
    prompts = rows.take(rows["prefills"] > 0)
    tokens = prompts["prefills"] * prompts["chunk"]
    single = prompts["prefills"] == 1
    alone = single & (prompts["decodes"] == 0)
    if not alone.any():
        return rows
    key = prompts["prefix"] + prompts["chunk"] / 2
    keys = np.unique(np.rint(np.log(key[alone]) / ALIKE))
    if len(keys) >= FEWER * len(np.unique(prompts["prefix"][alone])):
        return rows
    least = tokens[alone].min()
    prefixes = np.unique(np.append(prompts["prefix"][alone & (tokens == least)], 0))
    batches = np.column_stack([tokens, prompts["decodes"], prompts["context"]])
    made: list[dict[str, Any]] = []
    for batch in np.unique(batches, axis=0):
        own = (batches == batch).all(axis=1)
        made += _resampled(batch, key[own], prompts["time_s"][own], prefixes)
    return _with(rows.take(rows["prefills"] == 0), prompts, made)


def _resampled(
    batch: NDArray[np.int64], key: Floats, time_s: Floats, prefixes: NDArray[np.int64]
) -> list[dict[str, Any]]:
    """Rows of one chunk, beside the same decodes, at the prefixes that its keys reach."""
    chunk, decodes, context = (int(x) for x in batch)
    keys, place = np.unique(key, return_inverse=True)
    times = np.array([np.median(time_s[place == i]) for i in range(len(keys))])
    wanted = prefixes + chunk / 2
    reached = wanted <= keys[-1] + 1
    found = np.interp(wanted[reached], keys, times)
    if len(keys) > 1:  # before the first key the line goes on, but not below half its time
        slope = max((times[1] - times[0]) / (keys[1] - keys[0]), 0.0)
        before = np.minimum(wanted[reached] - keys[0], 0.0)
        found = np.maximum(found + slope * before, times[0] / 2)
    return [
        {"chunk": chunk, "prefix": int(p), "decodes": decodes, "context": context, "time_s": t}
        for p, t in zip(prefixes[reached], found.tolist(), strict=True)
    ]


def _with(decodes: KernelTable, prompts: KernelTable, made: list[dict[str, Any]]) -> KernelTable:
    """The rows of decodes, and those made, which are like the first one of the prompts else."""
    first = {name: column[0] for name, column in prompts.columns.items()} | {"prefills": 1}
    columns = {
        name: np.concatenate(
            [decodes[name], np.array([row.get(name, first[name]) for row in made], column.dtype)]
        )
        for name, column in prompts.columns.items()
    }
    return KernelTable(columns, prompts.meta)
