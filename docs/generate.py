"""Write the reference pages that follow from the code: ``python docs/generate.py``.

The tests hold them current.
"""

from __future__ import annotations

import inspect
import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import redirect_stdout, suppress
from enum import EnumType
from io import StringIO
from pathlib import Path
from typing import Any, get_args, get_type_hints

from typer.models import ArgumentInfo

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

Schema = Mapping[str, Any]
NOTE = "<!-- written by docs/generate.py -->\n"

KINDS = {
    "placement": "Which operators go to which node.",
    "routing": "Which replica, or which path through a mesh, serves a request.",
    "batching": "Which prompts enter an iteration.",
    "delivery": "Where a request is served, and whether its answer is good enough.",
    "recovery": "What happens to work that was lost.",
}


# --- the keys of a scenario ---------------------------------------------------------------------


def scenario_page() -> str:
    """Return the page of all keys of a scenario, in the order in which they come."""
    from infsim.scenario.json_schema import json_schema

    schema = json_schema()
    parts = {"Scenario": schema} | {name: schema["$defs"][name] for name in _order(schema)}
    used = _uses(parts)
    text = "".join(_part(name, parts, used.get(name, [])) for name in parts)
    return f"""{NOTE}# Keys of a scenario

A scenario is one YAML file. Every key is here, with its default; keys that are not are refused.
Quantities are written with their unit, as the examples show; a count is `16000` or `16k`, a
fraction `0.9` or `90 %`. `infsim schema` prints the same as a JSON Schema for editors.

{text}"""


def _order(schema: Schema) -> list[str]:
    """Return the names of the parts, each where it is used first."""
    found: list[str] = []

    def visit(part: Any) -> None:
        for name in _references(part):
            if name not in found:
                found.append(name)
                visit(schema["$defs"][name])

    visit(schema["properties"])
    return found


def _references(part: Any) -> Iterator[str]:
    if isinstance(part, dict):
        if "$ref" in part:
            yield part["$ref"].rpartition("/")[2]
        for key, value in part.items():
            if key != "discriminator":
                yield from _references(value)
    elif isinstance(part, list):
        for value in part:
            yield from _references(value)


def _uses(parts: Mapping[str, Schema]) -> dict[str, list[str]]:
    """Return for each part the keys that hold it."""
    found: dict[str, list[str]] = {}
    for owner, part in parts.items():
        for key, value in part["properties"].items():
            for name in dict.fromkeys(_references(value)):
                found.setdefault(name, []).append(f"`{key}` of {_link(owner)}")
    return found


def _part(name: str, parts: Mapping[str, Schema], used: list[str]) -> str:
    part = parts[name]
    lines = [f"## {name}", "", part.get("description", "").replace("\n", " "), ""]
    if used:
        lines += [f"Where: {', '.join(used)}.", ""]
    lines += ["| key | value | default | meaning |", "|---|---|---|---|"]
    for key, value in part["properties"].items():
        default = "required" if key in part.get("required", ()) else _default(value)
        same = parts.get(value.get("$ref", "").rpartition("/")[2], {})  # said there already
        meaning = value.get("description", same.get("description", "")).replace("\n", " ")
        lines.append(_row(f"`{key}`", _value(value), default, meaning))
    return "\n".join([*lines, "", ""])


def _default(value: Schema) -> str:
    default = value.get("default")
    if default is None or default in ([], {}):
        return ""
    if isinstance(default, dict):
        return "its defaults"
    return f"`{default if isinstance(default, str) else json.dumps(default)}`"


def _value(value: Schema) -> str:
    """Return what a key may hold, in words."""
    from infsim.units import DIMENSIONS

    if "$ref" in value:
        return _link(value["$ref"].rpartition("/")[2])
    if "examples" in value:
        example = value["examples"][0]
        plain = (name for name in ("count", "fraction") if example == DIMENSIONS[name].example)
        return next(plain, f"`{example}`")
    for key in ("anyOf", "oneOf"):
        if key in value:
            words = [_value(option) for option in value[key] if option.get("type") != "null"]
            return " or ".join(dict.fromkeys(word for word in words if word))
    if "const" in value:
        return f"`{value['const']}`"
    if "enum" in value:
        return ", ".join(f"`{option}`" for option in value["enum"])
    return _plain_value(value)


