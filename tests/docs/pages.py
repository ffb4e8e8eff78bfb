"""The pages of the documentation, and what in them can be run.

In the order of the page, in a folder of its own that has ``scenarios/`` as the checkout has:

- a block whose first line is ``# name.yaml`` (or ``.py``, ``.csv``) is written to that file, CSV
  without this line;
- in a ``console`` block, what follows ``$ infsim`` is run, and has to print what is below it;
- a ``pycon`` block is a doctest.

Lines of ``...`` stand for any output. ``python -m tests.docs.pages`` (in the root of the checkout)
writes what the commands print now into the pages.
"""

from __future__ import annotations

import doctest
import os
import re
import shlex
import sys
import tempfile
from contextlib import chdir, redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))

BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
FILE = re.compile(r"# ([\w.-]+\.(?:py|yaml|csv))\n")
COMMAND = re.compile(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", re.MULTILINE)
INFSIM = re.compile(r"(?:python -m )?infsim (.*)")
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def runnable(page: Path) -> bool:
    """Whether anything of a page is run."""
    found = BLOCK.findall(page.read_text(encoding="utf-8"))
    return any(language in ("console", "pycon") for language, _ in found)


def played(page: Path) -> tuple[str, list[str]]:
    """Run a page in the current folder.

    Returns the page with the output of its commands as it is now, and what is not as it was said.
    """
    wrong: list[str] = []
    names: dict[str, object] = {}

    def play(block: re.Match[str]) -> str:
        language, content = block[1], block[2]
        file = FILE.match(content)
        if file:
            named = content if language != "csv" else content[file.end() :]
            Path(file[1]).write_text(named, encoding="utf-8")
        elif language == "console":
            content = COMMAND.sub(lambda command: _command(command, wrong), content)
        elif language == "pycon":
            _doctest(content, names, page.name, wrong)
        return f"```{language}\n{content}```"

    return BLOCK.sub(play, page.read_text(encoding="utf-8")), wrong


def _command(command: re.Match[str], wrong: list[str]) -> str:
    known = INFSIM.fullmatch(command[1])
    if known is None:
        return command[0]  # ls, cat, git: to be read, not run
    said = _infsim(shlex.split(known[1]))
    expected = command[2].replace("\n...\n", "\n...").replace("...\n", "...")
    if doctest.OutputChecker().check_output(expected, said, FLAGS):
        return command[0]
    wrong.append(f"$ {command[1]}\n--- said\n{said}--- expected\n{command[2]}")
    return f"$ {command[1]}\n{said}"


def _infsim(arguments: list[str]) -> str:
    """Return what a command prints, or its error message if it fails."""
    from infsim.cli.main import main

    out, err, failed = StringIO(), StringIO(), False
    with redirect_stdout(out), redirect_stderr(err):
        try:
            main(arguments)
        except SystemExit as end:
            failed = end.code not in (None, 0)
    said = out.getvalue() + (err.getvalue() if failed else "")
    return "".join(f"{line.rstrip()}\n" for line in said.splitlines())


def _doctest(content: str, names: dict[str, object], page: str, wrong: list[str]) -> None:
    test = doctest.DocTestParser().get_doctest(content, names, page, page, 0)
    said: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    runner.run(test, out=said.append, clear_globs=False)
    names.update(test.globs)
    wrong += ["".join(said)] if said else []


def prepare(folder: Path) -> None:
    """Give a folder what the pages expect to find."""
    (folder / "scenarios").symlink_to(ROOT / "scenarios")


def update() -> None:
    """Write the output of all commands into the pages, and say what else is wrong."""
    os.environ["COLUMNS"] = "100"
    for page in PAGES:
        with tempfile.TemporaryDirectory() as folder, chdir(folder):
            prepare(Path(folder))
            sys.path.insert(0, folder)
            text, wrong = played(page)
            sys.path.remove(folder)
        page.write_text(text, encoding="utf-8")
        sys.stdout.write("\n".join([str(page.relative_to(ROOT)), *wrong, ""]))


if __name__ == "__main__":
    update()
