"""The commands that simulate nothing: ``validate``, ``schema`` and ``timeline``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from infsim.cli.main import command
from infsim.cli.run import ScenarioArgument, SeedOption, SetOption


@command("validate")
def validate(
    scenario: ScenarioArgument,
    set_: SetOption = None,
    seed: SeedOption = None,
    resolved: Annotated[
        bool, typer.Option("--resolved", help="Print the scenario with all its defaults.")
    ] = False,
) -> None:
    """Check a scenario without planning or simulating."""
    from infsim.scenario.build import check
    from infsim.scenario.load import load

    loaded = load(scenario, set=set_ or (), seed=seed)
    check(loaded)
    if resolved:
        print(loaded.to_yaml(), end="")
        return
    counts = len(loaded.alternatives()), loaded.spec.replications
    print(f"{scenario}: valid; alternatives: {counts[0]}, replications: {counts[1]}")


@command("schema")
def schema() -> None:
    """Print the JSON Schema of scenarios."""
    from infsim.scenario.json_schema import json_schema_text

    sys.stdout.write(json_schema_text())


@command("timeline")
def timeline(
    folder: Annotated[Path, typer.Argument(help="A folder that `run` wrote.")],
    alternative: Annotated[str | None, typer.Option(help="By default the first.")] = None,
    replication: Annotated[int, typer.Option(min=0, help="Which replication.")] = 0,
    out: Annotated[
        Path | None, typer.Option(help="File to write; by default timeline.json.gz in the folder.")
    ] = None,
) -> None:
    """Write the timeline of a run for ui.perfetto.dev or Chrome."""
    from infsim.results.folder import whole_file
    from infsim.results.timeline import write_timeline
    from infsim.study.study import Study

    record = Study.load(folder).run(alternative, replication).record
    target = out or folder / "timeline.json.gz"
    with whole_file(target) as scratch:
        write_timeline(record, scratch)
    print(target)