def _plain_value(value: Schema) -> str:
    kind = value.get("type")
    if kind == "array":
        if "prefixItems" in value:
            return f"[{', '.join(map(_value, value['prefixItems']))}]"
        items = _value(value.get("items", {}))
        return f"list of {items}" if items else "list"
    if kind == "object":
        values = value.get("additionalProperties")
        known = _value(values) if isinstance(values, dict) else ""
        return f"mapping of names to {known}" if known else "mapping"
    names = {"string": "text", "boolean": "`true`, `false`", "integer": "whole number"}
    return names.get(str(kind), str(kind or ""))


def _link(name: str) -> str:
    return f"[{name}](#{name.lower()})"


def _row(*cells: str) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


# --- policies -----------------------------------------------------------------------------------


def policies_page() -> str:
    """Return the page of all policies with their parameters."""
    from infsim import registry

    sections = [NOTE + "# Policies\n"]
    sections.append(
        "What a scenario can name under `policies` and `compare`; the parameters are keys of the\n"
        "entry, as in `{name: power-of-two, d: 3}`. Those of your own are named by file,\n"
        '`"mine.py:Class"`: [Add a policy of your own](../how-to/add-a-policy.md).\n'
    )
    for kind in registry.KINDS:
        sections.append(f"## {kind}\n\n{KINDS[kind]}\n")
        policies = {name: registry.lookup(kind, name) for name in registry.names(kind)}
        sections += [
            _policy(name, policy)
            for name, policy in policies.items()
            if policy.__module__.startswith("infsim.")  # not those of installed packages
        ]
    return "\n".join(sections)


def _policy(name: str, policy: type) -> str:
    from infsim import registry

    about, _ = _docstring(policy)
    described: dict[str, tuple[str, str]] = {}
    for owner in reversed(policy.__mro__):
        described |= _docstring(owner)[1]
    lines = [f"### {name}", "", about, ""]
    found = registry.parameters(policy)
    if found:
        lines += ["| parameter | type | default | meaning |", "|---|---|---|---|"]
    for parameter in found:
        kind, meaning = described.get(parameter.name, (parameter.annotation, ""))
        default = "required" if parameter.default is None else f"`{parameter.default}`"
        shown = _code(kind or parameter.annotation)
        lines.append(_row(f"`{parameter.name}`", shown, default, _code(meaning)))
    return "\n".join([*lines, ""] if found else lines)


def _docstring(policy: type) -> tuple[str, dict[str, tuple[str, str]]]:
    """Return the text of a numpydoc docstring, and type and meaning of its attributes."""
    text = inspect.cleandoc(policy.__dict__.get("__doc__") or "")
    about, _, rest = text.partition("\nAttributes\n----------\n")
    found: dict[str, tuple[str, str]] = {}
    names: list[str] = []
    kind, meaning = "", ""
    for line in rest.splitlines():
        if line.startswith(" "):
            meaning = f"{meaning} {line.strip()}".strip()
        else:
            head, _, kind = line.partition(" : ")
            names, meaning = head.split(", "), ""
        found |= dict.fromkeys(names, (kind, meaning))
    return _code(about.strip()), found


def _code(text: str) -> str:
    return re.sub(r"``(.+?)``", r"`\1`", text)


# --- commands -----------------------------------------------------------------------------------

CLI = """# Commands

`infsim` and `python -m infsim` are the same. `infsim SCENARIO` is short for `infsim run SCENARIO`.
The result goes to stdout, progress and everything else to stderr.

| exit code | meaning |
|---|---|
| 0 | all is well |
| 1 | a bug, or a rerun that differs |
| 2 | bad input |
| 3 | a policy or a cost model failed |
| 4 | a download failed |
| 130 | interrupted; the runs that had ended are kept |
"""


def cli_page() -> str:
    """Return the page of all commands with their options."""
    commands = dict(sorted(_commands()))
    rows = [
        _row(f"[{name}](#{name.replace(' ', '-')})", _first_sentence(function))
        for name, function in commands.items()
    ]
    table = "\n".join(["| command | what it does |", "|---|---|", *rows, ""])
    return "\n".join([NOTE + CLI, table, *map(_command, commands, commands.values())])


