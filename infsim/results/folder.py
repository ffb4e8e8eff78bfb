"""The folder of a run appears whole or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from infsim.errors import InputError, Where

MANIFEST = "manifest.json"
OUTPUTS = (
    MANIFEST,
    "scenario.yaml",
    "summary.json",
    "requests.parquet",
    "nodes.parquet",
    "segments.parquet",
    "incidents.parquet",
    "figures",
    "timelines",
)


def check_writable(path: Path) -> None:
    """Raise InputError now if a run folder could not be written here later.

    To be asked before hours of simulation, not after them. Leaves nothing but the parent folders.
    """
    with _explained(path):
        _check_free(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent)).rmdir()


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Yield a scratch folder beside ``path`` that takes its place when the block ends well.

    An earlier run folder there is replaced; anything else there is an error. If the block raises,
    nothing is left behind and what was there stays.

    Raises
    ------
    InputError
        If the folder cannot be written (permissions, a full disk), or ``path`` holds something
        that is no run folder.
    """
    with _explained(path):
        _check_free(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
        try:
            scratch.chmod(0o777 & ~_umask())
            yield scratch
            _replace(path, scratch)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a scratch name beside ``path`` that takes its place when the block ends well.

    Devices and pipes (``/dev/stdout``) stay what they are and get the contents. Raises InputError
    if it cannot be written.
    """
    with _explained(path):
        if path.exists() and not (path.is_file() or path.is_dir()):
            with tempfile.TemporaryDirectory() as folder:
                scratch = Path(folder) / path.name
                yield scratch
                path.write_bytes(scratch.read_bytes())
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        # the suffix stays: it names the format
        scratch = path.with_name(f".{os.getpid()}.{path.name}")
        try:
            yield scratch
            scratch.replace(path)
        finally:
            scratch.unlink(missing_ok=True)


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _cannot_write(path, error) from error
    except InputError as error:
        # a file of a scratch folder: name what was asked for
        if isinstance(error.__cause__, OSError):
            raise _cannot_write(path, error.__cause__) from error.__cause__
        raise


def _cannot_write(path: Path, error: OSError) -> InputError:
    reason = error.strerror or str(error)
    return InputError(
        f"cannot write {str(path)!r}: {reason}", where=Where("--out"), hint="choose another place"
    )


def _check_free(path: Path) -> None:
    if not path.exists():
        return
    if not path.is_dir():
        raise InputError(f"{str(path)!r} is a file, not a folder", where=Where("--out"))
    found = sorted(entry.name for entry in path.iterdir())
    foreign = [name for name in found if name not in OUTPUTS]
    if foreign or (found and MANIFEST not in found):
        raise InputError(
            f"{str(path)!r} is no run folder: it holds {(foreign or found)[0]!r}",
            where=Where("--out"),
            hint="choose another folder; only an earlier run is replaced",
        )


def _replace(path: Path, scratch: Path) -> None:
    """Put the scratch folder at ``path``, keeping what was there until it is."""
    if not path.exists():
        scratch.rename(path)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    path.rename(old)  # onto an empty folder, which a rename replaces
    try:
        scratch.rename(path)
    except OSError:
        old.rename(path)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
