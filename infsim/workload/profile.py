"""Profiles: a trace in a few kilobytes of YAML, from which requests like its own are made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, TypeVar

from infsim.errors import InputError, Where, did_you_mean
from infsim.workload.cascade import Cascade
from infsim.workload.lengths import Quantiles
from infsim.workload.long_outputs import LongOutputs
from infsim.workload.merge import Merge
from infsim.workload.rank_grid import RankGrid
from infsim.workload.requests import Workload
from infsim.workload.synthetic import Synthetic
from infsim.workload.turns import Following, SessionModel, SharedPrefixes, Table
from infsim.workload.woven import Woven

T = TypeVar("T")

KIND = "trace-profile"
VERSION = 2


@dataclass(frozen=True)
class Profile:
    """What matters of a trace for a queue: rates, burstiness, lengths and how they change.

    Attributes
    ----------
    window_s : float
        Length of a window of the rates.
    counts : sequence of int
        Requests in each window.
    burstiness : sequence of sequences of float
        See `infsim.workload.cascade.Cascade`.
    input_tokens, output_tokens : Quantiles
        Of the lengths of all requests.
    cells : sequence of sequences of int
        See `infsim.workload.rank_grid.RankGrid`; each row is a segment of time.
    drift : sequence of float
        See there, too.
    source : mapping
        Where the trace comes from: name, url, licence, …
    errors : mapping
        How far made traces are from the real one, see `infsim.workload.compare`.
    long_outputs : LongOutputs or None
        Arrivals of requests with long outputs, if they come at other times; the above are then
        those of the others.
    sessions : SessionModel or None
        How requests follow one another; None if they have nothing to do with each other.
    prefixes : SharedPrefixes or None
        What prompts begin with, if the trace has prefix hashes.
    """

    window_s: float
    counts: Sequence[int]
    burstiness: Sequence[Sequence[float]]
    input_tokens: Quantiles
    output_tokens: Quantiles
    cells: Sequence[Sequence[int]]
    drift: Sequence[float] = ()
    source: Mapping[str, Any] = field(default_factory=dict)
    errors: Mapping[str, Any] = field(default_factory=dict)
    long_outputs: LongOutputs | None = None
    sessions: SessionModel | None = None
    prefixes: SharedPrefixes | None = None

    @property
    def requests(self) -> int:
        """How many requests there are."""
        return sum(self.counts) + (sum(self.long_outputs.counts) if self.long_outputs else 0)

    @property
    def duration_s(self) -> float:
        """Length of the trace."""
        return self.window_s * len(self.counts)

    def workload(self, cycles: int | None = 1) -> Workload:
        """Return a workload like the trace; after its end it begins again, drawn anew.

        Parameters
        ----------
        cycles : int or None
            How often the profile is gone through; None: without end.
        """

        def stream(part: Profile | LongOutputs, bins: slice) -> Workload:
            lengths = RankGrid(
                self.input_tokens, self.output_tokens, self.cells, self.duration_s, part.drift
            )
            arrivals = Cascade(part.counts, self.window_s, part.burstiness, cycles)
            return Synthetic(arrivals, lengths.outputs(bins))

        long = self.long_outputs
        plain = stream(self, slice(0, None if long is None else long.first_bin))
        if long is not None:
            plain = Merge([plain, stream(long, slice(long.first_bin, None))])
        if self.sessions is None:
            return plain
        return Woven(plain, self.sessions, self.prefixes)


_SECTIONS = {
    "arrivals": ("window_s", "counts", "burstiness"),
    "input_tokens": ("levels", "values"),
    "output_tokens": ("levels", "values"),
    "dependence": ("drift", "cells"),
}
_NESTED = ("source", "errors")
_OPTIONAL = ("long_outputs", "sessions", "prefixes")


def load_profile(path: Path) -> Profile:
    """Read a profile.

    Raises
    ------
    InputError
        If the file is absent, not YAML, or not a profile.
    """
    import yaml

    where = Where(str(path))
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"cannot read the profile: {error}", where=where) from None
    if not isinstance(data, dict) or data.get("kind") != KIND:
        raise InputError(f"not a profile: 'kind: {KIND}' is missing", where=where)
    if data.get("version") != VERSION:
        raise InputError(f"version is {data.get('version')!r}, known is {VERSION}", where=where)
    _check_keys(data, ("kind", "version", *_NESTED, *_SECTIONS, *_OPTIONAL), where)
    try:
        profile = Profile(
            **_section(data, "arrivals", where),
            input_tokens=Quantiles(**_section(data, "input_tokens", where)),
            output_tokens=Quantiles(**_section(data, "output_tokens", where)),
            **_section(data, "dependence", where),
            **{name: data.get(name, {}) for name in _NESTED},
            long_outputs=_part(LongOutputs, data["long_outputs"], where, "long_outputs")
            if "long_outputs" in data
            else None,
            sessions=_sessions(data["sessions"], where) if "sessions" in data else None,
            prefixes=_part(SharedPrefixes, data["prefixes"], where, "prefixes")
            if "prefixes" in data
            else None,
        )
        profile.workload()  # its parts check their numbers
    except InputError as error:
        raise (error if error.where else error.at(where)) from None
    return profile


def save_profile(profile: Profile, path: Path) -> None:
    """Write a profile; numbers keep six digits."""
    import yaml

    numbers: dict[str, Any] = {}
    for section, names in _SECTIONS.items():
        part = getattr(profile, section, profile)
        numbers[section] = {name: _plain(getattr(part, name), digits=6) for name in names}
    numbers |= {
        name: _plain(asdict(part), digits=6)
        for name in _OPTIONAL
        if (part := getattr(profile, name)) is not None
    }
    parts = (
        ({"kind": KIND, "version": VERSION, "source": dict(profile.source)}, False),
        (numbers, None),
        ({"errors": _plain(profile.errors, digits=4)}, None),
    )
    text = "".join(
        yaml.safe_dump(part, sort_keys=False, default_flow_style=flow, width=100)
        for part, flow in parts
    )
    path.write_text(text, encoding="utf-8")


def _sessions(data: object, where: Where) -> SessionModel:
    """Return the section of sessions, which has tables within."""
    known = _mapping(data, where, "sessions")
    following = known.get("following")
    if not isinstance(following, list):
        raise InputError("following is not a list", where=replace(where, path="sessions.following"))
    return _part(
        SessionModel,
        {
            **known,
            "following": [
                _part(Following, part, where, f"sessions.following[{index}]")
                for index, part in enumerate(following)
            ],
        },
        where,
        "sessions",
    )


def _part(kind: type[T], data: object, where: Where, path: str) -> T:
    """Make a dataclass of a mapping of numbers, its tables included."""
    known = _mapping(data, where, path)
    names = [field.name for field in fields(kind)]  # type: ignore[arg-type]
    place = replace(where, path=path)
    _check_keys(known, names, place)
    values: dict[str, Any] = {}
    for name in names:
        inner = f"{path}.{name}"
        value = known.get(name)
        if isinstance(value, Mapping):
            values[name] = _part(Table, value, where, inner)
        elif name == "following":
            values[name] = value
        else:
            values[name] = _numbers(value, replace(where, path=inner))
    return kind(**values)


def _mapping(data: object, where: Where, path: str) -> Mapping[str, Any]:
    if not isinstance(data, Mapping):
        raise InputError(f"{data!r} is not a mapping", where=replace(where, path=path))
    return data


def _section(data: Mapping[str, Any], section: str, where: Where) -> dict[str, Any]:
    """Return the numbers of a section, all of them and nothing else."""
    part = data.get(section)
    if not isinstance(part, dict):
        raise InputError(f"section {section!r} is missing", where=where)
    names = _SECTIONS[section]
    _check_keys(part, names, where)
    return {
        name: _numbers(part.get(name), replace(where, path=f"{section}.{name}")) for name in names
    }


def _check_keys(data: Mapping[Any, Any], known: Sequence[str], where: Where) -> None:
    for key in data:
        if key not in known:
            raise InputError(f"unknown entry {key!r}{did_you_mean(str(key), known)}", where=where)


def _numbers(value: object, where: Where) -> Any:
    """Check that a value is a number, or lists of numbers."""
    if isinstance(value, list):
        return [_numbers(item, where) for item in value]
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InputError(f"{value!r} is not a number", where=where)
    return value


def _plain(value: Any, digits: int) -> Any:
    """Make plain numbers, lists and dicts of a value, floats with so many digits."""
    if isinstance(value, Mapping):
        return {key: _plain(item, digits) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(item, digits) for item in value]
    if isinstance(value, float):
        return int(value) if value.is_integer() else float(f"{value:.{digits}g}")
    return value