def _commands() -> Iterator[tuple[str, Callable[..., Any]]]:
    """Yield all commands with the names of their groups before their own."""
    from infsim.cli.main import app, main

    with suppress(SystemExit), redirect_stdout(StringIO()):
        main(["--version"])  # adds the commands
    groups = {"": app} | {f"{group.name} ": group.typer_instance for group in app.registered_groups}
    for prefix, group in groups.items():
        alone = group.registered_callback if group else None
        if alone and alone.callback and alone.invoke_without_command is True:
            yield prefix.strip(), alone.callback
        for command in group.registered_commands if group else ():
            if command.callback:
                yield f"{prefix}{command.name}", command.callback


def _first_sentence(function: Callable[..., Any]) -> str:
    return (inspect.getdoc(function) or "").partition("\n")[0]


def _command(name: str, function: Callable[..., Any]) -> str:
    hints = get_type_hints(function, include_extras=True)
    parameters = inspect.signature(function).parameters.values()
    rows, arguments = [], []
    for parameter in parameters:
        if not get_args(hints[parameter.name]):
            continue  # the context, which nobody gives
        kind, info = get_args(hints[parameter.name])
        required = parameter.default is parameter.empty
        if isinstance(info, ArgumentInfo):
            shown = _argument(parameter.name, kind, info)
            arguments.append(shown if required else f"[{shown}]")
        else:
            shown = _option(parameter.name.replace("_", "-"), info)
            if required:
                arguments.append(f"{shown.partition(',')[0]} {parameter.name.upper()}")
        options = [f"`{name}`" for name in kind.__members__] if isinstance(kind, EnumType) else []
        meaning = f"{info.help} {', '.join(options)}".strip()
        default = "required" if required else _shown_default(parameter.default)
        rows.append(_row(f"`{shown}`", default, _code(meaning)))
    lines = [f"## {name}", "", _code(inspect.getdoc(function) or ""), ""]
    if rows:
        lines += [f"`{' '.join(['infsim', name, *arguments, '[OPTIONS]'])}`", ""]
        lines += ["| argument or option | default | meaning |", "|---|---|---|", *rows, ""]
    return "\n".join(lines)


def _argument(name: str, kind: Any, info: Any) -> str:
    several = "..." if "list[" in str(kind) else ""
    return (info.metavar or name.upper()).strip("[].") + several


def _option(name: str, info: Any) -> str:
    # inside Annotated, the first positional argument of typer.Option is a name as well
    given = (info.default, *(info.param_decls or ()))
    names = ", ".join(text for text in given if isinstance(text, str)) or f"--{name}"
    return f"{names} {info.metavar}" if info.metavar else names


def _shown_default(default: Any) -> str:
    return "" if default is None or default is False else f"`{default}`"


# --- the table of scenarios in the README -------------------------------------------------------


def readme() -> str:
    """Return the README with the table of the shipped scenarios as it has to be."""
    from infsim.scenario.load import load

    rows = []
    for path in sorted((HERE.parent / "scenarios").glob("*.yaml")):
        question = load(path).spec.question or ""
        rows.append(_row(f"[{path.stem}](scenarios/{path.name})", question))
    text = (HERE.parent / "README.md").read_text(encoding="utf-8")
    head, rule, rest = text.partition("| scenario | question |\n|---|---|\n")
    _, blank, tail = rest.partition("\n\n")
    return head + rule + "\n".join(rows) + blank + tail


PAGES: Mapping[str, Callable[[], str]] = {
    "../README.md": readme,
    "reference/scenario.md": scenario_page,
    "reference/policies.md": policies_page,
    "reference/cli.md": cli_page,
}


def content(page: Callable[[], str]) -> str:
    """Return the text of a page as it is stored."""
    lines = (line.rstrip() for line in page().splitlines())
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).rstrip() + "\n"


if __name__ == "__main__":
    for name, page in PAGES.items():
        (HERE / name).write_text(content(page), encoding="utf-8")
