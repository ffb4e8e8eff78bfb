"""The formats that can be imported, found by name or by what lies at a path."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

from infsim.calibrate.importers import (
    aiconfigurator,
    llama_cpp,
    llmservingsim,
    splitwise,
    vidur,
)
from infsim.calibrate.importers.imported import Imported
from infsim.calibrate.importers.source import Source
from infsim.errors import InputError, Where, did_you_mean

AUTO = "auto"


@dataclass(frozen=True)
class Format:
    """A format of kernel tables.

    Attributes
    ----------
    read : callable
        Takes a path and the name of a device, returns what it has read.
    summary : str
    """

    read: Callable[[Path, str], Imported]
    summary: str


FORMATS: Mapping[str, Format] = {
    "aiconfigurator": Format(aiconfigurator.read, "NVIDIA AI Configurator: a system folder"),
    "vidur": Format(vidur.read, "Vidur: profiles of layers, attention, collectives"),
    "frontier": Format(vidur.read, "Frontier: as Vidur"),
    "llmservingsim": Format(llmservingsim.read, "LLMServingSim: a variant folder of its profiler"),
    "splitwise": Format(splitwise.read, "Splitwise: whole steps"),
    "llama-cpp": Format(llama_cpp.read, "llama-bench CSV, or collected tokens per second"),
}
"""By name."""

_COLUMNS = (
    ("aiconfigurator", ("framework", "latency")),
    ("splitwise", ("prompt_time", "token_time")),
    ("llama-cpp", ("system", "tokens_per_s")),
    ("llama-cpp", ("n_prompt", "avg_ts")),
)
"""Columns by which a single file is known."""


def read(path: str | Path, device: str, name: str = AUTO) -> Imported:
    """Read a table of another project.

    Parameters
    ----------
    path : str or Path
        A folder or a file, see the summaries of `FORMATS`.
    device : str
        What was measured, a name of the catalogue.
    name : str
        One of `FORMATS`, or ``auto``.

    Returns
    -------
    Imported
        Unchecked; see `infsim.calibrate.audit.audit`. Its meta has the digests of the files.

    Raises
    ------
    InputError
        If the format is unknown or cannot be told, or a file is damaged.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"no such file or folder: {path}")
    name = detect(path) if name == AUTO else name
    if name not in FORMATS:
        known = (AUTO, *FORMATS)
        raise InputError(
            f"unknown format {name!r}{did_you_mean(name, known)}",
            hint=f"formats: {', '.join(known)}",
        )
    imported = FORMATS[name].read(path, device)
    extra = dict(imported.table.meta.extra) | {"inputs": _digests(path, imported.files)}
    return replace(imported, table=imported.table.with_meta(extra=extra))


def detect(path: Path) -> str:
    """Tell the format of a file or folder.

    Raises
    ------
    InputError
        If it is none that is known.
    """
    if llmservingsim.is_profile(path):
        return "llmservingsim"
    if path.is_dir() and aiconfigurator.perf_files(path):
        return "aiconfigurator"
    files = vidur.profile_files(path)
    if files:
        source = Source.open(files[0])
        if any(name.startswith("time_stats.") for name in source.cells):
            return "vidur"
        if path.is_file():
            for name, columns in _COLUMNS:
                if all(column in source for column in columns):
                    return name
    raise InputError(
        "no table of a format that is known", where=Where(str(path)), hint=", ".join(FORMATS)
    )


def _digests(path: Path, files: tuple[str, ...]) -> dict[str, str]:
    base = path if path.is_dir() else path.parent
    return {_name(Path(f), base): sha256(Path(f).read_bytes()).hexdigest() for f in files}


def _name(file: Path, base: Path) -> str:
    """Name a file below a folder; of one that lies elsewhere, above it, by its name alone."""
    inside = file.is_relative_to(base)
    return file.relative_to(base).as_posix() if inside else file.name
