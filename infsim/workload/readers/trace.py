"""Traces as workloads: the format is found from the first line, then read in blocks."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from infsim.errors import InputError, Where, did_you_mean
from infsim.rng import Streams
from infsim.workload.readers.checks import Rows, checked
from infsim.workload.readers.formats import (
    AZURE_HEADER,
    BURSTGPT_HEADER,
    read_azure,
    read_burstgpt,
    read_csv,
)
from infsim.workload.readers.mooncake import read_mooncake
from infsim.workload.readers.parquet import MAGIC as PARQUET
from infsim.workload.readers.parquet import read_parquet
from infsim.workload.readers.text import first_bytes, first_line
from infsim.workload.readers.vllm import read_vllm
from infsim.workload.requests import Requests

Reader = Callable[[Path, int], Iterator[Rows]]

FORMATS: dict[str, Reader] = {
    "azure": read_azure,
    "burstgpt": read_burstgpt,
    "mooncake": read_mooncake,
    "vllm": read_vllm,
    "csv": read_csv,
    "parquet": read_parquet,
}
"""Readers by name: ``reader(path, block)`` yields rows in blocks, not yet checked."""

ROWS = 1024
"""Rows read at a time: with more of them alive, garbage collection halves the speed."""


@dataclass(frozen=True)
class TraceFile:
    """The requests of a trace file; reading needs the memory of one block.

    Attributes
    ----------
    path : Path
        The file; it may be compressed with gzip.
    reader : callable
        One of `FORMATS`.
    block : int
        Requests of a block.
    """

    path: Path
    reader: Reader = field(repr=False)
    block: int = ROWS

    def blocks(self, streams: Streams) -> Iterator[Requests]:
        """Yield the requests in blocks; nothing is drawn at random.

        Raises
        ------
        InputError
            With file, line and value, at the first row that is damaged or impossible.
        """
        del streams
        return checked(self.path, self.reader(self.path, self.block))


def open_trace(
    path: Path,
    format: str = "auto",  # noqa: A002 - the word of the scenario
    *,
    columns: Mapping[str, str] | None = None,
    time_unit_s: float = 1.0,
    clients: Sequence[str] = (),
) -> TraceFile:
    """Open a trace file; its rows are read and checked when they are asked for.

    Parameters
    ----------
    path : Path
        The file.
    format : str
        One of `FORMATS`, or ``auto``.
    columns, time_unit_s, clients
        For plain CSV and Parquet, see `infsim.workload.readers.formats.read_csv`.

    Raises
    ------
    InputError
        If the file is absent or empty, or the format is unknown.
    """
    name = guess_format(path) if format == "auto" else format
    if name not in FORMATS:
        raise InputError(
            f"unknown trace format {format!r}, known are auto, {', '.join(FORMATS)}"
            + did_you_mean(format, FORMATS)
        )
    plain = {"csv": read_csv, "parquet": read_parquet}.get(name)
    if plain is None:
        refuse_plain_options(name, columns, time_unit_s)
        return TraceFile(path, FORMATS[name])
    return TraceFile(
        path, partial(plain, columns=columns, time_unit_s=time_unit_s, clients=clients)
    )


def refuse_plain_options(name: str, columns: Mapping[str, str] | None, time_unit_s: float) -> None:
    """Raise InputError if a format that has its own columns and units is told others."""
    for option, is_given in (("columns", bool(columns)), ("time unit", time_unit_s != 1.0)):
        if is_given:
            raise InputError(
                f"{option} is for plain CSV and Parquet, this trace is of the format {name!r}"
            )


def header_names(path: Path) -> list[str]:
    """Return the names in the first line of a CSV file.

    Raises
    ------
    InputError
        If the file is absent, empty or not text, or the line is no line of CSV.
    """
    try:
        names = next(csv.reader([first_line(path)], strict=True), [])
    except csv.Error as error:
        raise InputError(f"the first line is no header: {error}", where=Where(str(path))) from None
    return [name.strip() for name in names]


def guess_format(path: Path) -> str:
    """Return the name of the format that the beginning of a file speaks of.

    Raises
    ------
    InputError
        If the file is absent, empty or not text.
    """
    if path.suffix == ".parquet" or first_bytes(path, len(PARQUET)) == PARQUET:
        return "parquet"
    line = first_line(path)
    if line.lstrip().startswith("{"):
        return "vllm" if '"input_lens"' in line else "mooncake"
    header = set(header_names(path))
    for name, columns in (("azure", AZURE_HEADER), ("burstgpt", BURSTGPT_HEADER)):
        if len(header.intersection(columns)) >= 2:
            return name
    return "csv"
