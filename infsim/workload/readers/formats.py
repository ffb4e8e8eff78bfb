"""CSV traces: which columns mean what. A further format of this kind is a function like these."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from infsim.errors import InputError, did_you_mean
from infsim.workload.readers.checks import Rows
from infsim.workload.readers.columns import (
    identity,
    number,
    one_of,
    optional_identity,
    timestamp,
    whole,
)
from infsim.workload.readers.table import Column, read_table

AZURE_HEADER = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")
BURSTGPT_HEADER = ("Timestamp", "Request tokens", "Response tokens")

_DAY_S = 86400


def read_azure(path: Path, block: int) -> Iterator[Rows]:
    """Azure LLM inference traces of 2023 and 2024; the first request arrives at 0 s.

    Source: https://github.com/Azure/AzurePublicDataset (CC-BY-4.0).
    """
    time, context, generated = AZURE_HEADER
    columns = (
        Column("arrival_s", time, timestamp, "a time as 2023-11-16 18:15:46.6805900"),
        Column("input_tokens", context, whole),
        Column("output_tokens", generated, whole),
    )
    return _since_first(read_table(path, columns, block))


def read_burstgpt(path: Path, block: int) -> Iterator[Rows]:
    """BurstGPT traces: times in seconds; failed requests (no response tokens) are left out.

    Times are counted from the midnight before the first request, so that the time of day stays:
    those of the third file begin after 225 days. The third file also has sessions, for requests
    that are not of the API.

    Source: https://github.com/HPMLL/BurstGPT (CC-BY-4.0), Wang et al., arXiv:2401.17644.
    """
    time, request, response = BURSTGPT_HEADER
    start_s: float | None = None
    columns = (
        Column("arrival_s", time, number, "a number"),
        Column("input_tokens", request, whole),
        Column("output_tokens", response, whole),
        Column("session_id", "Session ID", optional_identity, required=False),
    )
    for rows in read_table(path, columns, block):
        if start_s is None:
            # what is negative stays so, and is refused
            start_s = max(0.0, float(rows.columns["arrival_s"][0]) // _DAY_S * _DAY_S)
        rows.columns["arrival_s"] -= start_s
        answered = np.flatnonzero(rows.columns["output_tokens"] != 0)
        if len(answered):
            yield replace(
                rows,
                lines=[rows.lines[row] for row in answered.tolist()],
                columns={name: values[answered] for name, values in rows.columns.items()},
            )


def read_csv(
    path: Path,
    block: int,
    *,
    columns: Mapping[str, str] | None = None,
    time_unit_s: float = 1.0,
    clients: Sequence[str] = (),
) -> Iterator[Rows]:
    """CSV with the columns arrival_s, input_tokens, output_tokens, and perhaps others.

    Parameters
    ----------
    path, block
        The file and the number of rows of a block.
    columns : mapping, optional
        What the file calls a column, where it is not called like ours:
        ``{"input_tokens": "prompt_len"}``. Optional columns: session_id, client, sample_id.
    time_unit_s : float
        Seconds of one unit of the arrival column.
    clients : sequence of str
        Names that the client column may have; without them it has indices.
    """
    for rows in read_table(path, plain_columns(columns, clients), block):
        rows.columns["arrival_s"] *= time_unit_s
        yield rows


def plain_columns(
    columns: Mapping[str, str] | None = None, clients: Sequence[str] = ()
) -> list[Column]:
    """Return the columns of plain tables, renamed by a column map, see `read_csv`.

    Raises
    ------
    InputError
        If the map names a column that requests do not have.
    """
    client = "the name of a client" if clients else "the index of a client"
    known = {
        column.attribute: column
        for column in (
            Column("arrival_s", "arrival_s", number, "a number"),
            Column("input_tokens", "input_tokens", whole),
            Column("output_tokens", "output_tokens", whole),
            Column("session_id", "session_id", identity, required=False),
            Column("client", "client", one_of(clients), client, required=False),
            Column("sample_id", "sample_id", whole, required=False),
        )
    }
    for attribute, name in (columns or {}).items():
        if attribute not in known:
            raise InputError(
                f"there is no column {attribute!r} of requests{did_you_mean(attribute, known)}",
                key=attribute,
            )
        known[attribute] = replace(known[attribute], name=name, required=True)
    return list(known.values())


def _since_first(blocks: Iterator[Rows]) -> Iterator[Rows]:
    """Make nanoseconds since 1970 seconds since the first row, without loss."""
    first: int | None = None
    for rows in blocks:
        stamps = rows.columns["arrival_s"]
        if first is None:
            first = int(stamps[0])
        rows.columns["arrival_s"] = (stamps - first) / 1e9
        yield rows
