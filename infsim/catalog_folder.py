"""A catalogue: a folder of YAML files that travels with the package, one entry each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from infsim.errors import InputError, did_you_mean


class CatalogFolder:
    """Entries found by name.

    Parameters
    ----------
    folder : Path
        Holds ``<name>.yaml`` files.
    kind : str
        What an entry is called in messages, for example ``device``.
    """

    def __init__(self, folder: Path, kind: str) -> None:
        self.folder = folder
        self.kind = kind
        self._names: tuple[str, ...] | None = None

    def names(self) -> tuple[str, ...]:
        """Return the names of all entries, sorted."""
        if self._names is None:  # names are looked up thousands of times
            self._names = tuple(sorted(path.stem for path in self.folder.glob("*.yaml")))
        return self._names

    def resolve(self, name: str) -> str:
        """Return a name as the catalogue spells it: ``RTX 4090`` is ``rtx-4090``.

        Raises
        ------
        InputError
            If there is no such entry; suggests the nearest one.
        """
        plain = "-".join(name.lower().replace("_", " ").split())
        names = self.names()
        if plain not in names:
            longer = [known for known in names if known.startswith(f"{plain}-")]
            hint = f"; there are {', '.join(longer)}" if longer else did_you_mean(plain, names)
            raise InputError(f"unknown {self.kind} {name!r}{hint}")
        return plain

    def read(self, name: str) -> dict[str, Any]:
        """Return the content of an entry."""
        import yaml

        loader: type = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        with (self.folder / f"{self.resolve(name)}.yaml").open("rb") as file:
            entry: dict[str, Any] = yaml.load(file, Loader=loader)
        return entry
