"""CSV traces: which columns mean what. A further format of this kind is a function like these."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from infsim.errors import InputError, did_you_mean
from infsim.workload.readers.checks import Rows
from infsim.workload.readers.columns import identity, number, one_of, timestamp, whole
from infsim.workload.readers.table import Column, read_table

AZURE_HEADER = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")


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
    known = {
        "arrival_s": Column("arrival_s", "arrival_s", number, "a number"),
        "input_tokens": Column("input_tokens", "input_tokens", whole),
        "output_tokens": Column("output_tokens", "output_tokens", whole),
        "session_id": Column("session_id", "session_id", identity, required=False),
        "client": Column(
            "client",
            "client",
            one_of(clients),
            "the name of a client" if clients else "the index of a client",
            required=False,
        ),
        "sample_id": Column("sample_id", "sample_id", whole, required=False),
    }
    for attribute, name in (columns or {}).items():
        if attribute not in known:
            raise InputError(
                f"there is no column {attribute!r} of requests{did_you_mean(attribute, known)}",
                key=attribute,
            )
        known[attribute] = replace(known[attribute], name=name, required=True)
    for rows in read_table(path, list(known.values()), block):
        rows.columns["arrival_s"] *= time_unit_s
        yield rows


def _since_first(blocks: Iterator[Rows]) -> Iterator[Rows]:
    """Make nanoseconds since 1970 seconds since the first row, without loss."""
    first: int | None = None
    for rows in blocks:
        stamps = rows.columns["arrival_s"]
        if first is None:
            first = int(stamps[0])
        rows.columns["arrival_s"] = (stamps - first) / 1e9
        yield rows
