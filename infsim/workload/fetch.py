"""Public traces: which are known, and how they come into the cache of the user."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from infsim.catalog_folder import CatalogFolder
from infsim.errors import InputError
from infsim.paths import PUBLIC, data_folder, fetched_files, fetched_folder
from infsim.workload.download import Progress, RemoteFile, download


@dataclass(frozen=True)
class PublicTrace:
    """What is known of a public trace.

    Attributes
    ----------
    name, about : str
    kind : str
        ``requests``, ``availability`` or ``network``.
    licence, source, citation : str
    urls : tuple of str
        Folders that hold the files, tried in order.
    files : tuple of RemoteFile
    """

    name: str
    about: str
    kind: str
    licence: str
    source: str
    citation: str
    urls: tuple[str, ...]
    files: tuple[RemoteFile, ...]

    @property
    def bytes(self) -> int:
        """Size of all files."""
        return sum(file.bytes or 0 for file in self.files)

    @property
    def is_here(self) -> bool:
        """Whether all files are in the cache (their checksums were right when they came)."""
        here = {path.name for path in fetched_files(self.name)}
        return all(file.name in here for file in self.files)


def known() -> tuple[PublicTrace, ...]:
    """Return all public traces that are known, by name."""
    return tuple(describe(name) for name in _catalog().names())


def describe(name: str) -> PublicTrace:
    """Return what is known of a public trace.

    Raises
    ------
    InputError
        If there is none of this name; suggests the nearest one.
    """
    catalog = _catalog()
    entry = catalog.read(name)
    files = entry.pop("files").items()
    return PublicTrace(
        name=catalog.resolve(name),
        urls=tuple(entry.pop("urls")),
        files=tuple(RemoteFile(file, part["bytes"], part["sha256"]) for file, part in files),
        **entry,
    )


def fetch(
    name: str,
    *,
    place: str | None = None,
    timeout_s: float = 30.0,
    progress: Progress | None = None,
) -> Path:
    """Fetch a public trace into the cache, if it is not there already.

    Parameters
    ----------
    name : str
    place : str, optional
        Another folder or URL that holds the files, instead of the known ones. The checksums have
        to be right all the same.
    timeout_s : float
        A server that sends nothing for so long is given up.
    progress : callable, optional
        Told the name of a file, the bytes that are here, and those of the whole file.

    Returns
    -------
    Path
        The file, or the folder if there are several.

    Raises
    ------
    InputError
        If the name is unknown, or the cache cannot be written.
    FetchError
        If the files cannot be had.
    """
    trace = describe(name)
    bases = trace.urls if place is None else (_as_url(place),)
    folder = fetched_folder(trace.name)
    paths = [
        download(
            file,
            [f"{base.rstrip('/')}/{file.name}" for base in bases],
            folder,
            timeout_s=timeout_s,
            progress=progress,
        )
        for file in trace.files
    ]
    return paths[0] if len(paths) == 1 else folder


def fetch_url(
    url: str,
    *,
    sha256: str | None = None,
    timeout_s: float = 30.0,
    progress: Progress | None = None,
) -> Path:
    """Fetch a file that infsim does not know into the cache, if it is not there already.

    Parameters
    ----------
    url : str
    sha256 : str, optional
        Checksum that the file has to have; without one, whatever the server sends is taken.
    timeout_s, progress
        As for `fetch`.

    Returns
    -------
    Path
        The file, in a folder of its own for each URL.

    Raises
    ------
    InputError
        If the URL names no file, the checksum is none, or the cache cannot be written.
    FetchError
        If the file cannot be had.
    """
    name = unquote(urlsplit(url).path.rpartition("/")[2])
    if not name or "/" in name or name.startswith("."):
        raise InputError(f"{url!r} does not end in the name of a file")
    if sha256 is not None and not re.fullmatch("[0-9a-fA-F]{64}", sha256):
        raise InputError(f"{sha256!r} is no sha256, which has 64 hexadecimal digits")
    folder = fetched_folder(f"url-{hashlib.sha256(url.encode()).hexdigest()[:12]}")
    file = RemoteFile(name, sha256=sha256.lower() if sha256 else None)
    return download(file, [url], folder, timeout_s=timeout_s, progress=progress)


def _catalog() -> CatalogFolder:
    return CatalogFolder(data_folder(PUBLIC), "public trace")


def _as_url(place: str) -> str:
    return place if "://" in place else Path(place).expanduser().resolve().as_uri()
