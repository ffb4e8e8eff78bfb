"""Dotted paths: how overrides and comparisons name the values that they set."""

from __future__ import annotations

import re
from typing import Any

from infsim.errors import InputError, Where, did_you_mean
from infsim.scenario.document import Document, Path, Place, dotted
from infsim.scenario.yaml import parse


def override(document: Document, text: str) -> Document:
    """Return the document with one ``dotted.path=value`` applied; the value is YAML.

    Raises
    ------
    InputError
        If the text has no ``=``, the value is not YAML, or the path cannot be followed.
    """
    path_text, equals, value_text = text.partition("=")
    where = Where(f"--set {text}")
    if not equals:
        raise InputError("no '=' in an override", where=where, hint="--set engine.horizon='10 min'")
    value, _ = parse(value_text, f"--set {text}")
    path = resolve(path_text.strip(), document, where)
    place = Place(where, where)
    steps = {path[:n]: place for n in range(1, len(path)) if path[:n] not in document.places}
    changed = document.replaced(path, value, {(): place})
    return Document(changed.value, steps | dict(changed.places), document.file, document.base)


_STEP = re.compile(r'\.?(?:\[(?P<index>\d+)\]|"(?P<quoted>[^"]*)"|(?P<name>[^.\[\]"]+))')


def resolve(text: str, document: Document, where: Where) -> Path:
    """Turn a dotted path into one that can be followed in a document.

    Parameters
    ----------
    text : str
        Such as ``engine.horizon`` or ``cluster.nodes.home.count``: items of lists are named by
        index (``nodes[0]``, ``nodes.0``) or by their ``name``. Names with dots go in quotes.
    document : Document
    where : Where
        The place of the path itself, for errors.

    Raises
    ------
    InputError
        If the text is no path, or names an item that a list does not have.
    """
    steps: list[str | int] = []
    end = 0
    current: Any = document.value
    while end < len(text):
        match = _STEP.match(text, end)
        if match is None:
            raise InputError(
                f"{text!r} is not a dotted path", where=where, hint="as in cluster.nodes[0].count"
            )
        end = match.end()
        name = match["index"] or match["quoted"] or match["name"]
        step = _item(current, name, text, where) if isinstance(current, list) else name
        if not isinstance(current, dict | list | None):
            current, steps = _promoted(current, steps, text, where)
        steps.append(step)
        current = current.get(step) if isinstance(current, dict) else _get(current, step)
    if not steps:
        raise InputError("the path is empty", where=where)
    return tuple(steps)


def _get(items: list[Any] | None, index: str | int) -> Any:
    return None if items is None else items[int(index)]


def _promoted(
    current: Any, steps: list[str | int], text: str, where: Where
) -> tuple[dict[str, Any], list[str | int]]:
    """Let ``policies.routing.choices`` be set where routing is only a name so far."""
    if isinstance(current, str) and steps[:1] == ["policies"]:
        return {"name": current}, steps
    raise InputError(f"{text!r}: {dotted(tuple(steps))} is {current!r}, not a mapping", where=where)


def _item(items: list[Any], name: str, text: str, where: Where) -> int:
    """Return the index of a list's item by index or by name."""
    named = {i["name"]: n for n, i in enumerate(items) if isinstance(i, dict) and "name" in i}
    if name in named:
        return named[name]
    if name.isdecimal() and int(name) < len(items):
        return int(name)
    names = [str(known) for known in named]
    items_text = f"{len(items)} items" + (f": {', '.join(names)}" if names else "")
    raise InputError(
        f"{text!r}: no item {name!r} in a list of {items_text}{did_you_mean(name, names)}",
        where=where,
    )
