"""Errors of the rooms below get the place in the scenario that caused them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from infsim.errors import InputError
from infsim.scenario.alternatives import Alternative


@contextmanager
def blame(alternative: Alternative, *path: str | int) -> Iterator[None]:
    """Give errors without a place of their own the place of this value.

    Parameters
    ----------
    alternative : Alternative
    *path : str or int
        Path of the value; if the error names an entry below it (its ``key``), that one is blamed.
    """
    try:
        yield
    except InputError as error:
        if error.where is not None:
            raise
        inner = path if error.key is None else (*path, error.key)
        raise error.at(alternative.document.where(inner, key=error.key is not None)) from error
