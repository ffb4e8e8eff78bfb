"""Columns of text made into numbers, strictly: what is not exactly a number is refused."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infsim.errors import InputError, Where, did_you_mean

Parse = Callable[[Sequence[str]], NDArray[Any]]
"""Makes numbers of texts; raises ValueError or OverflowError if one of them is none."""

_NOT_OF_NUMBERS = str.maketrans("", "", "0123456789.eE+-")
# years that nanoseconds since 1970 can count in 64 bits: numpy wraps around without a word
_TIMESTAMP = re.compile(
    r"(?:19[789]|2[01]\d)\d-\d\d-\d\d[ T]\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:Z|\+00:00)?", re.ASCII
)


def whole(texts: Sequence[str]) -> NDArray[np.int64]:
    """Whole numbers: digits, perhaps with a minus sign (no spaces, no ``1_000``, no ``1.0``)."""
    digits = "".join(texts).replace("-", "")
    if texts and not (digits.isascii() and digits.isdigit()):
        raise ValueError
    return np.array([int(text) for text in texts], dtype=np.int64)


def number(texts: Sequence[str]) -> NDArray[np.float64]:
    """Decimal numbers: ``12``, ``0.5``, ``1e3``; not ``nan`` or ``inf``."""
    if "".join(texts).translate(_NOT_OF_NUMBERS):
        raise ValueError
    values = np.array([float(text) for text in texts], dtype=np.float64)
    if not np.isfinite(values).all():
        raise ValueError
    return values


def timestamp(texts: Sequence[str]) -> NDArray[np.int64]:
    """Dates with time as ``2023-11-16 18:15:46.6805900`` (UTC): nanoseconds since 1970."""
    if not all(map(_TIMESTAMP.fullmatch, texts)):
        raise ValueError
    plain = [text.removesuffix("Z").removesuffix("+00:00") for text in texts]
    return np.array(plain, dtype="datetime64[ns]").astype(np.int64)


def identity(texts: Sequence[str]) -> NDArray[np.int64]:
    """Identifiers: whole numbers as they are, any other text as a hash of 62 bits."""
    try:
        return whole(texts)
    except (ValueError, OverflowError):
        return np.array([_identity(text) for text in texts], dtype=np.int64)


def optional_identity(texts: Sequence[str]) -> NDArray[np.int64]:
    """Identifiers as `identity` has them, -1 for an empty text."""
    found = identity(texts)
    found[[not text for text in texts]] = -1
    return found


def _identity(text: str) -> int:
    if text.removeprefix("-").isdigit() and text.isascii() and len(text) < 18:
        return int(text)
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little") >> 2


def one_of(names: Sequence[str]) -> Parse:
    """Names of a list, as their indices; without a list, whole numbers."""
    if not names:
        return whole
    index = {name: i for i, name in enumerate(names)}

    def parse(texts: Sequence[str]) -> NDArray[np.int64]:
        try:
            return np.array([index[text] for text in texts], dtype=np.int64)
        except KeyError as error:
            raise ValueError(did_you_mean(error.args[0], names)) from None

    return parse


def parsed(
    texts: Sequence[str], parse: Parse, expected: str, name: str, where: Callable[[int], Where]
) -> NDArray[Any]:
    """Parse a column; an error names the place and the value.

    Parameters
    ----------
    texts : sequence of str
        The column.
    parse : callable
        One of the functions above.
    expected : str
        What a value should be, for the message.
    name : str
        Name of the column.
    where : callable
        Gives the place of each row.

    Raises
    ------
    InputError
        If a value cannot be parsed.
    """
    try:
        return parse(texts)
    except (ValueError, OverflowError):
        pass
    for index, text in enumerate(texts):
        try:
            parse([text])
        except (ValueError, OverflowError) as error:
            # parsers of names tell the nearest one in their message
            near = str(error) if str(error).startswith("; did") else ""
            raise InputError(
                f"{name} is {text!r}, not {expected}{near}", where=where(index)
            ) from None
    raise AssertionError("a column that cannot be parsed consists of values that can")
