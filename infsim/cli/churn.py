"""The commands ``churn …``: describe and fit traces of nodes that come and go."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import inf, isfinite, isnan
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from infsim.cli.main import app, command

if TYPE_CHECKING:
    from infsim.cluster.churn.profile import ChurnProfile
    from infsim.cluster.churn.statistics import Durations
    from infsim.cluster.churn.trace import ChurnTrace

churn = typer.Typer(
    name="churn",
    help="Describe and fit traces of nodes that come and go.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.add_typer(churn, name="churn")

TracesArgument = Annotated[
    list[Path],
    typer.Argument(
        metavar="TRACE...",
        help="Files of one observation, .avt or .json of spot zones, or the name of a fetched one.",
    ),
]
FormatOption = Annotated[
    str | None, typer.Option("--format", help="avt or spot; by default told by the suffix.")
]
StartOption = Annotated[
    str, typer.Option("--start", help="Leave out what was seen before, as in '4 h'.")
]
EndOption = Annotated[
    str | None, typer.Option("--end", help="Leave out what was seen after, as in '20 days'.")
]
FigureOption = Annotated[
    Path | None, typer.Option("--figure", help="Draw it: a .pdf, .png or .svg.")
]


@command("stats", churn)
def stats(
    traces: TracesArgument,
    format_: FormatOption = None,
    start: StartOption = "0",
    end: EndOption = None,
    figure: FigureOption = None,
) -> None:
    """Print how many nodes are online, how long they stay up and down, and what fails together."""
    from infsim.cluster.churn.statistics import describe, durations_of

    trace = _read(traces, format_, start, end)
    _print_figures(describe(trace))
    print("\nall nodes pooled        family        AIC - best   KS   mean")
    for name, up in (("uptimes", True), ("downtimes", False)):
        _print_fits(name, durations_of(trace, up))
    if figure is not None:
        _draw(figure, [(trace.name, trace)])


@command("fit", churn)
def fit(
    traces: TracesArgument,
    out: Annotated[Path, typer.Option("--out", "-o", help="The profile to write, a .yaml.")],
    format_: FormatOption = None,
    start: StartOption = "0",
    end: EndOption = None,
    steady: Annotated[bool, typer.Option("--steady", help="Fit no rhythm of the day.")] = False,
    source: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=TEXT", help="Where the trace comes from; repeatable."),
    ] = None,
    figure: FigureOption = None,
) -> None:
    """Fit a profile, from which scenarios make nodes like those of the trace."""
    from infsim.cluster.churn.fit import fit_profile, made_like
    from infsim.cluster.churn.profile import profile_text
    from infsim.results.folder import whole_file
    from infsim.rng import Streams

    trace = _read(traces, format_, start, end)
    profile = fit_profile(trace, out.stem, _source(source or [], traces, start, end), steady=steady)
    with whole_file(out) as scratch:
        scratch.write_text(profile_text(profile), encoding="utf-8")
    _print_errors(profile)
    print(out)
    if figure is not None:
        _draw(figure, [("trace", trace), ("made", made_like(profile, trace, Streams(2)))])


def _print_fits(name: str, durations: Durations) -> None:
    from infsim.cluster.churn.durations import fit_durations
    from infsim.errors import InputError

    try:
        fits = fit_durations(durations)
    except InputError as error:
        print(f"  {name:<21} {error}")
        return
    for fit in fits:
        print(
            f"  {name:<21} {fit.family:<12} {fit.aic - fits[0].aic:>11.4g}"
            f" {fit.ks:>6.3f}   {_time(fit.distribution.mean_s)}"
        )


def _read(traces: Sequence[Path], format_: str | None, start: str, end: str | None) -> ChurnTrace:
    from infsim.cluster.churn.readers import read_churn

    end_s = inf if end is None else _seconds(end, "--end")
    files = [file for trace in traces for file in _files(trace)]
    return read_churn(files, format_).part(_seconds(start, "--start"), end_s)


def _files(trace: Path) -> Sequence[Path]:
    """Return the files of a public trace that was fetched, if it is the name of one."""
    from infsim.paths import public_files

    return [trace] if trace.exists() else public_files(trace.as_posix()) or [trace]


def _seconds(text: str, option: str) -> float:
    from infsim.errors import InputError, Where
    from infsim.units import UnitError, parse

    try:
        return parse(text, "time")
    except UnitError as error:
        raise InputError(str(error), where=Where(option)) from None


def _source(
    given: Sequence[str], traces: Sequence[Path], start: str, end: str | None
) -> dict[str, str]:
    from infsim.errors import InputError, Where

    source = {"files": ", ".join(path.name for path in traces)}
    for entry in given:
        key, equals, text = entry.partition("=")
        if not equals or not key:
            raise InputError(f"{entry!r} is not KEY=TEXT", where=Where("--source"))
        source[key] = text
    if start != "0" or end is not None:
        source["part"] = f"from {start} to {end or 'the end'}"
    return source | {"made_with": "infsim churn fit"}


def _print_figures(figures: Mapping[str, float | Mapping[str, float]]) -> None:
    for name, value in figures.items():
        if isinstance(value, Mapping):
            print(f"\n{name}")
            for part, number in value.items():
                print(f"  {part:<30} {_figure(name, number)}")
        else:
            print(f"{name:<32} {_figure(name, value)}")


def _figure(name: str, value: float) -> str:
    if isnan(value):
        return "unknown"
    return _time(value) if name.endswith("_s") else f"{value:.4g}"


def _time(seconds: float) -> str:
    from infsim.units import format_quantity

    return format_quantity(seconds, "time") if isfinite(seconds) else "longer than seen"


def _print_errors(profile: ChurnProfile) -> None:
    errors = profile.errors
    print(f"{'':<32} {'trace':>10} {'made':>10}   sd of one")
    for name, value in errors["made"].items():
        real, spread = errors["real"][name], errors["made_sd"][name]
        print(f"{name:<32} {real:>10.4g} {value:>10.4g}   {spread:.2g}")
    for name, value in errors["ks"].items():
        print(f"{f'KS distance of {name}':<32} {value:>21.3f}")


def _draw(path: Path, traces: Sequence[tuple[str, ChurnTrace]]) -> None:
    from infsim.figures.churn import churn_figure
    from infsim.figures.style import save

    save(churn_figure(traces), path)
    print(path)
