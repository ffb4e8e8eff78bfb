"""``infsim``: the commands, and how they end.

Exit codes: 0 all is well, 1 a bug or a rerun that differs, 2 bad input, 3 a policy failed, 4 a
download failed, 130 interrupted. Only the result goes to stdout. Each command imports what it
needs when it runs, so that ``infsim --help`` is quick.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar, cast

import typer

from infsim.errors import InfsimError, InputError, did_you_mean

INTERRUPTED = 130

Function = TypeVar("Function", bound=Callable[..., Any])

app = typer.Typer(
    name="infsim",
    help="Simulate inference scheduling. `infsim SCENARIO` is short for `infsim run SCENARIO`.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # help by rich takes three times as long
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command and exit.

    Parameters
    ----------
    arguments : sequence of str, optional
        Those of the process by default.
    """
    from infsim.cli import (  # noqa: F401 - they add their commands
        calibrate,
        calibrate_fit,
        calibrate_llama_cpp,
        calibrate_run,
        churn,
        fetch,
        fidelity,
        inspect,
        listing,
        run,
        trace,
    )

    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        app(_with_command(given))
    except InfsimError as error:
        _report(error)
        sys.exit(error.exit_code)
    except OSError as error:  # stdout is a file on a full disk, say
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)


def command(name: str, group: typer.Typer = app) -> Callable[[Function], Function]:
    """Return a decorator that makes a function a command, which Ctrl-C ends with 130.

    Parameters
    ----------
    name : str
    group : Typer
        Where the command belongs: a group of commands, or all of them.
    """

    def decorate(function: Function) -> Function:
        group.command(name)(interruptible(function))
        return function

    return decorate


def interruptible(function: Function) -> Function:
    """Return the function, ended with exit code 130 by Ctrl-C."""

    @wraps(function)
    def guarded(*arguments: Any, **options: Any) -> Any:
        try:
            return function(*arguments, **options)
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            raise typer.Exit(INTERRUPTED) from None

    return cast(Function, guarded)


def _with_command(arguments: list[str]) -> list[str]:
    """Let a scenario in place of a command mean ``run``."""
    commands = [command.name for command in app.registered_commands if command.name]
    commands += [group.name for group in app.registered_groups if group.name]
    if not arguments or arguments[0] in commands:
        return arguments
    first = arguments[0]
    if first in ("-h", "--help", "--version") or first.endswith("-completion"):
        return arguments
    if not first.startswith("-") and not _is_scenario(first):
        raise InputError(
            f"{first!r} is neither a command nor a scenario{did_you_mean(first, commands)}",
            hint=f"commands: {', '.join(commands)}",
        )
    return ["run", *arguments]


def _is_scenario(text: str) -> bool:
    from infsim.paths import data_names

    return (
        text.endswith((".yaml", ".yml"))
        or Path(text).is_file()
        or text in data_names("scenarios", (".yaml",))
    )


def _report(error: InfsimError) -> None:
    """Tell what went wrong, and in whose code."""
    print(f"error: {error}", file=sys.stderr)
    for note in getattr(error, "__notes__", ()):
        print(f"error: {note}", file=sys.stderr)
    cause = error.__cause__
    if cause is None or isinstance(cause, InfsimError) or error.exit_code != 3:
        return
    from traceback import extract_tb

    frames = extract_tb(cause.__traceback__)
    own = str(Path(__file__).parents[1])
    # where the policy went wrong, be it in what it calls of infsim
    theirs = [f for f in frames if f.line and not f.filename.startswith(own)]
    last = (theirs or frames)[-1]
    print(
        f"  {type(cause).__name__}: {cause}\n"
        f"  in {last.name}, {last.filename}:{last.lineno}: {last.line}",
        file=sys.stderr,
    )


def show_version(wanted: bool) -> None:
    """Print the version and exit."""
    if wanted:
        from infsim import __version__

        print(__version__)
        raise typer.Exit


@app.callback()
def _options(
    version: bool = typer.Option(
        False, "--version", callback=show_version, is_eager=True, help="Print the version."
    ),
) -> None:
    del version  # its callback has acted on it
