"""Download a file of known size and checksum: resumed, from mirrors, never half done."""

from __future__ import annotations

import hashlib
import http.client
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from infsim.errors import FetchError, InputError

Progress = Callable[[str, int, int], None]
"""Told the name of a file, the bytes that are here, and those of the whole file (0: unknown)."""

_CHUNK = 1 << 16
_SLOWEST_BYTES_PER_S = 100.0
_TRIES = 5


@dataclass(frozen=True)
class RemoteFile:
    """A file that is somewhere else.

    Attributes
    ----------
    name : str
    bytes : int or None
        Its size, if it is known.
    sha256 : str or None
        Its checksum, in hexadecimal digits, if it is known.
    """

    name: str
    bytes: int | None = None
    sha256: str | None = None


class _RefusedError(Exception):
    """What a server sends is not the file; the message says why."""


def download(
    file: RemoteFile,
    urls: Sequence[str],
    folder: Path,
    *,
    timeout_s: float = 30.0,
    progress: Progress | None = None,
) -> Path:
    """Put a file into a folder, if it is not there already.

    It is written beside its place and moved there once its checksum is right. What a broken
    transfer has left is gone on with, by this call or a later one. Processes that want the same
    file wait for each other.

    Parameters
    ----------
    file : RemoteFile
    urls : sequence of str
        Where it may be, tried in order.
    folder : Path
    timeout_s : float
        A server that sends nothing for so long, or next to nothing, is given up.
    progress : callable, optional

    Returns
    -------
    Path
        The file.

    Raises
    ------
    FetchError
        If no server gives the file; says for each what it did.
    InputError
        If the folder cannot be written.
    """
    with _writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    target, part = folder / file.name, folder / f".{file.name}.part"
    with _alone(folder / f".{file.name}.lock"):
        if target.is_file():
            if _is_right(target, file):
                return target
            target.unlink()
        transfer = _Transfer(file, part, timeout_s, progress)
        failures = []
        for url in urls:
            try:
                transfer.complete(url)
            except _FAILURES as error:
                failures.append(f"{url}: {_reason(error)}")
                continue
            with _writing(folder):
                part.replace(target)
            transfer.forget()
            return target
    raise FetchError(
        "\n  ".join([f"could not fetch {file.name!r}:", *failures])
        + "\n  (without a network, get the file on another machine"
        + (" and use --from FOLDER" if file.bytes is not None else "")
        + "; behind a proxy, set https_proxy)"
    )


_FAILURES = (OSError, http.client.HTTPException, ValueError, _RefusedError)


