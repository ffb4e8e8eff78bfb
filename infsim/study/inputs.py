"""The files that a scenario reads."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from infsim.paths import data_folder, fetched_files

# Where a bare name in a scenario may come from.
_FOLDERS = (
    "traces",
    "traces/churn",
    "traces/energy/carbon",
    "traces/energy/price",
    "calibration",
    "calibration/accuracy",
)

# Their folders that hold data of another kind: the name of none of them means a file.
_OTHERS = (
    "traces/churn",
    "traces/energy",
    "traces/public",
    "calibration/accuracy",
    "calibration/recorded",
)


def input_files(resolved: Any) -> set[Path]:
    """Return the files named in the values of a resolved scenario.

    Parameters
    ----------
    resolved : plain data
        As `Scenario.to_dict` gives it: files as absolute paths, ``file.py:Class`` included, or as
        the bare names of data that infsim ships.
    """
    return {path for text in set(_texts(resolved)) for path in _files(text)}


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from _texts(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _texts(inner)


def _files(text: str) -> Iterator[Path]:
    file, separator, _ = text.rpartition(".py:")
    path = Path(f"{file}.py" if separator else text)
    if path.is_absolute():
        if path.is_file():
            yield path
        yield from path.glob("chunk-*")  # a trace of ServeGen is a folder of clients
    elif len(path.parts) == 1:
        yield from _shipped(text)


def _shipped(name: str) -> Iterator[Path]:
    """Yield the files of a bare name: shipped ones (all in a folder of this name), or fetched."""
    yield from fetched_files(name)
    for folder in _FOLDERS:
        for entry in data_folder(folder).glob("*"):
            named = entry.name == name or entry.name.partition(".")[0] == name
            if not named or f"{folder}/{entry.name}" in _OTHERS:
                continue
            yield from (file for file in [entry, *entry.rglob("*")] if file.is_file())
