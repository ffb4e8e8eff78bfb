"""Digests of what a run gave: equal results have equal digests, whatever file holds them.

A file's bytes also depend on the library that wrote it; the digest is of the content alone.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


def digest_columns(columns: Mapping[str, NDArray[Any] | Sequence[str]]) -> str:
    """Return the SHA-256 of a table: names, types and values of its columns, in order.

    Numbers enter in little-endian bytes, every NaN and every zero as one and the same; texts in
    UTF-8, each with its length.
    """
    digest = sha256()
    for name, column in columns.items():
        if isinstance(column, np.ndarray):
            data = _canonical(column)
            digest.update(f"{name}:{data.dtype.str}:{len(data)}\n".encode())
            digest.update(data.tobytes())
        else:
            digest.update(f"{name}:text:{len(column)}\n".encode())
            for text in column:
                raw = text.encode()
                digest.update(b"%d:" % len(raw) + raw)
    return digest.hexdigest()


def _canonical(column: NDArray[Any]) -> NDArray[Any]:
    little = np.ascontiguousarray(column, dtype=column.dtype.newbyteorder("<"))
    if little.dtype.kind != "f":
        return little
    return np.where(np.isnan(little), np.nan, little + 0.0).astype(little.dtype)


def digest_json(value: Any) -> str:
    """Return the SHA-256 of JSON data, independent of the order of keys and of white space."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return sha256(text.encode()).hexdigest()


def digest_all(digests: Iterable[str]) -> str:
    """Return the SHA-256 of a sequence of digests."""
    return sha256("\n".join(digests).encode()).hexdigest()


def digest_file(path: Path) -> str:
    """Return the SHA-256 of the bytes of a file."""
    digest = sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
