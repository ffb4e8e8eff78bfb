"""The command ``calibrate llama-cpp``: what steps of llama.cpp take on this processor."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from infsim.cli.calibrate import calibrate
from infsim.cli.main import command
from infsim.errors import InputError


@command("llama-cpp", calibrate)
def llama_cpp(
    weights: Annotated[Path, typer.Argument(metavar="MODEL.gguf", help="The model's file.")],
    out: Annotated[Path, typer.Option(help="Folder to write.")],
    device: Annotated[
        str, typer.Option(help="Name that scenarios give this processor: of `infsim list devices`.")
    ],
    model: Annotated[str, typer.Option(help="Name that scenarios give the model.")],
    form: Annotated[
        str, typer.Option("--format", help="Name that scenarios give the format of its weights.")
    ],
    tokens: Annotated[int, typer.Option(help="Most tokens of a step.")] = 48,
    sequences: Annotated[int, typer.Option(help="Most sequences at one time.")] = 8,
    prompt: Annotated[int, typer.Option(help="Median length of the prompts served.")] = 24,
    output: Annotated[int, typer.Option(help="Median length of their outputs.")] = 12,
    repeats: Annotated[int, typer.Option(help="Traces that are served at each load.")] = 3,
) -> None:
    """Measure steps of llama.cpp as it serves traces on one thread, and fit their cost.

    OUT/steps.json is what `costs:` of a scenario takes: for this model in this format on this
    device, wherever it is whole on a node.
    """
    from infsim.calibrate.llama_cpp.measure import Plan, measure
    from infsim.calibrate.llama_cpp.server import Lengths, Limits

    limits, lengths = Limits(tokens, sequences), Lengths(prompt, output)
    if min(*limits, *lengths, repeats) < 1:
        raise InputError("--tokens, --sequences, --prompt, --output and --repeats must be positive")
    if tokens < sequences:
        raise InputError(f"--tokens must be --sequences at least, got {tokens} and {sequences}")
    found = measure(Plan(weights, device, model, form, limits, lengths, repeats), out, _say)
    for name, error in found.errors.items():
        print(f"  {name}: {error:+.1%}")
    print(out)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
