"""ServeGen data: many clients, each with its own rates, burstiness and lengths over a day."""

from __future__ import annotations

import csv
import json
import lzma
import math
import re
import tarfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from infsim.errors import InputError, Where, did_you_mean
from infsim.rng import Streams
from infsim.workload.lengths import Discrete, Floats, Marginal, Sampler, Tokens
from infsim.workload.merge import Merge
from infsim.workload.readers.columns import number, parsed
from infsim.workload.readers.text import open_text
from infsim.workload.synthetic import Synthetic

_CLIENT_BLOCK = 4096
"""Requests drawn at a time for each of the clients, all of which are held at once."""

_FAMILIES = ("Gamma", "Weibull")
_CLIENT = re.compile(r"chunk-\d+-(trace\.csv|dataset\.json)")
_ENTRY = re.compile(r"\s*(\d+)(?:\.0*)?\s*:\s*([0-9.eE+-]+)\s*")


@dataclass(frozen=True)
class WindowedRenewal:
    """Renewal arrivals whose rate and gaps change from window to window, until the last ends.

    Gaps are drawn with a mean of 1 from the family of the window in which they begin, in a time
    that runs with the rate. So a gap may span windows of other rates, and each window has its
    rate on average, whatever the burstiness.

    Attributes
    ----------
    window_s : float
        Length of a window.
    rates_per_s : sequence of float
        Rate in each window, 0 or more.
    families : sequence of str
        ``Gamma`` or ``Weibull``, of the gaps that begin in the window.
    shapes : sequence of float
        Shape parameter of the family.
    """

    window_s: float
    rates_per_s: Sequence[float]
    families: Sequence[str]
    shapes: Sequence[float]

    def times(self, streams: Streams, block: int) -> Iterator[Floats]:
        """Yield increasing times in seconds, whole windows, about `block` at a time."""
        generator = streams.stream("workload", "arrivals")
        waiting: list[Floats] = []
        next_arrival: float | None = None
        for window, rate in enumerate(self.rates_per_s):
            if not rate:
                continue
            if next_arrival is None:
                next_arrival = float(self._gaps(generator, window, 1)[0])
            work = rate * self.window_s
            positions = [np.array([next_arrival])]
            while positions[-1][-1] < work:
                gaps = self._gaps(generator, window, 16 + int(work))
                positions.append(positions[-1][-1] + np.cumsum(gaps))
            position = np.concatenate(positions)
            inside = int(np.searchsorted(position, work))
            next_arrival = float(position[inside] - work)
            times = window * self.window_s + position[:inside] / rate
            waiting.append(np.minimum(times, (window + 1) * self.window_s))
            if sum(map(len, waiting)) >= block:
                yield np.concatenate(waiting)
                waiting = []
        if waiting:
            yield np.concatenate(waiting)

    def _gaps(self, generator: np.random.Generator, window: int, n: int) -> Floats:
        """Draw gaps with a mean of 1."""
        shape = self.shapes[window]
        if self.families[window] == "Gamma":
            return generator.gamma(shape, 1 / shape, n)
        return generator.weibull(shape, n) / math.gamma(1 + 1 / shape)


@dataclass(frozen=True)
class SegmentedLengths:
    """Independent lengths whose distributions change with time.

    Attributes
    ----------
    starts_s : sequence of float
        Where each segment begins, increasing; the first one also holds before.
    input_tokens, output_tokens : sequence of Marginal
        Of each segment.
    """

    starts_s: Sequence[float]
    input_tokens: Sequence[Marginal]
    output_tokens: Sequence[Marginal]

    def sampler(self, streams: Streams) -> Sampler:
        parts = (
            (streams.stream("workload", "input_tokens"), self.input_tokens),
            (streams.stream("workload", "output_tokens"), self.output_tokens),
        )

        def sample(arrival_s: Floats) -> tuple[Tokens, Tokens]:
            segment = np.searchsorted(self.starts_s, arrival_s, side="right") - 1
            segment = np.maximum(segment, 0)
            columns = []
            for generator, marginals in parts:
                u = generator.random(len(arrival_s))
                tokens = np.empty(len(arrival_s), dtype=np.int64)
                for index in np.unique(segment).tolist():
                    tokens[segment == index] = marginals[index].tokens(u[segment == index])
                columns.append(tokens)
            return columns[0], columns[1]

        return sample


def open_servegen(path: Path) -> Merge:
    """Return the clients of ServeGen data together, for the time that the data cover.

    Each client has a file ``chunk-<i>-trace.csv`` without header: start of a window in seconds,
    rate, CV, family of the gaps and its two parameters; and a file ``chunk-<i>-dataset.json``
    with tables of lengths for segments of the day. A segment without lengths takes those of the
    one before, or after.

    Parameters
    ----------
    path : Path
        A folder, or a tar archive with one folder of clients in it.

    Raises
    ------
    InputError
        If there are no such files, or one of them is damaged.

    Notes
    -----
    Source: https://github.com/alibaba/ServeGen (Apache-2.0), Xiang et al., NSDI 2026. The data
    give family, shape and scale of the gaps; where the scale does not agree with the rate, the
    rate counts.
    """
    files = _in_folder(path) if path.is_dir() else _in_archive(path)
    traces = sorted((name for name in files if name.endswith("-trace.csv")), key=_chunk)
    if not traces:
        raise InputError("no files chunk-<i>-trace.csv in it", where=Where(str(path)))
    clients = []
    for trace in traces:
        arrivals = _arrivals(files[trace])
        if arrivals is not None:
            name = trace.replace("trace.csv", "dataset.json")
            if name not in files:
                raise InputError(f"no such file: {name}", where=Where(str(path)))
            clients.append(Synthetic(arrivals, _lengths(files[name]), _CLIENT_BLOCK))
    if not clients:
        raise InputError("no client ever asks anything", where=Where(str(path)))
    return Merge(clients)


