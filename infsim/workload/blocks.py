"""Operations on blocks of requests: make, take, join, cut into equal sizes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infsim.errors import InputError
from infsim.workload.requests import Requests

BLOCK = 8192
"""Requests that are read or drawn at a time: a few hundred kilobytes of columns."""

COLUMNS = tuple(field.name for field in fields(Requests) if not field.name.startswith("prefix"))
"""The columns that every request has."""


def block(
    arrival_s: NDArray[np.float64],
    input_tokens: NDArray[np.int64],
    output_tokens: NDArray[np.int64],
    *,
    client: NDArray[np.int64] | None = None,
    session_id: NDArray[np.int64] | None = None,
    sample_id: NDArray[np.int64] | None = None,
) -> Requests:
    """Make a block; ``client`` is 0, ``session_id`` and ``sample_id`` are -1 unless given."""
    n = len(arrival_s)
    return Requests(
        arrival_s,
        input_tokens,
        output_tokens,
        np.zeros(n, dtype=np.int64) if client is None else client,
        np.full(n, -1, dtype=np.int64) if session_id is None else session_id,
        np.full(n, -1, dtype=np.int64) if sample_id is None else sample_id,
    )


def empty() -> Requests:
    """Return a block without requests."""
    none = np.zeros(0, dtype=np.int64)
    return block(np.zeros(0), none, none)


def ragged(starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the indices ``starts[i], starts[i] + 1, …`` of all runs, one after the other.

    Parameters
    ----------
    starts, lengths : int64 (n,)
        First index and length of each run.

    Returns
    -------
    int64 (lengths.sum(),)
    """
    before = np.cumsum(lengths) - lengths
    indices: NDArray[np.int64] = np.arange(int(lengths.sum())) + np.repeat(starts - before, lengths)
    return indices


def offsets(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return where runs of these lengths begin, and the end of the last: int64 (n + 1,)."""
    return np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(lengths)])


def take(requests: Requests, index: slice | NDArray[np.int64]) -> Requests:
    """Return some of the requests, in the order of `index`."""
    columns = {name: getattr(requests, name)[index] for name in COLUMNS}
    if requests.prefix_offsets is None or requests.prefix_hashes is None:
        return Requests(**columns)
    starts = requests.prefix_offsets[:-1][index]
    lengths = np.diff(requests.prefix_offsets)[index]
    return Requests(
        **columns,
        prefix_offsets=offsets(lengths),
        prefix_hashes=requests.prefix_hashes[ragged(starts, lengths)],
        prefix_block_tokens=requests.prefix_block_tokens,
    )


def concatenate(parts: Sequence[Requests]) -> Requests:
    """Join blocks; the caller sees to the order of arrival.

    Raises
    ------
    InputError
        If the prefix hashes of the parts stand for blocks of different sizes.
    """
    if len(parts) == 1:
        return parts[0]
    if not parts:
        return empty()
    columns: dict[str, Any] = {
        name: np.concatenate([getattr(part, name) for part in parts]) for name in COLUMNS
    }
    hashed = [part for part in parts if part.prefix_hashes is not None]
    if not hashed:
        return Requests(**columns)
    sizes = sorted({part.prefix_block_tokens for part in hashed})
    if len(sizes) > 1:
        raise InputError(
            f"prefix hashes of blocks of {sizes[0]} and of {sizes[1]} tokens cannot be mixed"
        )
    return Requests(
        **columns,
        prefix_offsets=offsets(np.concatenate([prefix_lengths(part) for part in parts])),
        prefix_hashes=np.concatenate(
            [part.prefix_hashes for part in hashed if part.prefix_hashes is not None]
        ),
        prefix_block_tokens=sizes[0],
    )


def prefix_lengths(requests: Requests) -> NDArray[np.int64]:
    """Return the number of prefix hashes of each request: int64 (n,)."""
    if requests.prefix_offsets is None:
        return np.zeros(len(requests), dtype=np.int64)
    return np.diff(requests.prefix_offsets)


def with_prefixes(
    requests: Requests, lengths: NDArray[np.int64], hashes: NDArray[np.int64], block_tokens: int
) -> Requests:
    """Return the requests with these prefix hashes: `lengths` of them each, in `hashes`."""
    return replace(
        requests,
        prefix_offsets=offsets(lengths),
        prefix_hashes=hashes,
        prefix_block_tokens=block_tokens,
    )


def resize(blocks: Iterable[Requests], size: int = BLOCK) -> Iterator[Requests]:
    """Cut a stream of blocks into blocks of `size` requests, the last one shorter."""
    waiting: list[Requests] = []
    count = 0
    for part in blocks:
        waiting.append(part)
        count += len(part)
        if count < size:
            continue
        joined = concatenate(waiting)
        for start in range(0, count - size + 1, size):
            yield take(joined, slice(start, start + size))
        count %= size
        waiting = [take(joined, slice(len(joined) - count, None))] if count else []
    if count:
        yield concatenate(waiting)


def read_all(blocks: Iterable[Requests]) -> Requests:
    """Join a finite stream of blocks into one."""
    return concatenate(list(blocks))
