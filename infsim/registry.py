"""Policies by name: built in, from entry points, or from a file of the user's own.

A policy is a dataclass; its fields are its parameters in the scenario.

>>> create("routing", {"name": "power-of-d", "choices": 2})  # doctest: +SKIP
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from functools import cache
from importlib import import_module, metadata
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from pkgutil import iter_modules
from typing import Any, TypeVar, get_type_hints

from infsim.errors import InputError, Where, did_you_mean
from infsim.units import UnitError, parse

T = TypeVar("T", bound=type)
Spec = str | Mapping[str, Any]

# kind -> the class of infsim.policy.interface that its policies extend
KINDS: Mapping[str, str] = {
    "placement": "Placement",
    "routing": "Router",
    "batching": "Batching",
    "delivery": "Delivery",
    "recovery": "Recovery",
}

_classes: dict[str, dict[str, type]] = {kind: {} for kind in KINDS}


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of a policy: its name, annotation as text, and default (None if required)."""

    name: str
    annotation: str
    default: str | None


def register(kind: str, name: str) -> Callable[[T], T]:
    """Return a class decorator that makes a policy known under a name.

    Parameters
    ----------
    kind : str
        A key of ``KINDS``.
    name : str
        The name in scenarios; lower case, words joined by hyphens.

    Raises
    ------
    InputError
        If the kind is unknown, or another class has the name already.
    """
    _check_kind(kind)

    def decorate(policy: T) -> T:
        other = _classes[kind].get(name)
        # the same class again is fine: a notebook cell, or a file, that is executed once more
        if other is not None and other.__qualname__ != policy.__qualname__:
            raise InputError(f"{kind} policy {name!r} is registered already by {other!r}")
        _classes[kind][name] = policy
        return policy

    return decorate


def names(kind: str) -> tuple[str, ...]:
    """Return the names of all policies of a kind, sorted."""
    _check_kind(kind)
    _import_builtin(kind)
    return tuple(sorted({*_classes[kind], *_entry_points(kind)}))


def lookup(kind: str, name: str, *, where: Where | None = None) -> type:
    """Return the policy class of this name.

    Raises
    ------
    InputError
        If there is none; suggests the nearest name.
    """
    _check_kind(kind)
    if name not in _classes[kind]:
        _import_builtin(kind)
    if name not in _classes[kind] and name in _entry_points(kind):
        _classes[kind][name] = _entry_points(kind)[name].load()
    if name not in _classes[kind]:
        known = names(kind)
        raise InputError(
            f"unknown {kind} policy {name!r}{did_you_mean(name, known)}",
            where=where,
            hint=f"known: {', '.join(known)}; or path/to/file.py:Class",
        )
    return _classes[kind][name]


def create(kind: str, spec: Spec, *, where: Where | None = None, base: Path | None = None) -> Any:
    """Make a policy object from its entry in a scenario.

    Parameters
    ----------
    kind : str
        A key of ``KINDS``.
    spec : str or mapping
        ``"name"``, ``"path/to/file.py:Class"``, or a mapping with ``name`` and parameters.
    where : Where, optional
        The place of ``spec``, for error messages.
    base : Path, optional
        The folder that file names are relative to (default: the working directory).

    Raises
    ------
    InputError
        If the policy is unknown, is not of this kind, or a parameter is unknown, missing or of
        the wrong type; ``key`` of the error then names the parameter.
    """
    _check_kind(kind)
    name, given = _split(kind, spec, where)
    policy = (
        _from_file(name, base or Path(), where)
        if ".py:" in name
        else lookup(kind, name, where=where)
    )
    _check_interface(kind, name, policy, where)
    arguments = _check_parameters(f"{kind} policy {name!r}", policy, given, where)
    try:
        made = policy(**arguments)
    except (TypeError, ValueError) as error:
        raise InputError(f"{kind} policy {name!r}: {error}", where=where) from error
    object.__setattr__(made, "policy_name", name)  # for messages; frozen ones have it too
    return made


def parameters(policy: type) -> tuple[Parameter, ...]:
    """Return the parameters of a policy class, for listings."""
    if not is_dataclass(policy):
        return ()
    hints = get_type_hints(policy, include_extras=True)
    found = []
    for f in fields(policy):
        if not f.init:
            continue
        default = None if f.default is MISSING else repr(f.default)
        if f.default_factory is not MISSING:
            default = repr(f.default_factory())
        found.append(Parameter(f.name, getattr(hints[f.name], "__name__", str(f.type)), default))
    return tuple(found)


def _check_kind(kind: str) -> None:
    if kind not in KINDS:
        raise InputError(f"unknown kind of policy {kind!r}{did_you_mean(kind, KINDS)}")


@cache
def _import_builtin(kind: str) -> None:
    """Import every module of ``infsim/policy/<kind>/``, so that its policies register."""
    package = import_module(f"infsim.policy.{kind}")
    for module in iter_modules(package.__path__):
        import_module(f"{package.__name__}.{module.name}")


