"""Where data are: those that come with infsim, and public ones that were fetched.

``scenarios``, ``traces`` and ``calibration`` come with it; `infsim trace fetch` puts public traces
into a cache of the user.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from infsim.errors import InputError, did_you_mean

_PACKAGE = Path(__file__).resolve().parent


def data_folder(name: str) -> Path:
    """Return a data folder: of the checkout if infsim runs from one, of the package otherwise.

    Parameters
    ----------
    name : str
        ``scenarios``, ``traces`` or ``calibration``.
    """
    checkout = _PACKAGE.parent
    if (checkout / "pyproject.toml").is_file():
        return checkout / name
    return _PACKAGE / "data" / name


def data_names(folder: str, suffixes: Sequence[str]) -> tuple[str, ...]:
    """Return the bare names of the data files of some suffixes, sorted."""
    files = [path.name for path in data_folder(folder).glob("*") if path.is_file()]
    return tuple(
        sorted({file.removesuffix(s) for file in files for s in suffixes if file.endswith(s)})
    )


def data_file(folder: str, name: str, suffixes: Sequence[str]) -> Path:
    """Return the data file of a bare name.

    Parameters
    ----------
    folder : str
        As for `data_folder`.
    name : str
        Name of the file with or without suffix.
    suffixes : sequence of str
        Accepted suffixes with their dot; earlier ones are preferred.

    Returns
    -------
    Path
        The file; the folder of a fetched public trace of several files.

    Raises
    ------
    InputError
        If there is none; suggests the nearest name.
    """
    for suffix in ("", *suffixes):
        path = data_folder(folder) / f"{name}{suffix}"
        if path.is_file() and path.name.endswith(tuple(suffixes)):
            return path
    shipped = data_names(folder, suffixes)
    public = public_names() if folder == "traces" else ()
    if name in public:
        return _fetched(name)
    hints = [f"infsim ships {', '.join(shipped)}"] if shipped else []
    if public:
        hints.append("infsim trace fetch --list shows what can be fetched")
    raise InputError(
        f"no file {name!r}, and none of this name in {folder}"
        + did_you_mean(name, (*shipped, *public)),
        hint="; ".join(hints) or None,
    )


# --- public data in the cache of the user ---------------------------------------------------

PUBLIC = "traces/public"
"""Folder of what is known of public traces: a file each, which says where it is."""


def cache_folder() -> Path:
    """Return the folder of fetched data: ``INFSIM_CACHE``, or that of the platform for caches."""
    told = os.environ.get("INFSIM_CACHE")
    if told:
        return Path(told).expanduser()
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or "~/AppData/Local"
    elif sys.platform == "darwin":
        base = "~/Library/Caches"
    else:
        base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "infsim"


def public_names() -> tuple[str, ...]:
    """Return the names of the public traces that can be fetched."""
    return data_names(PUBLIC, (".yaml",))


def fetched_folder(name: str) -> Path:
    """Return the folder of the cache for a public trace, be it there or not."""
    return cache_folder() / "traces" / name


def fetched_files(name: str) -> tuple[Path, ...]:
    """Return the files of a public trace that are in the cache, without those half fetched."""
    if name not in public_names() or not fetched_folder(name).is_dir():
        return ()
    found = (path for path in fetched_folder(name).iterdir() if path.is_file())
    return tuple(sorted(p for p in found if not p.name.startswith(".")))


def public_files(name: str) -> tuple[Path, ...] | None:
    """Return all files of a fetched public trace, or the one that is named as ``NAME/FILE``.

    None if it is no name of a public trace.

    Raises
    ------
    InputError
        If not all of its files are there, or it has no such file.
    """
    name, _, file = name.partition("/")
    if name not in public_names():
        return None
    wanted = _entry(name)["files"]
    here = {path.name: path for path in fetched_files(name)}
    missing = len(wanted) - sum(each in here for each in wanted)
    if missing:
        raise InputError(
            f"{name!r} is a public trace that is not on this machine yet"
            + (f", {missing} of {len(wanted)} files are missing" if here else ""),
            hint=f"fetch it with: infsim trace fetch {name}",
        )
    if file and file not in wanted:
        raise InputError(
            f"{name!r} has no file {file!r}{did_you_mean(file, wanted)}",
            hint=f"it has {_some(list(wanted))}",
        )
    return tuple(here[each] for each in ([file] if file else wanted))


def public_file(name: str) -> Path | None:
    """Return the one file of a public trace, see `public_files`."""
    files = public_files(name)
    if files is not None and len(files) > 1:
        raise InputError(
            f"{name!r} are {len(files)} files",
            hint=f"name one of them, as in {name}/{files[0].name}",
        )
    return files[0] if files else None


def _fetched(name: str) -> Path:
    """Return the file of a public trace of requests; the folder if there are several."""
    kind = _entry(name)["kind"]
    if kind != "requests":
        raise InputError(f"{name!r} is no trace of requests, but of {kind}")
    files = public_files(name) or ()
    return files[0] if len(files) == 1 else fetched_folder(name)


def _entry(name: str) -> dict[str, Any]:
    import yaml

    text = (data_folder(PUBLIC) / f"{name}.yaml").read_text(encoding="utf-8")
    entry: dict[str, Any] = yaml.safe_load(text)
    return entry


def _some(names: Sequence[str], most: int = 6) -> str:
    return ", ".join(names[:most]) + (" …" if len(names) > most else "")
