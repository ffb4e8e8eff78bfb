"""A scenario as it was written: plain data, and the place of every value in it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Any, NamedTuple

from infsim.errors import Where

Path = tuple[str | int, ...]


class Place(NamedTuple):
    """Where a key and its value were written; in lists both are the value's."""

    key: Where
    value: Where


@dataclass(frozen=True)
class Document:
    """Plain data with places.

    Attributes
    ----------
    value : mapping
        What was written: mappings, lists, strings, numbers, booleans, None.
    places : mapping of path to Place
    file : str
        Name of the file, ``<mapping>`` if there was none.
    base : Path
        The folder that file names in it are relative to.
    """

    value: Mapping[str, Any]
    places: Mapping[Path, Place]
    file: str
    base: FilePath

    def where(self, path: Path, *, key: bool = False) -> Where:
        """Return the place of a value (or of its key), or of the nearest thing around it."""
        known = path
        while known and known not in self.places:
            known = known[:-1]
        if known not in self.places:
            return Where(self.file, path=dotted(path) or None)
        place = self.places[known]
        found = place.key if key and known == path else place.value
        return Where(found.file, found.line, found.column, dotted(path) or None)

    def at(self, path: Path) -> Any:
        """Return the value of a path that exists."""
        value: Any = self.value
        for step in path:
            value = value[step]
        return value

    def without(self, key: str) -> Document:
        """Return the document without one of its topmost keys."""
        rest = {k: v for k, v in self.value.items() if k != key}
        return Document(rest, self.places, self.file, self.base)

    def replaced(self, path: Path, value: Any, source: Mapping[Path, Place]) -> Document:
        """Return the document with another value.

        Parameters
        ----------
        path : tuple of str or int
            As `infsim.scenario.override.resolve` returns it; mappings on the way are made as
            needed.
        value : plain data
        source : mapping of path to Place
            Places of the new value, relative to it: ``()`` is the value itself.
        """
        places = {p: place for p, place in self.places.items() if p[: len(path)] != path}
        places |= {path + inner: place for inner, place in source.items()}
        return Document(_with(self.value, path, value), places, self.file, self.base)


def dotted(path: Path) -> str:
    """Return a path as people write it: ``cluster.nodes[0].device``."""
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        else:
            name = step if re.fullmatch(r"[^.\[\]\"]+", step) else f'"{step}"'
            text += f".{name}" if text else name
    return text


def _with(value: Any, path: Path, new: Any) -> Any:
    """Return a copy of the data along a path, with a new value at its end."""
    if not path:
        return new
    step, rest = path[0], path[1:]
    if isinstance(value, list):
        return [_with(item, rest, new) if i == step else item for i, item in enumerate(value)]
    if isinstance(value, str):  # only a policy by name, see resolve
        value = {"name": value}
    value = dict(value or {})
    value[step] = _with(value.get(step), rest, new)
    return value
