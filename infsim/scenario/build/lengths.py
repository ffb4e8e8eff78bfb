"""The distributions of lengths that a scenario describes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from infsim.rng import Streams
from infsim.scenario.schema import workload as schema
from infsim.workload import lengths
from infsim.workload.blocks import BLOCK
from infsim.workload.readers.columns import number, whole
from infsim.workload.readers.table import Column, read_table


def build_lengths(part: Any) -> lengths.Lengths:
    """Return the distribution of both lengths; one token each if the scenario gives none.

    Parameters
    ----------
    part : part of the schema, or None

    Raises
    ------
    InputError
        For impossible figures and damaged files.
    """
    if isinstance(part, schema.TraceLengths):
        return _of_trace(part)
    if isinstance(part, schema.LengthTable):
        return _of_table(Path(part.table))
    if isinstance(part, schema.IndependentLengths):
        return lengths.Independent(_marginal(part.input), _marginal(part.output))
    return lengths.Independent(lengths.Constant(1), lengths.Constant(1))


def _marginal(entry: Any) -> lengths.Marginal:
    if isinstance(entry, schema.UniformLength):
        return lengths.Uniform(entry.low, entry.high)
    if isinstance(entry, schema.LognormalLength):
        high = np.inf if entry.high is None else entry.high
        return lengths.Lognormal(entry.mean, entry.cv, entry.low, high)
    if isinstance(entry, schema.QuantileLength):
        return lengths.Quantiles(entry.levels, entry.values)
    return lengths.Constant(entry.tokens if isinstance(entry, schema.ConstantLength) else entry)


def _of_trace(part: schema.TraceLengths) -> lengths.Pairs:
    from infsim.scenario.build.workload import as_file, open_entry, open_profile

    entry = as_file(part.trace)
    profile = open_profile(entry)
    requests = open_entry(entry) if profile is None else profile.workload()
    # a file of requests draws nothing; of a profile it is always the same requests
    blocks = list(requests.blocks(Streams(0)))
    return lengths.Pairs(
        np.concatenate([block.input_tokens for block in blocks]),
        np.concatenate([block.output_tokens for block in blocks]),
    )


def _of_table(path: Path) -> lengths.Pairs:
    columns = (
        Column("input_tokens", "input_tokens", whole),
        Column("output_tokens", "output_tokens", whole),
        Column("weight", "weight", number, "a number", required=False),
    )
    parts = [rows.columns for rows in read_table(path, columns, BLOCK)]
    table = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return lengths.Pairs(table["input_tokens"], table["output_tokens"], table.get("weight"))
