"""Checking a document: errors name file, line and column."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from infsim.errors import InputError, did_you_mean
from infsim.scenario.document import Document, Path
from infsim.scenario.schema.experiment import ScenarioSpec

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails


def checked(document: Document) -> ScenarioSpec:
    """Return the values of a document.

    Raises
    ------
    InputError
        For the first problem, with its place; further ones are its notes.
    """
    if not isinstance(document.value, Mapping):
        raise InputError(
            f"a scenario is a mapping, not {document.value!r}", where=document.where(())
        )
    try:
        return ScenarioSpec.model_validate(document.value, context={"base": document.base})
    except ValidationError as error:
        raise _input_error(error, document) from None


def _input_error(error: ValidationError, document: Document) -> InputError:
    found = [_problem(detail, document) for detail in error.errors(include_url=False)]
    found.sort(key=lambda e: (e.where.line or 0, e.where.column or 0) if e.where else (0, 0))
    first, *others = found
    for other in others:
        first.add_note(str(other))
    return first


def _problem(detail: ErrorDetails, document: Document) -> InputError:
    context = detail.get("ctx", {})
    path = _path_in(document.value, detail["loc"])
    if detail["type"] == "missing":
        return InputError(f"{str(detail['loc'][-1])!r} is missing", where=document.where(path))
    if detail["type"] == "unknown_key":
        return InputError(detail["msg"], where=document.where((*path, context["key"]), key=True))
    if detail["type"] == "union_tag_invalid":
        return _unknown_tag(document, path, context)
    if detail["type"] == "union_tag_not_found":
        return InputError(f"{context['discriminator']} is missing", where=document.where(path))
    return InputError(_message(detail), where=document.where(path))


def _unknown_tag(document: Document, path: Path, context: dict[str, Any]) -> InputError:
    """A wrong word in the key that tells several kinds of mapping apart."""
    key = context["discriminator"].strip("'")
    expected = _quoted(context["expected_tags"])
    return InputError(
        f"unknown {key} {context['tag']!r}{did_you_mean(context['tag'], expected)}",
        where=document.where((*path, key)),
        hint=f"known: {', '.join(expected)}",
    )


def _message(detail: ErrorDetails) -> str:
    text = detail["msg"].removeprefix("Value error, ")
    given = detail.get("input")
    if detail["type"] == "literal_error":
        expected = _quoted(detail["ctx"]["expected"])
        return f"{given!r} is not one of {', '.join(expected)}{_near(given, expected)}"
    if detail["type"] == "value_error" or not isinstance(given, str | int | float | None):
        return text[:1].lower() + text[1:]
    return f"{text[:1].lower() + text[1:]}, got {given!r}"


def _near(given: Any, expected: Sequence[str]) -> str:
    return did_you_mean(given, expected) if isinstance(given, str) else ""


def _quoted(text: str) -> list[str]:
    return re.findall(r"'([^']*)'", text)


def _path_in(value: Any, location: Sequence[str | int]) -> Path:
    """Return the part of a location that is in the data: pydantic adds names of union members.

    Such a name may also be that of a key, as in `profile.start` for the start of a profile: where
    both readings are as long, it is the name.
    """
    if not location:
        return ()
    step, *rest = location
    without = _path_in(value, rest)
    if not _has(value, step):
        return without
    path = (step, *_path_in(value[step], rest))
    return path if len(path) > len(without) else without


def _has(value: Any, step: str | int) -> bool:
    if isinstance(value, dict):
        return step in value
    return isinstance(value, list) and isinstance(step, int) and step < len(value)
