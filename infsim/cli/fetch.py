"""The command ``trace fetch``: public traces, by name."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from infsim.cli.main import command
from infsim.cli.trace import trace


@command("fetch", trace)
def fetch(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="NAME", help="Names of public traces, or the URL of a file."),
    ] = None,
    list_: Annotated[bool, typer.Option("--list", help="List the names, and fetch none.")] = False,
    from_: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="PLACE",
            help="A folder or URL that holds the files; their checksums are checked all the same.",
        ),
    ] = None,
    sha256: Annotated[
        str | None, typer.Option(help="Checksum that the file of a URL has to have.")
    ] = None,
    timeout: Annotated[
        str, typer.Option(help="How long a server may send nothing before it is given up.")
    ] = "30 s",
) -> None:
    """Fetch public traces into the cache (INFSIM_CACHE), and print where they are.

    What a broken download has left is gone on with. The name of a fetched trace can then be used
    for it, in scenarios and commands; of one with several files NAME/FILE for one of them.
    """
    from infsim.errors import InputError
    from infsim.units import UnitError, parse
    from infsim.workload import fetch as public

    if list_:
        _list()
        return
    if not names:
        raise InputError("which trace?", hint="infsim trace fetch --list shows what is known")
    try:
        timeout_s = parse(timeout, "time")
    except UnitError as error:
        raise InputError(f"--timeout: {error}") from None
    if not timeout_s > 0:
        raise InputError(f"--timeout: {timeout!r} must be more than 0")
    if any("://" in name for name in names):
        _fetch_url(names, from_, sha256, timeout_s)
        return
    if sha256 is not None:
        raise InputError("--sha256 is for a URL, public traces have known ones")
    wanted = [public.describe(name) for name in names]  # all of them, before the first byte
    for one in wanted:
        shown = _Progress(one.name, len(one.files))
        path = public.fetch(one.name, place=from_, timeout_s=timeout_s, progress=shown)
        shown.end()
        print(path)
        print(f"{one.source}, licence: {one.licence}; cite {one.citation}", file=sys.stderr)


def _fetch_url(
    names: Sequence[str], from_: str | None, sha256: str | None, timeout_s: float
) -> None:
    from infsim.errors import InputError
    from infsim.workload.download import sha256_of
    from infsim.workload.fetch import fetch_url

    if len(names) > 1 or from_ is not None:
        raise InputError("a URL is fetched alone, and without --from")
    (url,) = names
    shown = _Progress(url, 1)
    path = fetch_url(url, sha256=sha256, timeout_s=timeout_s, progress=shown)
    shown.end()
    print(path)
    if sha256 is None:
        print(f"not checked; to check it: --sha256 {sha256_of(path)}", file=sys.stderr)


def _list() -> None:
    from infsim.cli.listing import _aligned
    from infsim.paths import cache_folder
    from infsim.units import format_quantity
    from infsim.workload.fetch import known

    rows = [
        (
            one.name,
            one.kind,
            format_quantity(one.bytes, "memory"),
            "fetched" if one.is_here else "",
            one.licence,
            one.about,
        )
        for one in known()
    ]
    print(_aligned([("name", "kind", "size", "", "licence", "about"), *rows]))
    print(f"cache: {cache_folder()}", file=sys.stderr)


class _Progress:
    """Shows on a terminal how far a download is; elsewhere nothing."""

    def __init__(self, name: str, files: int) -> None:
        self.name = name
        self.files = files
        self.seen: list[str] = []
        self.shown = ""

    def __call__(self, file: str, done: int, total: int) -> None:
        """Take down what has come of a file."""
        if not self.seen or self.seen[-1] != file:
            self.seen.append(file)
        much = f"{done / total:4.0%}" if total else f"{done} bytes"
        text = f"{self.name}: {much} of {file}"
        if self.files > 1:
            text += f" ({len(self.seen)} of {self.files})"
        if sys.stderr.isatty() and text != self.shown:
            print(f"\r{text:<{len(self.shown)}}", end="", file=sys.stderr, flush=True)
            self.shown = text

    def end(self) -> None:
        """Go on to a new line, if something was shown."""
        if self.shown:
            print(file=sys.stderr)
