"""Mooncake traces: one JSON object a line, with hashes of the prompt's blocks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infsim.errors import InputError, Where, did_you_mean
from infsim.workload.readers.checks import Rows
from infsim.workload.readers.text import hint_if_cut, open_text, parse_json

BLOCK_TOKENS = 512
FIELDS = {
    "arrival_s": "timestamp",
    "input_tokens": "input_length",
    "output_tokens": "output_length",
}
HASHES = "hash_ids"


def read_mooncake(path: Path, block: int, *, partial_blocks: bool = False) -> Iterator[Rows]:
    """Mooncake traces: times in ms, a hash id for every 512 tokens of the prompt.

    Parameters
    ----------
    path, block
        The file and the number of rows of a block.
    partial_blocks : bool
        Whether to keep the id of a prompt's last block where it is shorter than 512 tokens.
        Caches of whole blocks cannot use it; published hit rates count it.

    Notes
    -----
    Source: https://github.com/kvcache-ai/Mooncake (Apache-2.0), Qin et al., FAST 2025.
    """
    with hint_if_cut(path), open_text(path) as text:
        numbered = ((line, item) for line, item in enumerate(text, start=1) if item.strip())
        while part := list(islice(numbered, block)):
            lines = [line for line, _ in part]
            objects = [_object(item, Where(str(path), line)) for line, item in part]
            yield _rows(str(path), lines, objects, partial_blocks)


def _object(text: str, where: Where) -> dict[str, Any]:
    """Parse one line and check the types of what is used."""
    item = parse_json(text, where)
    for name in (*FIELDS.values(), HASHES):
        if name not in item:
            raise InputError(f"no field {name!r}{did_you_mean(name, item)}", where=where)
    for name in FIELDS.values():
        if type(item[name]) is not int or abs(item[name]) >= 1 << 53:
            raise InputError(f"{name} is {item[name]!r}, not a whole number", where=where)
    hashes = item[HASHES]
    if not isinstance(hashes, list) or not all(
        type(value) is int and abs(value) < 1 << 63 for value in hashes
    ):
        raise InputError(f"{HASHES} is not a list of whole numbers", where=where)
    if len(hashes) > -(-item["input_length"] // BLOCK_TOKENS):
        raise InputError(
            f"{len(hashes)} {HASHES} for {item['input_length']} tokens, at most one for "
            f"{BLOCK_TOKENS} tokens",
            where=where,
        )
    return item


def _rows(path: str, lines: Sequence[int], items: list[dict[str, Any]], partial: bool) -> Rows:
    columns: dict[str, NDArray[Any]] = {
        attribute: np.array([item[name] for item in items], dtype=np.int64)
        for attribute, name in FIELDS.items()
    }
    columns["arrival_s"] = columns["arrival_s"] / 1e3
    kept = [
        item[HASHES] if partial else item[HASHES][: item["input_length"] // BLOCK_TOKENS]
        for item in items
    ]
    lengths = np.array([len(hashes) for hashes in kept], dtype=np.int64)
    hashes = np.array([value for row in kept for value in row], dtype=np.int64)
    return Rows(path, lines, columns, FIELDS, (lengths, hashes, BLOCK_TOKENS))
