"""Where the data that come with infsim are: ``scenarios``, ``traces``, ``calibration``."""

from __future__ import annotations

from pathlib import Path

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
