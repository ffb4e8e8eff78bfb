"""Floors: imports go down only, and heavy libraries stay in the rooms that need them."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

PACKAGE = Path(__file__).resolve().parents[2] / "infsim"

# Rooms from the ground up; a room may import rooms of lower floors, and itself.
FLOORS = (
    ("errors",),
    ("units", "rng", "paths", "catalog_folder"),
    ("registry",),
    ("model", "cluster", "workload"),
    ("cost",),
    ("policy",),
    ("results.recorder",),
    ("engine",),
    ("results",),
    ("scenario",),
    ("figures", "calibrate"),
    ("study", "fidelity"),
    ("testing",),
    ("cli",),
    ("__main__",),
)
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}

# Libraries, and where they may be imported.
RESERVED = {
    "simpy": ("engine",),
    "pulp": ("policy.placement",),
    "highspy": ("policy.placement",),
    "matplotlib": ("figures",),
    "pydantic": ("scenario", "registry"),
    "typer": ("cli",),
}

# Libraries that take long to import: inside of functions, or for types only. Calibration is not
# imported by anything, and measures for minutes.
HEAVY = {"matplotlib", "pulp", "highspy", "networkx", "pandas", "scipy.stats", "pyarrow", "rich"}
UNHURRIED = ("calibrate",)


class Import(NamedTuple):
    """An imported module: the line, whether it is for types only, or only when a function runs."""

    name: str
    line: int
    for_types: bool
    later: bool


def module_name(file: Path) -> str:
    parts = file.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {module_name(file): file for file in sorted(PACKAGE.rglob("*.py"))}


def room(module: str) -> str:
    """Return the room of a module of infsim, as `FLOORS` names it."""
    return module if module in FLOOR else module.partition(".")[0]


def within(module: str, rooms: tuple[str, ...]) -> bool:
    return any(module == r or module.startswith(f"{r}.") for r in rooms)


@cache
def imports(file: Path) -> tuple[Import, ...]:
    return tuple(_imports(ast.parse(file.read_text(encoding="utf-8")), False, False))


def _imports(node: ast.AST, for_types: bool, later: bool) -> Iterator[Import]:
    if isinstance(node, ast.Import):
        for alias in node.names:
            yield Import(alias.name, node.lineno, for_types, later)
    elif isinstance(node, ast.ImportFrom):
        for alias in node.names:
            # `from infsim.model import catalog` imports a module
            inner = f"{node.module}.{alias.name}"
            name = inner if is_ours(inner) or inner in HEAVY else str(node.module)
            yield Import("." * node.level + name, node.lineno, for_types, later)
    else:
        for_types |= isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        later |= isinstance(node, ast.FunctionDef)
        for child in ast.iter_child_nodes(node):
            yield from _imports(child, for_types, later)


def is_ours(name: str) -> bool:
    return name == "infsim" or name.removeprefix("infsim.") in FILES


def problems(wrong: Iterator[tuple[str, Import, str]]) -> list[str]:
    return [f"{FILES[module]}:{found.line}: {found.name}: {why}" for module, found, why in wrong]


def running() -> Iterator[tuple[str, Import]]:
    """Yield the imports of all modules that take place, now or when a function runs."""
    for module, file in FILES.items():
        yield from ((module, found) for found in imports(file) if not found.for_types)


def test_every_module_is_in_a_room() -> None:
    assert [module for module in FILES if module and room(module) not in FLOOR] == []


def test_imports_are_absolute() -> None:
    assert problems((m, i, "relative") for m, i in running() if i.name.startswith(".")) == []


def test_imports_go_down_only() -> None:
    def wrong() -> Iterator[tuple[str, Import, str]]:
        for module, found in running():
            target = found.name.removeprefix("infsim").removeprefix(".")
            if module == "" or not is_ours(found.name) or not target:
                continue  # the package itself has lazy names only
            if room(target) != room(module) and FLOOR[room(target)] >= FLOOR[room(module)]:
                yield module, found, f"is above {room(module)}"

    assert problems(wrong()) == []


def test_libraries_stay_in_their_rooms() -> None:
    def wrong() -> Iterator[tuple[str, Import, str]]:
        for module, found in running():
            rooms = RESERVED.get(found.name.partition(".")[0], (module,))
            if not within(module, rooms):
                yield module, found, f"belongs in {', '.join(rooms)}"

    assert problems(wrong()) == []


def test_heavy_libraries_wait_for_their_use() -> None:
    def wrong() -> Iterator[tuple[str, Import, str]]:
        for module, found in running():
            heavy = within(found.name, tuple(HEAVY)) and not within(module, UNHURRIED)
            if heavy and not found.later:
                yield module, found, "is imported with the module"

    assert problems(wrong()) == []


def test_there_are_no_circles() -> None:
    """Within a floor too: each module can be imported first."""
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " -> ".join([*path, module])
        if module in done:
            return
        for found in imports(FILES[module]):
            target = found.name.removeprefix("infsim.")
            if target in FILES and not found.for_types and not found.later:
                visit(target, (*path, module))
        done.add(module)

    for module in FILES:
        visit(module, ())


def test_the_walk_sees_what_is_there() -> None:
    """The laws above would hold of an empty list as well."""
    seen = {(module, found.name) for module, found in running()}
    assert ("units", "infsim.errors") in seen
    assert ("scenario.schema.base", "pydantic") in seen
    assert any(name == "simpy" for _, name in seen)


# --- what is really imported ----------------------------------------------------------------


def loaded_by(code: str) -> set[str]:
    """Return the modules that are there after a piece of Python has run."""
    done = subprocess.run(
        [sys.executable, "-c", f"import sys\n{code}\nprint(*sys.modules, file=sys.stderr)"],
        capture_output=True,
        text=True,
        check=True,
        cwd=PACKAGE.parent,
    )
    return set(done.stderr.split())


def command(*arguments: str) -> str:
    return (
        "from infsim.cli.main import main\n"
        "try:\n"
        f"    main({list(arguments)!r})\n"
        "except SystemExit as end:\n"
        "    assert not end.code, end.code\n"
    )


def test_the_package_alone_imports_next_to_nothing() -> None:
    assert not loaded_by("import infsim") & {"numpy", "pydantic", "typer", "yaml", *HEAVY}


def test_help_imports_next_to_nothing() -> None:
    assert not loaded_by(command("--help")) & {"numpy", "scipy", "pydantic", "yaml", *HEAVY}


def test_validate_imports_neither_figures_nor_solvers_nor_graphs(tmp_path: Path) -> None:
    file = tmp_path / "s.yaml"
    file.write_text(
        "name: s\nmodel: llama-3.1-8b\n"
        "cluster: {nodes: [{name: a, device: h100-sxm}]}\n"
        "workload: {arrivals: {rate: 1 /s}, lengths: {input: 5, output: 5}, requests: 3}\n"
    )
    assert not loaded_by(command("validate", str(file))) & HEAVY
