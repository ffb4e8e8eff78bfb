"""The commands ``fidelity …``: recorded runs of real engines against their simulation."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from infsim.cli.main import app, command, interruptible
from infsim.errors import InputError

if TYPE_CHECKING:
    from infsim.fidelity.comparison import Comparison

fidelity = typer.Typer(
    name="fidelity",
    help="Compare recorded runs of real engines with their simulation.",
    rich_markup_mode=None,
)
app.add_typer(fidelity, name="fidelity")

JsonOption = Annotated[bool, typer.Option("--json", help="Print all figures as JSON.")]
FiguresOption = Annotated[
    Path | None, typer.Option(help="Folder for a figure of each run: single requests, quantiles.")
]


@fidelity.callback(invoke_without_command=True)
@interruptible
def table(
    context: typer.Context,
    run: Annotated[
        list[Path] | None,
        typer.Option(metavar="FOLDER", help="A recorded run beside those that ship; repeatable."),
    ] = None,
    json: JsonOption = False,
    figures: FiguresOption = None,
) -> None:
    """Simulate all recorded runs, and print how far off the simulation is."""
    if context.invoked_subcommand is not None:
        if run or json or figures:
            raise InputError("options belong behind the command", hint="infsim fidelity import ...")
        return
    from infsim.cli.fidelity_text import ABSENT, NOTE, data, text
    from infsim.fidelity.runs import compare_run, shipped
    from infsim.fidelity.vllm import is_vllm

    given = list(run or ())
    # first those that may be wrong
    added = [comparison for folder in given for comparison in compare_run(folder)]
    found = [comparison for folder in shipped() for comparison in compare_run(folder)] + added
    _draw(found, figures)
    if json:
        _print_json(data(found))
        return
    print(text(found), "", NOTE, sep="\n")
    if not any(map(is_vllm, given)):
        print(ABSENT)


@command("import", fidelity)
def import_(
    folder: Annotated[Path, typer.Argument(help="A run of vLLM: meta.json and requests.jsonl.")],
    kernels: Annotated[
        Path | None,
        typer.Option(
            help="Kernels measured on the same device, or what `calibrate fit` made of them; by"
            " default those that ship."
        ),
    ] = None,
    prompts: Annotated[
        Path | None,
        typer.Option(help="The data set that was sent, which tells what prompts have in common."),
    ] = None,
    device: Annotated[str | None, typer.Option(help="Device of `infsim list devices`.")] = None,
    model: Annotated[str | None, typer.Option(help="Model of `infsim list models`.")] = None,
    format_: Annotated[
        str | None, typer.Option("--format", help="Number format of `infsim list formats`.")
    ] = None,
    json: JsonOption = False,
    figures: FiguresOption = None,
) -> None:
    """Simulate a recorded run, and say how far off the simulation is."""
    from infsim.cli.fidelity_text import figures_of
    from infsim.fidelity.comparison import as_mapping
    from infsim.fidelity.kernels import fitted
    from infsim.fidelity.runs import compare_recorded
    from infsim.fidelity.vllm import read_vllm

    recorded = read_vllm(folder, device, model, format_, prompts)
    if kernels is None:
        comparison = compare_recorded(recorded)
    else:
        with fitted(kernels, recorded.serving.device) as costs:
            comparison = compare_recorded(recorded, costs)
    _draw([comparison], figures)
    if json:
        _print_json(as_mapping(comparison.rows))
    else:
        print(*figures_of(comparison), sep="\n")


def _draw(comparisons: Sequence[Comparison], folder: Path | None) -> None:
    if folder is None:
        return
    from infsim.figures.residuals import residuals
    from infsim.figures.style import save

    drawn: Counter[str] = Counter()
    for comparison in comparisons:
        name = re.sub(r"[^a-z0-9]+", "-", comparison.name.lower()).strip("-")
        drawn[name] += 1
        file = name if drawn[name] == 1 else f"{name}-{drawn[name]}"
        parts = {part.name: (part.real, part.simulated) for part in comparison.parts}
        save(residuals(parts), folder / f"{file}.pdf")


def _print_json(found: Any) -> None:
    from json import dumps

    print(dumps(found, indent=1, ensure_ascii=False, allow_nan=False))