def _reason(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"{error.code} {error.reason}"
    inner = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(inner, TimeoutError):
        return str(inner) if str(inner) != "timed out" else "it does not answer"
    return str(inner) or type(inner).__name__


class _Transfer:
    """What is here of a file, and how more of it comes."""

    def __init__(
        self, file: RemoteFile, part: Path, timeout_s: float, progress: Progress | None
    ) -> None:
        self.file = file
        self.part = part
        self.timeout_s = timeout_s
        self.progress = progress
        # of our own: that of the library keeps the proxies of its first use
        self._opener = urllib.request.build_opener()
        self.tag = part.with_suffix(".etag")  # the url, and its entity tag
        self.bytes = file.bytes

    def complete(self, url: str) -> None:
        """Get the rest from one server, and check the whole; what is wrong is thrown away."""
        known_url, _, tag = self._known().partition("\n")
        if self.file.sha256 is None and not (known_url == url and tag):
            self.forget()  # nothing would tell that its parts are of one file
        self.bytes = self.file.bytes
        resumed = self._have() > 0
        self._get(url)
        if _is_right(self.part, self.file):
            return
        self.forget()
        if not resumed:
            raise _RefusedError("its checksum is wrong: the file is not the one that is known")
        # the beginning came from elsewhere, and may be to blame
        self.complete(url)

    def forget(self) -> None:
        """Remove what is here of the file, and what is known about it."""
        self.part.unlink(missing_ok=True)
        self.tag.unlink(missing_ok=True)

    def _get(self, url: str) -> None:
        for _ in range(_TRIES):
            before = self._have()
            if before and before == self.bytes:
                return
            self._go_on(url, before)
            if self.bytes is None:
                # it did not say how much would come, and broke nothing off
                self.bytes = self._have()
            if self._have() <= before:
                break
        if self._have() != self.bytes:
            raise _RefusedError(f"it ended after {self._have()} of {self.bytes} bytes")

    def _have(self) -> int:
        try:
            size = self.part.stat().st_size
        except OSError:
            return 0
        if self.bytes is not None and size > self.bytes:
            self.forget()
            return 0
        return size

    def _go_on(self, url: str, have: int) -> None:
        """Ask for what is missing, and write what comes."""
        try:
            response = self._opener.open(self._request(url, have), timeout=self.timeout_s)
        except urllib.error.HTTPError as error:
            error.close()
            if error.code != http.client.REQUESTED_RANGE_NOT_SATISFIABLE or not have:
                raise
            self.forget()
            self._go_on(url, 0)
            return
        with response:
            have = self._agreed(response, have)
            self._remember(url, response.headers.get("ETag"))
            with _writing(self.part.parent):
                handle = self.part.open("ab" if have else "wb")
            with handle:
                self._write(response, handle, have)

    def _request(self, url: str, have: int) -> urllib.request.Request:
        request = urllib.request.Request(url, headers={"User-Agent": "infsim"})
        if have:
            request.add_header("Range", f"bytes={have}-")
            known_url, _, tag = self._known().partition("\n")
            # of another server, the checksum has to tell whether the parts are of one file
            if known_url == url and tag:
                request.add_header("If-Range", tag)
        return request

    def _known(self) -> str:
        try:
            return self.tag.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            return ""

    def _remember(self, url: str, tag: str | None) -> None:
        strong = tag if tag and not tag.startswith("W/") else ""
        with _writing(self.part.parent):
            self.tag.write_text(f"{url}\n{strong}", encoding="utf-8")

    def _agreed(self, response: Any, have: int) -> int:
        """Return where the answer begins; refuse one that is of another file."""
        total: str | None = response.headers.get("Content-Length")
        if response.status == http.client.PARTIAL_CONTENT:
            span, _, total = response.headers.get("Content-Range", "").partition("/")
            if not span.startswith(f"bytes {have}-"):
                raise _RefusedError(f"it answers with another part than asked for: {span!r}")
        else:
            have = 0  # the server cannot go on, or its file has changed
        if total and total.isdigit():
            if self.file.bytes not in (None, int(total)):
                raise _RefusedError(f"its file has {total} bytes instead of {self.file.bytes}")
            self.bytes = int(total)
        return have

    def _write(self, response: Any, handle: IO[bytes], have: int) -> None:
        since, got = time.monotonic(), 0
        while True:
            chunk = response.read1(_CHUNK)
            if not chunk:
                return
            have += len(chunk)
            got += len(chunk)
            if self.bytes is not None and have > self.bytes:
                handle.close()
                self.forget()
                raise _RefusedError(f"it sends more than {self.bytes} bytes")
            with _writing(self.part.parent):
                handle.write(chunk)
            if self.progress is not None:
                self.progress(self.file.name, have, self.bytes or 0)
            passed_s = time.monotonic() - since
            if passed_s > self.timeout_s:
                if got < _SLOWEST_BYTES_PER_S * passed_s:
                    raise TimeoutError(f"only {got} bytes came in {passed_s:.0f} s")
                since, got = time.monotonic(), 0


def _is_right(path: Path, file: RemoteFile) -> bool:
    """Whether a file is the one that is known, as far as it is known."""
    if file.bytes not in (None, path.stat().st_size):
        return False
    return file.sha256 in (None, sha256_of(path))


def sha256_of(path: Path) -> str:
    """Return the checksum of a file, in hexadecimal digits."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """Tell a disk that cannot be written from a network that fails."""
    try:
        yield
    except OSError as error:
        raise InputError(
            f"cannot write to the cache {str(folder)!r}: {error.strerror or error}",
            hint="set INFSIM_CACHE to a folder that can be written",
        ) from None


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """Wait until no other process holds the lock; it ends with its process."""
    with _writing(lock.parent):
        handle = lock.open("a")
    with handle:
        with _writing(lock.parent):
            if sys.platform == "win32":
                import msvcrt

                msvcrt.locking(handle.fileno(), msvcrt.LK_LOCK, 1)
            else:
                import fcntl

                fcntl.flock(handle, fcntl.LOCK_EX)
        yield