class _Text(NamedTuple):
    """A file of a client, and what it is called in messages."""

    name: str
    text: str


def _in_folder(folder: Path) -> dict[str, _Text]:
    """Read the files of clients in a folder."""
    files = {}
    for path in folder.iterdir():
        if _CLIENT.fullmatch(path.name):
            with open_text(path) as text:
                files[path.name] = _Text(str(path), text.read())
    return files


def _in_archive(path: Path) -> dict[str, _Text]:
    """Read the files of clients in an archive; they must lie in one folder of it."""
    if not path.is_file():
        raise InputError(f"no such file or folder: {path}")
    files: dict[str, _Text] = {}
    folders = set()
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                folder, _, name = member.name.rpartition("/")
                content = archive.extractfile(member) if _CLIENT.fullmatch(name) else None
                if content is not None:
                    folders.add(folder)
                    files[name] = _Text(f"{path}/{member.name}", content.read().decode("utf-8-sig"))
    except (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, OSError) as error:
        reason = str(error).partition("\n")[0].rstrip(":")
        raise InputError(f"no readable tar archive: {reason}", where=Where(str(path))) from None
    except UnicodeDecodeError as error:
        raise InputError(f"{member.name} is not UTF-8: {error}", where=Where(str(path))) from None
    if len(folders) > 1:
        raise InputError(
            f"clients in several folders, unpack it and name one of {', '.join(sorted(folders))}",
            where=Where(str(path)),
        )
    return files


def _chunk(name: str) -> tuple[int, str]:
    digits = re.search(r"\d+", name)
    return int(digits.group()) if digits else 0, name


def _arrivals(file: _Text) -> WindowedRenewal | None:
    """Read the windows of a client; None if it never asks anything."""
    path = file.name
    rows = csv.reader(file.text.splitlines())
    numbered = [(line, row) for line, row in enumerate(rows, start=1) if row]

    def where(index: int) -> Where:
        return Where(path, numbered[index][0])

    for index, (_, row) in enumerate(numbered):
        if len(row) != 6:
            raise InputError(
                f"{len(row)} fields instead of 6: {','.join(row)!r}", where=where(index)
            )
    if len(numbered) < 2:
        raise InputError(f"{len(numbered)} windows, at least 2 are needed", where=Where(path))
    starts, rates, _, families, shapes, _ = zip(*(row for _, row in numbered), strict=True)
    start_s = parsed(starts, number, "a number", "start of a window", where)
    rate = parsed(rates, number, "a number", "rate", where)
    shape = parsed(shapes, number, "a number", "shape", where)
    window_s = float(start_s[1] - start_s[0])
    for index, family in enumerate(families):
        if rate[index] < 0 or start_s[index] != index * window_s or window_s <= 0:
            raise InputError(
                f"a window of {start_s[index]} s with rate {rate[index]}: rates must be 0 or more, "
                f"windows equally long and from 0 s on",
                where=where(index),
            )
        if rate[index] and (family not in _FAMILIES or shape[index] <= 0):
            raise InputError(
                f"gaps are {family!r} with shape {shape[index]}, known are {', '.join(_FAMILIES)} "
                f"with a shape above 0{did_you_mean(family, _FAMILIES)}",
                where=where(index),
            )
    if not rate.any():
        return None
    return WindowedRenewal(window_s, rate.tolist(), families, shape.tolist())


def _lengths(file: _Text) -> SegmentedLengths:
    where = Where(file.name)
    try:
        segments = json.loads(file.text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"not JSON: {error}", where=where) from None
    if not isinstance(segments, dict) or not all(str(start).isdigit() for start in segments):
        raise InputError("not an object with a start in seconds for each segment", where=where)
    columns: dict[str, list[Marginal | None]] = {"input_tokens": [], "output_tokens": []}
    starts = sorted(segments, key=int)
    for start in starts:
        for name, marginals in columns.items():
            entry = segments[start].get(name) if isinstance(segments[start], dict) else None
            marginals.append(_table(entry, Where(file.name, path=f"{start}.{name}")))
    return SegmentedLengths(
        [float(start) for start in starts],
        *(_filled(marginals, where) for marginals in columns.values()),
    )


def _table(entry: object, where: Where) -> Discrete | None:
    """Parse the text of a dictionary from lengths to probabilities; None if it is empty."""
    if not isinstance(entry, str) or not (entry.startswith("{") and entry.endswith("}")):
        raise InputError(
            f"{str(entry)[:40]!r} is not a table '{{length: probability}}'", where=where
        )
    weights: dict[int, float] = {}
    for item in filter(str.strip, entry[1:-1].split(",")):
        match = _ENTRY.fullmatch(item)
        if match is None:
            raise InputError(f"{item.strip()!r} is not 'length: probability'", where=where)
        weights[int(match.group(1))] = float(match.group(2))
    if not weights:
        return None
    lengths = sorted(weights)
    try:
        return Discrete(lengths, [weights[length] for length in lengths])
    except InputError as error:
        raise error.at(where) from None


def _filled(marginals: Sequence[Marginal | None], where: Where) -> list[Marginal]:
    """Give segments without lengths those of the one before, or else of the first that has some."""
    known = next((marginal for marginal in marginals if marginal is not None), None)
    if known is None:
        raise InputError("no segment has lengths", where=where)
    filled = []
    for marginal in marginals:
        known = marginal or known
        filled.append(known)
    return filled
