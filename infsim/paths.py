"""Where the data that come with infsim are: ``scenarios``, ``traces``, ``calibration``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

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

    Raises
    ------
    InputError
        If there is none; suggests the nearest name.
    """
    for suffix in ("", *suffixes):
        path = data_folder(folder) / f"{name}{suffix}"
        if path.is_file() and path.name.endswith(tuple(suffixes)):
            return path
    known = data_names(folder, suffixes)
    raise InputError(
        f"no file {name!r}, and none of this name in {folder}{did_you_mean(name, known)}",
        hint=f"infsim ships {', '.join(known)}" if known else None,
    )
