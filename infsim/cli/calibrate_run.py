"""The command ``calibrate run``: what kernels take on the machine at hand."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from infsim.cli.calibrate import calibrate
from infsim.cli.main import command
from infsim.errors import InputError

DEVICES = ("cpu", "cuda")
MODELS = {"cpu": ["qwen2.5-0.5b"], "cuda": ["llama-3.1-8b", "llama-3.1-70b"]}
UNFINISHED = "unfinished"
SEARCHING = {"cpu": 0.4, "cuda": 0.9}
"""Share of the budget for the search. Processors are shared with others, whose load comes and goes
in minutes: in the rest points are measured again and again."""
SHARDS = {"cpu": [1], "cuda": [1, 2, 4, 8]}


@command("run", calibrate)
def run(
    out: Annotated[
        Path, typer.Option(help="Folder to write; its name is a device of `infsim list`.")
    ],
    hardware: Annotated[
        str | None, typer.Option(help="The device of `infsim list`, if the folder is named else.")
    ] = None,
    device: Annotated[str, typer.Option(help="What measures: cpu or cuda.")] = "cpu",
    only: Annotated[
        list[str] | None,
        typer.Option(help="Suite to measure: linear, onnx, attention, …; may be repeated."),
    ] = None,
    form: Annotated[
        list[str] | None,
        typer.Option("--format", help="Format of weights to measure; may be repeated."),
    ] = None,
    model: Annotated[
        list[str] | None, typer.Option(help="Model whose layers are measured; may be repeated.")
    ] = None,
    shards: Annotated[
        list[int] | None, typer.Option(help="Degree of tensor parallelism; may be repeated.")
    ] = None,
    budget: Annotated[float, typer.Option(help="Minutes, after which no point is begun.")] = 8.0,
    error: Annotated[
        float, typer.Option(help="Wanted error between points; 0 measures full grids.")
    ] = 0.05,
    longest: Annotated[float, typer.Option(help="Seconds that one run may take.")] = 0.15,
) -> None:
    """Measure kernels on this machine, where the fit is least sure, within a budget.

    Ctrl-C ends it early and keeps what was measured. Of a run that is killed, or refused because
    the machine changed, OUT/unfinished holds what was measured while it had not.
    """
    from infsim.calibrate.measure.run import Plan
    from infsim.calibrate.measure.run import run as run_plan
    from infsim.calibrate.measure.shapes import Shapes
    from infsim.calibrate.measure.suites import SUITES, kernels
    from infsim.calibrate.table import KERNELS_FILE, META_FILE

    if device not in DEVICES:
        raise InputError(f"--device must be cpu or cuda, got {device!r}")
    if not (budget > 0 and error >= 0 and longest > 0):
        raise InputError("--budget and --longest must be positive, --error not negative")
    shapes = Shapes(model or MODELS[device], shards or SHARDS[device])
    suites = only or list(SUITES)
    words = ["infsim", "calibrate", "run", "--device", device, "--out", f"calibration/{out.name}"]
    given = {"--hardware": [hardware] if hardware else [], "--only": only, "--format": form}
    for option, values in (given | {"--model": model, "--shards": shards}).items():
        words += [word for value in values or () for word in (option, str(value))]
    words += ["--budget", f"{budget:g}", "--error", f"{error:g}", "--longest", f"{longest:g}"]
    plan = Plan(
        hardware or out.name,
        device,
        60 * budget,
        error,
        longest,
        SEARCHING[device],
        shlex.join(words),
    )
    unfinished = out / UNFINISHED
    table = run_plan(
        plan,
        lambda: list(kernels(suites, shapes, device, form or ())),
        _say,
        lambda part: part.write(unfinished),
    )
    print(table.write(out))
    if unfinished.is_dir():
        for name in (KERNELS_FILE, META_FILE):
            (unfinished / name).unlink(missing_ok=True)
        unfinished.rmdir()
    _report(table.meta.extra)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _report(extra: object) -> None:
    """Tell what was found, from what ``meta.yaml`` keeps."""
    assert isinstance(extra, dict)
    search, reference = extra["search"], extra["reference"]
    print(
        f"{search['points_measured']} points measured in {search['seconds']:.0f} s,"
        f" {search['points_saved']} saved, {search['points_unsteady']} unsteady,"
        f" {search['curves_unfinished']} curves unfinished; drift {reference['drift']:+.1%}"
    )
    if error := extra["standard_error"]:
        print(
            f"  {search['rounds']} rounds: standard error {error['median']:.1%} in the median,"
            f" {error['p95']:.1%} at the 95th percentile"
        )
    for kernel, reason in extra["unavailable"].items():
        print(f"  unavailable: {kernel}: {reason}")
    if search.get("interrupted"):
        print("  interrupted before the end of its budget")
    print(f"  power: {extra['power']['source']}")
