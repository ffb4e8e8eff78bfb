"""Churn profiles: an availability trace in a few kilobytes of YAML, and nodes like its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from infsim.cluster.availability import (
    AtSite,
    Availability,
    NodeClass,
    Population,
    Rhythm,
    SiteModel,
)
from infsim.cluster.availability.population import STEADY
from infsim.errors import InputError, Where, did_you_mean

KIND = "churn-profile"
VERSION = 1
FOLDER = "traces/churn"
SUFFIXES = (".yaml",)


@dataclass(frozen=True)
class ChurnProfile:
    """A model of availability that was fitted to a trace.

    Attributes
    ----------
    model : Population or SiteModel
        Nodes that are each on their own, or that share outages of zones and regions.
    name : str
    source : mapping
        Where the trace comes from.
    errors : mapping
        How far made nodes are from the trace, see `infsim.cluster.churn.compare`.
    """

    model: Population | SiteModel
    name: str
    source: Mapping[str, Any] = field(default_factory=dict)
    errors: Mapping[str, Any] = field(default_factory=dict)

    def availability(self, region: str, zone: str, start_s: float | None = None) -> Availability:
        """Return the availability of a node.

        Parameters
        ----------
        region, zone : str
            Nodes of the same ones share their outages, if the profile has such.
        start_s : float, optional
            Moment of the rhythm at which a run begins; by default a random one.
        """
        rhythm = self.model.rhythm
        if rhythm is not STEADY:
            rhythm = replace(rhythm, start_s=start_s, name=self.name)
        if isinstance(self.model, SiteModel):
            return AtSite(self.model.in_rhythm(rhythm), self.name, region, zone)
        return replace(self.model, rhythm=rhythm)


# --- reading --------------------------------------------------------------------------------

_POPULATION = ("classes", "up_shape", "down_shape", "least_s", "seen_within_s")
_RHYTHM = ("window_s", "join", "leave")
_SITES = ("regions", "zones", "everywhere", "nodes")
_TOP = ("kind", "version", "source", "model", "rhythm", "errors")


def load_profile(path: Path) -> ChurnProfile:
    """Read a churn profile.

    Raises
    ------
    InputError
        If the file is absent, not YAML, or no churn profile; with the place within it.
    """
    import yaml

    where = Where(str(path))
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError, ValueError) as error:
        raise InputError(f"cannot read the profile: {error}", where=where) from None
    if not isinstance(data, dict) or data.get("kind") != KIND:
        raise InputError(f"no churn profile: 'kind: {KIND}' is missing", where=where)
    if data.get("version") != VERSION:
        raise InputError(f"version is {data.get('version')!r}, known is {VERSION}", where=where)
    _check_keys(data, _TOP, where)
    try:
        rhythm = _rhythm(data.get("rhythm"), replace(where, path="rhythm"))
        model = _model(data.get("model"), rhythm, replace(where, path="model"))
    except InputError as error:
        raise (error if error.where else error.at(where)) from None
    notes = {name: data.get(name) or {} for name in ("source", "errors")}
    for name, value in notes.items():
        if not isinstance(value, dict):
            raise InputError(f"{name!r} is no mapping", where=where)
    return ChurnProfile(model, path.stem, **notes)


def _model(data: Any, rhythm: Rhythm, where: Where) -> Population | SiteModel:
    if not isinstance(data, dict):
        raise InputError("no mapping", where=where)
    if "classes" in data:
        return _population(data, rhythm, where)
    _check_keys(data, _SITES, where)
    zones = data.get("zones")
    if not isinstance(zones, list) or "regions" not in data:
        raise InputError(
            "needs 'classes' of nodes, or 'regions' and a list of 'zones'", where=where
        )
    parts = {
        name: None
        if data.get(name) is None
        else _population(data[name], rhythm, replace(where, path=f"model.{name}"))
        for name in ("regions", "everywhere", "nodes")
    }
    regions = parts["regions"]
    if regions is None:
        raise InputError("no mapping", where=replace(where, path="model.regions"))
    each = tuple(
        _population(zone, rhythm, replace(where, path=f"model.zones[{i}]"))
        for i, zone in enumerate(zones)
    )
    return SiteModel(regions, each, parts["everywhere"], parts["nodes"])


def _population(data: Any, rhythm: Rhythm, where: Where) -> Population:
    if not isinstance(data, dict):
        raise InputError("no mapping", where=where)
    _check_keys(data, _POPULATION, where)
    rows = data.get("classes")
    if not isinstance(rows, list):
        raise InputError("'classes' is no list", where=where)
    classes = []
    for i, row in enumerate(rows):
        values = _numbers(row, replace(where, path=f"{where.path}.classes[{i}]"))
        if len(values) != 3:
            raise InputError(f"class {i} is not a weight and two mean times: {row!r}", where=where)
        classes.append(NodeClass(*values))
    names = [name for name in _POPULATION[1:] if name in data]
    given = dict(zip(names, _numbers([data[name] for name in names], where), strict=True))
    return Population(tuple(classes), rhythm=rhythm, **given)


def _rhythm(data: Any, where: Where) -> Rhythm:
    if data is None:
        return STEADY
    if not isinstance(data, dict):
        raise InputError("no mapping", where=where)
    _check_keys(data, _RHYTHM, where)
    (window_s,) = _numbers([data.get("window_s")], where)
    join, leave = (_numbers(data.get(name), where) for name in _RHYTHM[1:])
    return Rhythm(window_s, tuple(join), tuple(leave))


def _check_keys(data: Mapping[Any, Any], known: Sequence[str], where: Where) -> None:
    for key in data:
        if key not in known:
            raise InputError(f"unknown entry {key!r}{did_you_mean(str(key), known)}", where=where)


def _numbers(values: Any, where: Where) -> list[float]:
    if not isinstance(values, list):
        raise InputError(f"{values!r} is no list of numbers", where=where)
    for value in values:
        if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) > 1e300:
            raise InputError(f"{value!r} is not a number", where=where)
    return [float(value) for value in values]


# --- writing --------------------------------------------------------------------------------


def profile_text(profile: ChurnProfile) -> str:
    """Return the YAML of a churn profile."""
    import yaml

    model = profile.model
    if isinstance(model, SiteModel):
        parts: dict[str, Any] = {
            "regions": _entries(model.regions),
            "zones": [_entries(zones) for zones in model.zones],
        }
        for name, part in (("everywhere", model.everywhere), ("nodes", model.nodes)):
            if part is not None:
                parts[name] = _entries(part)
    else:
        parts = _entries(model)
    sections: list[tuple[dict[str, Any], bool | None]] = [
        ({"kind": KIND, "version": VERSION, "source": dict(profile.source)}, False),
        ({"errors": _rounded(profile.errors)}, None),
        ({"model": parts}, None),
    ]
    if model.rhythm is not STEADY:
        rhythm = {name: _rounded(getattr(model.rhythm, name)) for name in _RHYTHM}
        sections.append(({"rhythm": rhythm}, None))
    return "".join(
        yaml.safe_dump(part, sort_keys=False, default_flow_style=flow, width=100)
        for part, flow in sections
    )


def _entries(population: Population) -> dict[str, Any]:
    found: dict[str, Any] = {"classes": [_rounded(list(item)) for item in population.classes]}
    for name in _POPULATION[1:]:
        value = getattr(population, name)
        if value != Population.__dataclass_fields__[name].default:
            found[name] = _rounded(value)
    return found


def _rounded(value: Any) -> Any:
    """Return plain numbers, lists and dicts; floats keep five digits."""
    if isinstance(value, Mapping):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(item) for item in value]
    if isinstance(value, float):
        short = float(f"{value:.5g}")
        return int(short) if short.is_integer() else short
    return value
