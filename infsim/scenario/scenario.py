"""A scenario that was read and checked, and the alternatives that it compares."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from infsim.errors import InputError, Where
from infsim.registry import KINDS
from infsim.scenario.document import Document, Path, Place, resolve
from infsim.scenario.problems import input_error
from infsim.scenario.schema.experiment import ScenarioSpec
from infsim.scenario.yaml import dump

if TYPE_CHECKING:
    from infsim.scenario.schema.experiment import Compare


@dataclass(frozen=True)
class Alternative:
    """One of the things under comparison.

    Attributes
    ----------
    name : str
        Unique within the scenario.
    choices : mapping of str to str
        What was chosen, by policy kind or dotted path, as labels; empty without a comparison.
    spec : ScenarioSpec
        The whole scenario of this alternative.
    document : Document
        What it was made from, for errors found later.
    """

    name: str
    choices: Mapping[str, str]
    spec: ScenarioSpec
    document: Document

    def where(self, *path: str | int) -> Where:
        """Return the place of a value, for errors."""
        return self.document.where(path)


@dataclass(frozen=True)
class Scenario:
    """A scenario that was read and checked; `infsim.load` makes it.

    Attributes
    ----------
    spec : ScenarioSpec
        Its values, SI inside.
    document : Document
        What was written, overrides included.
    """

    spec: ScenarioSpec
    document: Document
    _alternatives: tuple[Alternative, ...]

    @classmethod
    def from_document(cls, document: Document) -> Scenario:
        """Check a document.

        Raises
        ------
        InputError
            With the place of the first problem; notes tell the others.
        """
        spec = _checked(document)
        return cls(spec, document, tuple(_alternatives(spec, document)))

    @property
    def name(self) -> str:
        """Name of the scenario."""
        return self.spec.name

    def alternatives(self) -> tuple[Alternative, ...]:
        """Return what is compared, in order; just one without a comparison."""
        return self._alternatives

    def to_dict(self) -> dict[str, Any]:
        """Return all values, defaults included, as plain data that `infsim.load` accepts."""
        data = _plain(self.spec)
        if self.spec.compare is not None:
            data["compare"] = self._plain_compare(self.spec.compare)
        return data

    def to_yaml(self) -> str:
        """Return the resolved scenario: all values, files as absolute paths.

        Loading it gives the same scenario, from whatever folder.
        """
        return dump(self.to_dict())

    def _plain_compare(self, compare: Compare) -> dict[str, Any]:
        """Take the compared values from the checked alternatives, where files are absolute."""
        steps = [
            {key: choice.resolved for key, choice in row.items()}
            for row in _rows(compare, self.document)
        ]
        plain = [_plain(alternative.spec) for alternative in self._alternatives]
        values = [
            {key: _follow(data, path) for key, path in row.items()}
            for row, data in zip(steps, plain, strict=True)
        ]
        if compare.alternatives is not None:
            names = [alternative.name for alternative in self._alternatives]
            return {"list": [{"name": n, **v} for n, v in zip(names, values, strict=True)]}
        axes: dict[str, Any] = {"cross": compare.cross}
        for key in steps[0]:
            axes[key] = [self._axis_value(key, i, values) for i in range(len(_axes(compare)[key]))]
        return axes

    def _axis_value(self, key: str, index: int, values: list[dict[str, Any]]) -> Any:
        """Return the checked form of an axis' value, from the first alternative that has it."""
        assert self.spec.compare is not None
        for row, alternative in zip(_rows(self.spec.compare, self.document), values, strict=True):
            if row[key].index == index:
                return alternative[key]
        raise AssertionError("each value of an axis is in some alternative")


@dataclass(frozen=True, slots=True)
class _Choice:
    """A value of a comparison: where it goes, where it was written."""

    resolved: Path
    value: Any
    source: Path
    index: int


def _alternatives(spec: ScenarioSpec, document: Document) -> Iterator[Alternative]:
    base = document.without("compare")
    if spec.compare is None:
        yield Alternative(spec.name, {}, spec, document)
        return
    seen: dict[str, int] = {}
    for i, row in enumerate(_rows(spec.compare, document)):
        changed = base
        for choice in row.values():
            places = {
                path[len(choice.source) :]: place
                for path, place in document.places.items()
                if path[: len(choice.source)] == choice.source
            }
            changed = changed.replaced(choice.resolved, choice.value, places)
        labels = {key: _label(choice.value) for key, choice in row.items()}
        name = _name(spec.compare, i, labels)
        if name in seen:
            raise InputError(
                f"two alternatives are named {name!r}", where=document.where(("compare",))
            )
        seen[name] = i
        yield Alternative(name, labels, _checked(changed), changed)


def _name(compare: Compare, index: int, labels: Mapping[str, str]) -> str:
    if compare.alternatives is not None:
        return compare.alternatives[index].name
    shown = [
        label if key in KINDS else f"{key.rpartition('.')[2]}={label}"
        for key, label in labels.items()
    ]
    return ", ".join(shown)


def _rows(compare: Compare, document: Document) -> list[dict[str, _Choice]]:
    """Return what each alternative sets, by the key in ``compare``."""
    if compare.alternatives is not None:
        rows = []
        for i, item in enumerate(document.value["compare"]["list"]):
            source = ("compare", "list", i)
            keys = [key for key in item if key != "name"]
            rows.append({k: _choice(k, item[k], (*source, k), i, document) for k in keys})
        return rows
    axes = [
        [_choice(key, v, ("compare", key, i), i, document) for i, v in enumerate(values)]
        for key, values in _axes(compare).items()
    ]
    combined = product(*axes) if compare.cross else zip(*axes, strict=True)
    return [dict(zip(_axes(compare), row, strict=True)) for row in combined]


def _axes(compare: Compare) -> dict[str, tuple[Any, ...]]:
    """Return the compared values by key, policies first."""
    axes = {kind: getattr(compare, kind) for kind in KINDS} | (compare.model_extra or {})
    return {key: values for key, values in axes.items() if values is not None}


def _choice(key: str, value: Any, source: Path, index: int, document: Document) -> _Choice:
    text = f"policies.{key}" if key in KINDS else key
    where = document.where(source[: source.index(key) + 1], key=True)
    return _Choice(resolve(text, document, where), value, source, index)


def _label(value: Any) -> str:
    """Return a short text for a compared value."""
    if isinstance(value, Mapping) and "name" in value:
        inner = ", ".join(f"{k}={_label(v)}" for k, v in value.items() if k != "name")
        return f"{_label(value['name'])}({inner})" if inner else _label(value["name"])
    if isinstance(value, str) and ".py:" in value:
        return value.rpartition(":")[2]
    return str(value).lower() if isinstance(value, bool) else str(value)


def _checked(document: Document) -> ScenarioSpec:
    if not isinstance(document.value, Mapping):
        raise InputError(
            f"a scenario is a mapping, not {document.value!r}", where=document.where(())
        )
    try:
        return ScenarioSpec.model_validate(document.value, context={"base": document.base})
    except ValidationError as error:
        raise input_error(error, document) from None


def _plain(spec: ScenarioSpec) -> dict[str, Any]:
    data = spec.model_dump(mode="json", by_alias=True, exclude_none=True)
    data.pop("compare", None)
    return data


def _follow(data: Any, path: Path) -> Any:
    for step in path:
        data = data[step]
    return data


def override(document: Document, text: str) -> Document:
    """Return the document with one ``dotted.path=value`` applied; the value is YAML.

    Raises
    ------
    InputError
        If the text has no ``=``, the value is not YAML, or the path cannot be followed.
    """
    from infsim.scenario.yaml import parse

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
