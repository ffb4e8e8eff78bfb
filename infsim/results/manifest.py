"""Where results come from: software, inputs, environment."""

from __future__ import annotations

import platform
import subprocess
import sys
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

from infsim import __version__
from infsim.results.digests import digest_file

# Packages that take part in the numbers.
PACKAGES = ("simpy", "numpy", "scipy", "networkx", "pulp", "highspy", "pydantic", "pyarrow")


def software() -> dict[str, Any]:
    """Return the versions of infsim, of Python and of the packages that make the numbers."""
    return {
        "infsim": __version__,
        "git": git_state(Path(__file__).parent),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
    }


def environment() -> dict[str, Any]:
    """Return the machine, in words that name nobody."""
    return {
        "system": platform.system(),
        "release": platform.release(),
        "machine": platform.machine(),
        "implementation": sys.implementation.name,
        "byte_order": sys.byteorder,
    }


def git_state(folder: Path) -> dict[str, Any] | None:
    """Return the commit of the checkout that a folder is in and whether it was modified.

    None outside of a checkout, or without git.
    """
    commit = _git(folder, "rev-parse", "HEAD")
    # a package inside another project's checkout (its virtual environment) is not versioned there
    if commit is None or _git(folder, "ls-files", "--error-unmatch", "manifest.py") is None:
        return None
    changes = _git(folder, "status", "--porcelain", "--untracked-files=no")
    return {"commit": commit, "modified": bool(changes)}


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ("git", *arguments), cwd=folder, capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def inputs(paths: Iterable[Path]) -> list[dict[str, Any]]:
    """Return name, size and SHA-256 of each input file, sorted by name."""
    return [
        {"path": str(path), "bytes": path.stat().st_size, "sha256": digest_file(path)}
        for path in sorted(set(paths))
    ]
