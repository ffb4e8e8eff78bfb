"""The commands ``trace …``: fit, describe, compare and fetch traces of requests."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from infsim.cli.main import app, command

if TYPE_CHECKING:
    from infsim.workload.profile import Profile
    from infsim.workload.requests import Workload

trace = typer.Typer(
    name="trace",
    help="Fit, describe, compare and fetch traces of requests.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.add_typer(trace, name="trace")

TraceArgument = Annotated[
    str,
    typer.Argument(
        metavar="TRACE", help="A trace, a profile, or the bare name of one that infsim ships."
    ),
]
FormatOption = Annotated[
    str, typer.Option("--format", help="Format of the trace; by default found from its beginning.")
]
ColumnOption = Annotated[
    list[str] | None,
    typer.Option(
        "--column",
        metavar="OURS=THEIRS",
        help="What plain CSV or Parquet calls a column, as in input_tokens=prompt; repeatable.",
    ),
]
TimeUnitOption = Annotated[
    str, typer.Option(help="What 1 in the column of arrivals means, as in '1 ms'.")
]


PlotOption = Annotated[
    Path | None,
    typer.Option(help="Draw it: a file .pdf, .png or .svg, or a folder for a file of each panel."),
]


class Opened(NamedTuple):
    """A trace that was named on the command line; `profile` if it is one."""

    name: str
    workload: Workload
    profile: Profile | None


@command("fit", trace)
def fit(
    trace: TraceArgument,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="File to write; by default stdout.")
    ] = None,
    format_: FormatOption = "auto",
    column: ColumnOption = None,
    time_unit: TimeUnitOption = "1 s",
    seeds: Annotated[
        int, typer.Option(min=1, help="Made traces that the errors of the profile are means of.")
    ] = 40,
    source: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=VALUE",
            help="Where the trace comes from, as in licence=CC-BY-4.0; repeatable.",
        ),
    ] = None,
) -> None:
    """Fit a profile to a trace: a few kilobytes, from which requests like its own are made."""
    from infsim.errors import InputError, Where
    from infsim.rng import Streams
    from infsim.workload.blocks import read_all
    from infsim.workload.compare import best_profile

    opened = open_given(trace, format_, column, time_unit)
    if opened.profile is not None:
        raise InputError(f"{trace!r} is a profile already")
    given = {"trace": opened.name, **_pairs(source, "--source")}
    requests = read_all(opened.workload.blocks(Streams(0)))
    try:
        profile = best_profile(requests, seeds=range(seeds), source=given)
    except InputError as error:
        raise error.at(Where(opened.name)) from None
    _write_profile(profile, out)


@command("stats", trace)
def stats(
    trace: TraceArgument,
    format_: FormatOption = "auto",
    column: ColumnOption = None,
    time_unit: TimeUnitOption = "1 s",
    seed: Annotated[int, typer.Option(min=0, help="Of what a profile makes.")] = 0,
    json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
    plot: PlotOption = None,
) -> None:
    """Tell what a trace looks like: rates, burstiness, lengths, waits, sessions, prefixes."""
    from infsim.cli.trace_text import data, text
    from infsim.rng import Streams
    from infsim.workload.summary import summarize

    opened = open_given(trace, format_, column, time_unit)
    summary = summarize(opened.workload, Streams(seed))
    if plot is not None:
        from infsim.figures.traces import save_traces

        save_traces({opened.name: summary}, plot)
    print(_json_text(data(summary)) if json else text(opened.name, summary))


@command("compare", trace)
def compare(
    real: Annotated[str, typer.Argument(metavar="REAL", help="The real trace.")],
    made: Annotated[
        str, typer.Argument(metavar="MADE", help="A profile, or a trace that should be like it.")
    ],
    format_: FormatOption = "auto",
    column: ColumnOption = None,
    time_unit: TimeUnitOption = "1 s",
    seeds: Annotated[int, typer.Option(min=1, help="Traces that a profile makes.")] = 20,
    json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print it as a table in Markdown.")
    ] = False,
    plot: PlotOption = None,
) -> None:
    """Tell how near made requests come to a real trace: distances, burstiness, waits, hits.

    The options about columns and format are those of REAL.
    """
    from infsim.cli import comparison_text
    from infsim.errors import InputError, Where
    from infsim.rng import Streams
    from infsim.workload import compare as comparison
    from infsim.workload.blocks import read_all

    if json and markdown:
        raise InputError("give either --json or --markdown", where=Where("--markdown"))
    one, other = open_given(real, format_, column, time_unit), open_given(made)
    # a trace is one sample, whatever the seed
    used = seeds if other.profile is not None else 1
    requests = read_all(one.workload.blocks(Streams(0)))
    rows = comparison.compare(requests, other.workload, range(used))
    if plot is not None:
        from infsim.figures.traces import save_traces
        from infsim.workload.summary import summarize

        names = one.name, other.name if other.name != one.name else f"{other.name} (made)"
        opened = zip(names, (one.workload, other.workload), strict=True)
        save_traces({name: summarize(workload, Streams(0)) for name, workload in opened}, plot)
    names = one.name, other.name
    if json:
        print(_json_text(comparison_text.data(*names, rows, used)))
    elif markdown:
        print(comparison_text.markdown(*names, rows, used))
    else:
        print(comparison_text.text(*names, rows, used))


@command("errors", trace)
def errors(
    profile: Annotated[
        list[str] | None,
        typer.Argument(metavar="[PROFILE]...", help="By default all that infsim ships."),
    ] = None,
) -> None:
    """Print how far profiles are from their traces, as found when they were fitted, in Markdown."""
    from infsim.cli.comparison_text import errors_table
    from infsim.errors import InputError

    profiles = {}
    for name in profile or _shipped_profiles():
        opened = open_given(name)
        if opened.profile is None or not opened.profile.errors:
            raise InputError(f"{name!r} is no profile with errors")
        profiles[opened.name] = opened.profile
    print(errors_table(profiles))


def _shipped_profiles() -> tuple[str, ...]:
    from infsim.paths import data_names

    return data_names("traces", (".yaml",))


def open_given(
    trace: str, format_: str = "auto", column: Sequence[str] | None = None, time_unit: str = "1 s"
) -> Opened:
    """Open what was named on the command line: a file, or a trace that infsim ships.

    Raises
    ------
    InputError
        If it is not there, or an option makes no sense.
    """
    from typing import get_args

    from infsim.errors import InputError, Where, did_you_mean
    from infsim.scenario.build.workload import open_entry, open_profile
    from infsim.scenario.schema.workload import TraceFile, TraceFormat
    from infsim.units import UnitError, parse

    known = get_args(TraceFormat)
    if format_ not in known:
        raise InputError(
            f"unknown trace format {format_!r}{did_you_mean(format_, known)}",
            where=Where("--format"),
            hint=f"known: {', '.join(known)}",
        )
    try:
        unit_s = parse(time_unit, "time")
    except UnitError as error:
        raise InputError(str(error), where=Where("--time-unit")) from None
    if not unit_s > 0:
        raise InputError(f"{time_unit!r} is no unit of time", where=Where("--time-unit"))
    entry = TraceFile.model_construct(
        file=str(Path(trace).absolute()) if Path(trace).exists() else trace,
        format=format_,
        columns=_pairs(column, "--column"),
        time_unit=unit_s,
    )
    profile = open_profile(entry)
    workload = open_entry(entry) if profile is None else profile.workload()
    return Opened(Path(trace).name, workload, profile)


def _pairs(given: Sequence[str] | None, option: str) -> dict[str, str]:
    """Parse options of the form KEY=VALUE."""
    from infsim.errors import InputError, Where

    pairs = {}
    for text in given or ():
        key, equals, value = text.partition("=")
        if not (key and equals and value):
            raise InputError(f"{text!r} is not KEY=VALUE", where=Where(option))
        pairs[key] = value
    return pairs


def _json_text(data: object) -> str:
    from json import dumps

    return dumps(data, indent=2, ensure_ascii=False, allow_nan=False)


def _write_profile(profile: Profile, out: Path | None) -> None:
    from tempfile import TemporaryDirectory

    from infsim.results.folder import whole_file
    from infsim.workload.profile import save_profile

    if out is not None:
        with whole_file(out) as scratch:
            save_profile(profile, scratch)
        print(out)
        return
    with TemporaryDirectory() as folder:
        path = Path(folder) / "profile.yaml"
        save_profile(profile, path)
        sys.stdout.write(path.read_text(encoding="utf-8"))
