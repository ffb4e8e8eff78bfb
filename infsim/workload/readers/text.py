"""Text files that may be compressed, damaged or absent, opened with errors that say where."""

from __future__ import annotations

import gzip
import io
import json
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, TextIO, cast

from infsim.errors import InputError, Where, did_you_mean

_GZIP = b"\x1f\x8b"
_DAMAGED_GZIP = (EOFError, zlib.error, gzip.BadGzipFile)


@contextmanager
def open_text(path: Path) -> Iterator[TextIO]:
    """Open a UTF-8 text file, gzip or not, and translate what goes wrong while it is read.

    Raises
    ------
    InputError
        If the file is absent, unreadable, not UTF-8, or a damaged gzip file.
    """
    try:
        with (
            _open_bytes(path) as raw,
            io.TextIOWrapper(raw, encoding="utf-8-sig", newline="") as text,
        ):
            yield text
    except UnicodeDecodeError:
        raise _not_utf8(path) from None
    except _DAMAGED_GZIP as error:
        raise _damaged(path, error) from None
    except OSError as error:
        raise _unreadable(path, error) from None


def first_bytes(path: Path, count: int) -> bytes:
    """Return the first bytes of a file.

    Raises
    ------
    InputError
        If the file is absent or unreadable.
    """
    try:
        with path.open("rb") as raw:
            return raw.read(count)
    except OSError as error:
        raise _unreadable(path, error) from None


def first_line(path: Path) -> str:
    """Return the first line that is not blank, without its line end.

    Raises
    ------
    InputError
        As `open_text`, and if there is no such line.
    """
    with open_text(path) as text:
        for line in text:
            if line.strip():
                return line.rstrip("\r\n")
    raise InputError("the file is empty", where=Where(str(path)))


def parse_json(text: str, where: Where) -> dict[str, Any]:
    """Return a JSON object; one that has a name twice is refused, as one of the two is wrong.

    Raises
    ------
    InputError
        At `where`, if the text is not such an object.
    """
    try:
        item = _JSON.decode(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"not JSON: {error}", where=where) from None
    if not isinstance(item, dict):
        raise InputError(f"not a JSON object: {text.strip()[:80]}", where=where)
    return item


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{twice!r} is there twice")
    return found


_JSON = json.JSONDecoder(object_pairs_hook=_object)


@contextmanager
def hint_if_cut(path: Path) -> Iterator[None]:
    """Say so if an error is in the last line of a file and the file ends in the middle of it."""
    try:
        yield
    except InputError as error:
        if error.hint or error.where is None or error.where.line != _unfinished_line(path):
            raise
        hint = "the file ends in the middle of this row"
        raise InputError(error.message, where=error.where, hint=hint) from None


def _unfinished_line(path: Path) -> int | None:
    """Return the number of the last line if it has no line end; only errors read the file again."""
    number, line = 0, "\n"
    with open_text(path) as text:
        for number, line in enumerate(text, start=1):  # noqa: B007 - the last ones are wanted
            pass
    return None if line.endswith(("\n", "\r")) else number


def _open_bytes(path: Path) -> BinaryIO:
    with path.open("rb") as raw:
        # the contents decide, not the name: downloads are renamed often enough
        compressed = raw.read(2) == _GZIP
    return cast(BinaryIO, gzip.open(path)) if compressed else path.open("rb")


def _unreadable(path: Path, error: OSError) -> InputError:
    if not isinstance(error, FileNotFoundError):
        return InputError(f"cannot read {path}: {error.strerror or error}")
    there = [file.name for file in path.parent.iterdir()] if path.parent.is_dir() else []
    return InputError(f"no such file: {path}{did_you_mean(path.name, there)}")


def _damaged(path: Path, error: Exception) -> InputError:
    return InputError(f"damaged gzip file: {error}", where=Where(str(path)))


def _not_utf8(path: Path) -> InputError:
    """Name the first byte that is not UTF-8; the file is read again, as only errors need it."""
    try:
        with _open_bytes(path) as raw:
            for number, line in enumerate(raw, start=1):
                try:
                    line.decode("utf-8")
                except UnicodeDecodeError as error:
                    byte = line[error.start]
                    return InputError(
                        f"byte 0x{byte:02x} is not UTF-8", where=Where(str(path), number)
                    )
    except _DAMAGED_GZIP as error:  # in the line of that byte
        return _damaged(path, error)
    raise AssertionError("the file has changed while it was read")
