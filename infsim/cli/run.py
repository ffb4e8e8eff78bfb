"""The commands that simulate: ``run`` and ``rerun``."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from shutil import get_terminal_size
from typing import Annotated, Any

import typer

from infsim.cli.main import INTERRUPTED, command

ScenarioArgument = Annotated[
    str, typer.Argument(help="YAML file, or the bare name of a scenario that infsim ships.")
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="PATH=VALUE", help="Override a value, as in seed=7; repeatable."),
]
SeedOption = Annotated[int | None, typer.Option(min=0, help="Seed of all random numbers.")]
ReplicationsOption = Annotated[
    int | None, typer.Option(min=1, help="Runs of each alternative with different numbers.")
]
OutOption = Annotated[
    Path | None,
    typer.Option(help="Folder for the results; by default runs/NAME, or NAME-2 if that exists."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
JobsOption = Annotated[int, typer.Option(min=1, help="Processes that share the work.")]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Nothing on stderr but errors.")]


class EngineChoice(StrEnum):
    """Engines by name."""

    fast = "fast"
    reference = "reference"


@command("run")
def run(
    scenario: ScenarioArgument,
    set_: SetOption = None,
    seed: SeedOption = None,
    replications: ReplicationsOption = None,
    out: OutOption = None,
    json: JsonOption = False,
    jobs: JobsOption = 1,
    quiet: QuietOption = False,
    timeline: Annotated[
        bool | None,
        typer.Option("--timeline/--no-timeline", help="Write a timeline of each run for Perfetto."),
    ] = None,
    engine: Annotated[
        EngineChoice, typer.Option(help="The reference engine is slow, and obviously right.")
    ] = EngineChoice.fast,
) -> None:
    """Simulate a scenario and compare its alternatives."""
    from infsim.scenario.load import load
    from infsim.study.run import run_study

    loaded = load(scenario, set=set_ or (), seed=seed, replications=replications)
    folder = out or _free_folder(loaded.name)
    study = run_study(
        loaded,
        out=folder,
        jobs=jobs,
        progress=False if quiet else None,
        engine=engine.value,
        timeline=timeline,
        unsaved=lambda study: _show(study, json),
    )
    _show(study, json)
    _log(quiet, f"results in {folder}")
    if study.interrupted:
        raise typer.Exit(INTERRUPTED)


@command("rerun")
def rerun(
    folder: Annotated[Path, typer.Argument(help="A folder that `run` wrote.")],
    out: Annotated[Path | None, typer.Option(help="Folder for the new results.")] = None,
    json: JsonOption = False,
    jobs: JobsOption = 1,
    quiet: QuietOption = False,
) -> None:
    """Repeat a run from its folder and compare the digests."""
    from infsim.study.rerun import rerun as repeat

    found = repeat(folder, out=out, jobs=jobs, progress=False if quiet else None)
    if found.study.interrupted:
        raise typer.Exit(INTERRUPTED)
    for what in (*found.changed_inputs, *found.changed_software):
        print(f"changed since: {what}", file=sys.stderr)
    if json:
        _print_json({"equal": found.equal, "differing": list(found.differing)})
    elif found.equal:
        print("equal: all digests are the same")
    else:
        print("different:", *found.differing, sep="\n  ")
    if not found.equal:
        raise typer.Exit(1)


def _free_folder(name: str) -> Path:
    """Return a folder below ``runs`` that does not exist: nothing is ever overwritten unasked."""
    base = Path("runs")
    number, folder = 1, base / name
    while folder.exists():
        number += 1
        folder = base / f"{name}-{number}"
    return folder


def _show(study: Any, json: bool) -> None:
    if json:
        _print_json(study.to_dict())
        return
    # what is piped does not depend on the terminal that it was started from
    on_terminal = sys.stdout.isatty()
    width = get_terminal_size().columns if on_terminal else None
    print(study.text(width, color=on_terminal))


def _print_json(data: Any) -> None:
    from json import dumps

    print(dumps(data, indent=2, ensure_ascii=False, allow_nan=False))


def _log(quiet: bool, text: str) -> None:
    if not quiet:
        print(text, file=sys.stderr)
