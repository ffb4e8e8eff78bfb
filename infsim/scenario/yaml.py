"""Strict YAML that remembers where everything was written.

The C parser of PyYAML does the syntax; the values are made here, by rules without surprises:
``1e3`` is a number, ``no`` and ``1:30`` are strings, only ``true`` and ``false`` are booleans, keys
are strings and occur once. ``<<: *name`` takes over the keys of another mapping, as in YAML 1.1.
"""

from __future__ import annotations

import re
from typing import Any

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from infsim.errors import InputError, Where
from infsim.scenario.document import Path, Place, dotted

_PLAIN = (
    (re.compile(r"~|null|"), lambda _: None),
    (re.compile(r"true|false"), lambda text: text == "true"),
    (re.compile(r"[-+]?(0|[1-9][0-9]*)"), int),
    (re.compile(r"[-+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?"), float),
    (re.compile(r"[-+]?\.inf"), lambda text: float(text.replace(".", ""))),
)
_LEADING_ZERO = re.compile(r"[-+]?0[0-9]+")

# the parser resolves no tags at all: plain scalars are told from quoted ones by their style
_Loader: type = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def parse(text: str, file: str) -> tuple[Any, dict[Path, Place]]:
    """Return the data of a YAML text, and the place of each key and value.

    Parameters
    ----------
    text : str
        One YAML document.
    file : str
        Its name, for places and errors.

    Raises
    ------
    InputError
        For bad syntax, repeated keys, tags, or an alias inside of itself.
    """
    try:
        root = yaml.compose(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = Where(file, mark.line + 1, mark.column + 1) if mark else Where(file)
        reason = ", ".join(part for part in (error.context, error.problem) if part)
        raise InputError(f"not valid YAML: {reason}", where=where) from error
    except yaml.YAMLError as error:
        raise InputError(f"not valid YAML: {error}", where=Where(file)) from error
    if root is None:
        return None, {}
    reader = _Reader(file)
    return reader.value(root, ()), reader.places


_Pair = tuple[ScalarNode, Node]


class _Reader:
    """Turns the nodes of one document into data."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.places: dict[Path, Place] = {}
        self._open: set[int] = set()

    def value(self, node: Node, path: Path, key: Node | None = None) -> Any:
        value_at = self._where(node, path)
        self.places[path] = Place(self._where(key, path) if key else value_at, value_at)
        if isinstance(node, ScalarNode):
            return self._scalar(node, path)
        if id(node) in self._open:
            raise InputError("an alias refers to something around it", where=value_at)
        self._open.add(id(node))
        try:
            if isinstance(node, SequenceNode):
                return [self.value(item, (*path, i)) for i, item in enumerate(node.value)]
            assert isinstance(node, MappingNode)
            return self._mapping(node, path)
        finally:
            self._open.remove(id(node))

    def _mapping(self, node: MappingNode, path: Path) -> dict[str, Any]:
        found: dict[str, Any] = {}
        own, merged = self._split(node, path)
        for key, value in own:
            inner = (*path, key.value)
            if key.value in found:
                first = self.places[inner].key.line
                raise InputError(
                    f"key {key.value!r} is given twice",
                    where=self._where(key, inner),
                    hint=f"first in line {first}",
                )
            found[key.value] = self.value(value, inner, key)
        for key, value in merged:
            if key.value not in found:  # what is written here goes before what is taken over
                found[key.value] = self.value(value, (*path, key.value), key)
        return found

    def _split(self, node: MappingNode, path: Path) -> tuple[list[_Pair], list[_Pair]]:
        """Return the pairs that a mapping has itself, and those that it takes over by ``<<``."""
        own: list[_Pair] = []
        merged: list[_Pair] = []
        for key, value in node.value:
            if not isinstance(key, ScalarNode):
                raise InputError("a key must be plain text", where=self._where(key, path))
            if key.value == "<<" and not key.style:
                sources = value.value if isinstance(value, SequenceNode) else [value]
                for source in sources:
                    merged += self._taken_over(source, path)
            else:
                own.append((key, value))
        return own, merged

    def _taken_over(self, source: Node, path: Path) -> list[_Pair]:
        where = self._where(source, path)
        if not isinstance(source, MappingNode):
            raise InputError(
                "'<<' takes over the keys of a mapping, or of a list of them", where=where
            )
        if id(source) in self._open:
            raise InputError("an alias refers to something around it", where=where)
        self._open.add(id(source))
        own, merged = self._split(source, path)
        self._open.remove(id(source))
        return own + merged

    def _scalar(self, node: ScalarNode, path: Path) -> Any:
        if node.tag and not node.tag.startswith("tag:yaml.org,2002:"):
            raise InputError(f"tags such as {node.tag} mean nothing", where=self._where(node, path))
        text: str = node.value
        if node.style:  # quoted, or a block: always text
            return text
        if _LEADING_ZERO.fullmatch(text):
            return text
        for pattern, convert in _PLAIN:
            if pattern.fullmatch(text):
                return convert(text)
        return text

    def _where(self, node: Node, path: Path) -> Where:
        mark = node.start_mark
        return Where(self.file, mark.line + 1, mark.column + 1, dotted(path) or None)


def scalar(text: str) -> Any:
    """Return the value of a text as it would be in a file, for ``--set path=value``."""
    return parse(text, "--set")[0]


class _Dumper(yaml.SafeDumper):
    """Writes what `parse` reads back: strings that look like something else are quoted."""


def _string(dumper: yaml.SafeDumper, text: str) -> ScalarNode:
    looks_plain = any(pattern.fullmatch(text) for pattern, _ in _PLAIN)
    style = "'" if looks_plain else "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


def _number(dumper: yaml.SafeDumper, value: float) -> ScalarNode:
    text = repr(value) if abs(value) != float("inf") else ".inf" if value > 0 else "-.inf"
    if "." not in text:  # PyYAML takes 1e-05 for a string, and would put it in quotes
        text = text.replace("e", ".0e")
    return dumper.represent_scalar("tag:yaml.org,2002:float", text)


_Dumper.add_representer(str, _string)
_Dumper.add_representer(float, _number)


def dump(value: Any) -> str:
    """Return data as YAML in its order, so that `parse` gives the same data again."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)