@cache
def _entry_points(kind: str) -> dict[str, metadata.EntryPoint]:
    return {point.name: point for point in metadata.entry_points(group=f"infsim.{kind}")}


def _split(kind: str, spec: Spec, where: Where | None) -> tuple[str, dict[str, Any]]:
    """Return the name and the parameters of an entry."""
    if isinstance(spec, str):
        return spec, {}
    if not isinstance(spec, Mapping) or not isinstance(spec.get("name"), str):
        raise InputError(
            f"{spec!r} is not a {kind} policy",
            where=where,
            hint="write a name, or a mapping with 'name' and its parameters",
        )
    return spec["name"], {key: value for key, value in spec.items() if key != "name"}


def _from_file(name: str, base: Path, where: Where | None) -> type:
    """Return the class that ``file.py:Class`` names, executing the file anew."""
    file, _, wanted = name.rpartition(":")
    path = base / file
    if not path.is_file():
        raise InputError(f"no file {str(path)!r} for policy {name!r}", where=where)
    module_name = f"infsim_user_{path.stem}"
    spec = spec_from_file_location(module_name, path)
    assert spec is not None  # a file that exists with the suffix .py has a loader
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[module_name] = module  # dataclasses and type hints look their module up
    try:
        spec.loader.exec_module(module)
    except InputError:
        raise
    except Exception as error:
        line = next(_lines_in(error, str(path)), None)
        raise InputError(
            f"policy file fails with {type(error).__name__}: {error}", where=Where(str(path), line)
        ) from error
    own = {k: v for k, v in vars(module).items() if isinstance(v, type)}
    own = {k: v for k, v in own.items() if v.__module__ == module_name}
    if wanted not in own:
        hint = f"it has {', '.join(own)}" if own else "it has no class"
        raise InputError(
            f"no class {wanted!r} in {str(path)!r}{did_you_mean(wanted, own)}",
            where=where,
            hint=hint,
        )
    return own[wanted]


def _lines_in(error: BaseException, file: str) -> Iterator[int]:
    """Yield the lines of a file that an exception passed through, innermost first."""
    if isinstance(error, SyntaxError) and error.filename == file and error.lineno:
        yield error.lineno
    lines = []
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == file:
            lines.append(trace.tb_lineno)
        trace = trace.tb_next
    yield from reversed(lines)


def _check_interface(kind: str, name: str, policy: type, where: Where | None) -> None:
    interface = getattr(import_module("infsim.policy.interface"), KINDS[kind])
    if not issubclass(policy, interface):
        raise InputError(
            f"{name!r} is not a {kind} policy: {policy.__name__} does not extend "
            f"infsim.policy.interface.{interface.__name__}",
            where=where,
        )
    missing = sorted(getattr(policy, "__abstractmethods__", ()))
    if missing:
        raise InputError(f"{policy.__name__} lacks {', '.join(missing)}()", where=where)


def _check_parameters(
    what: str, policy: type, given: Mapping[str, Any], where: Where | None
) -> dict[str, Any]:
    """Return the parameters with the types that the class asks for."""
    if not is_dataclass(policy) and given:
        raise InputError(f"{what} is not a dataclass and takes no parameters", where=where)
    known = {f.name: f for f in fields(policy) if f.init} if is_dataclass(policy) else {}
    for key in given:
        if key not in known:
            hint = f"it has {', '.join(known)}" if known else "it has none"
            raise InputError(
                f"{what} has no parameter {key!r}{did_you_mean(key, known)}",
                where=where,
                hint=hint,
                key=key,
            )
    for key, f in known.items():
        required = f.default is MISSING and f.default_factory is MISSING
        if required and key not in given:
            raise InputError(f"{what} needs the parameter {key!r}", where=where)
    hints = get_type_hints(policy, include_extras=True) if known else {}
    return {key: _convert(what, key, hints[key], value, where) for key, value in given.items()}


# Endings of the names of parameters whose values may be written with a unit; the longer first.
_DIMENSIONS = {"_per_s": "rate", "_s": "time", "_bytes": "memory", "_w": "power"}


def _quantity(key: str, value: Any) -> Any:
    """SI value of a text with a unit, if the parameter's name says its dimension."""
    dimension = next((d for suffix, d in _DIMENSIONS.items() if key.endswith(suffix)), None)
    return value if dimension is None or not isinstance(value, str) else parse(value, dimension)


def _convert(what: str, key: str, hint: Any, value: Any, where: Where | None) -> Any:
    """Check a parameter as strict JSON: lists become tuples, but '3' never becomes 3."""
    from pydantic import TypeAdapter, ValidationError

    try:
        value = _quantity(key, value)
        return TypeAdapter(hint).validate_json(json.dumps(value), strict=True)
    except ValidationError as error:
        reason = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise InputError(f"{what}: {key} = {value!r}: {reason}", where=where, key=key) from error
    except (TypeError, UnitError) as error:
        raise InputError(f"{what}: {key} = {value!r}: {error}", where=where, key=key) from error
