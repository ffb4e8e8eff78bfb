"""What a scenario compares: from axes or a list to whole scenarios with names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path as FilePath
from typing import TYPE_CHECKING, Any

from infsim.errors import InputError, Where
from infsim.registry import KINDS
from infsim.scenario.checked import checked
from infsim.scenario.document import Document, Path
from infsim.scenario.override import resolve
from infsim.scenario.schema.experiment import ScenarioSpec, plain

if TYPE_CHECKING:
    from infsim.scenario.schema.experiment import Compare


@dataclass(frozen=True)
class Alternative:
    """One of the things under comparison.

    Attributes
    ----------
    name : str
        Unique within the scenario.
    values : mapping
        What it sets, by policy kind or dotted path, as it was written but for names of files,
        which are absolute; empty without a comparison.
    spec : ScenarioSpec
        The whole scenario of this alternative.
    document : Document
        What it was made from, for errors found later.
    """

    name: str
    values: Mapping[str, Any]
    spec: ScenarioSpec
    document: Document

    @property
    def choices(self) -> dict[str, str]:
        """What it sets, as labels."""
        return {key: _label(value) for key, value in self.values.items()}

    def where(self, *path: str | int) -> Where:
        """Return the place of a value, for errors."""
        return self.document.where(path)


def alternatives(spec: ScenarioSpec, document: Document) -> tuple[Alternative, ...]:
    """Return the alternatives of a scenario; just one, of its own name, without a comparison.

    Raises
    ------
    InputError
        If one of them is no valid scenario, or two have the same name.
    """
    if spec.compare is None:
        return (Alternative(spec.name, {}, spec, document),)
    found: list[Alternative] = []
    for i, row in enumerate(_rows(spec.compare, document)):
        made = _made(row, document.without("compare"), document)
        listed = spec.compare.alternatives
        name = _name(made.choices) if listed is None else listed[i].name
        if name in {other.name for other in found}:
            raise InputError(
                f"two alternatives are named {name!r}", where=document.where(("compare",))
            )
        found.append(Alternative(name, made.values, made.spec, made.document))
    return tuple(found)


def plain_compare(
    compare: Compare, document: Document, found: tuple[Alternative, ...]
) -> dict[str, Any]:
    """Return the block ``compare`` as it was written, but for files, whose names are absolute."""
    if compare.alternatives is not None:
        return {"list": [{"name": one.name, **one.values} for one in found]}
    axes: dict[str, dict[int | str, Any]] = {}
    for row, one in zip(_rows(compare, document), found, strict=True):
        for key, source in row.items():
            axes.setdefault(key, {})[source[-1]] = one.values[key]
    return {"cross": compare.cross} | {key: [*values.values()] for key, values in axes.items()}


Row = dict[str, Path]
"""What an alternative sets: the key in ``compare``, and where in the document its value is."""


def _rows(compare: Compare, document: Document) -> Iterator[Row]:
    """Yield what each alternative sets."""
    if compare.alternatives is not None:
        for i, item in enumerate(document.value["compare"]["list"]):
            yield {key: ("compare", "list", i, key) for key in item if key != "name"}
        return
    axes = {key: range(len(values)) for key, values in _axes(compare).items()}
    combined = product(*axes.values()) if compare.cross else zip(*axes.values(), strict=True)
    for indices in combined:
        yield {key: ("compare", key, i) for key, i in zip(axes, indices, strict=True)}


def _axes(compare: Compare) -> dict[str, tuple[Any, ...]]:
    """Return the compared values by key, policies first."""
    axes = {kind: getattr(compare, kind) for kind in KINDS} | (compare.model_extra or {})
    return {key: values for key, values in axes.items() if values is not None}


def _made(row: Row, base: Document, document: Document) -> Alternative:
    """Return the alternative of a row, without a name."""
    changed = base
    targets = {}
    for key, source in row.items():
        text = f"policies.{key}" if key in KINDS else key
        written = source if isinstance(source[-1], str) else source[:-1]
        targets[key] = resolve(text, document, document.where(written, key=True))
        places = {
            path[len(source) :]: place
            for path, place in document.places.items()
            if path[: len(source)] == source
        }
        changed = changed.replaced(targets[key], document.at(source), places)
    spec = checked(changed)
    data = plain(spec)
    values = {
        key: _with_absolute_files(document.at(source), _at(data, targets[key]))
        for key, source in row.items()
    }
    return Alternative("", values, spec, changed)


def _at(data: Any, path: Path) -> Any:
    for step in path:
        data = data.get(step) if isinstance(data, dict) else data[step]
    return data


def _with_absolute_files(written: Any, found: Any) -> Any:
    """Return a value as it was written, but for names of files as they were found."""
    if isinstance(written, str) and isinstance(found, str):
        return found if FilePath(found).is_absolute() else written
    if isinstance(written, dict) and isinstance(found, dict):
        return {k: _with_absolute_files(v, found.get(k)) for k, v in written.items()}
    if isinstance(written, list) and isinstance(found, list) and len(written) == len(found):
        return [_with_absolute_files(w, f) for w, f in zip(written, found, strict=True)]
    return written


def _name(choices: Mapping[str, str]) -> str:
    shown = [
        label if key in KINDS else f"{key.rpartition('.')[2]}={label}"
        for key, label in choices.items()
    ]
    return ", ".join(shown)


def _label(value: Any) -> str:
    """Return a short text for a compared value; the same wherever files are."""
    if isinstance(value, Mapping) and "name" in value:
        inner = ", ".join(f"{k}={_label(v)}" for k, v in value.items() if k != "name")
        return f"{_label(value['name'])}({inner})" if inner else _label(value["name"])
    if isinstance(value, str) and ".py:" in value:
        return value.rpartition(":")[2]
    if isinstance(value, str) and FilePath(value).is_absolute():
        return FilePath(value).name
    return str(value).lower() if isinstance(value, bool) else str(value)
