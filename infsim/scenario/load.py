"""Reading scenarios."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from infsim.errors import InputError, Where
from infsim.paths import data_file
from infsim.scenario.document import Document
from infsim.scenario.override import override
from infsim.scenario.scenario import Scenario
from infsim.scenario.yaml import parse

SUFFIXES = (".yaml", ".yml")


def load(
    source: str | Path | Mapping[str, Any] | Scenario,
    *,
    set: Iterable[str] = (),  # noqa: A002 - the name of the option of the command line
    seed: int | None = None,
    replications: int | None = None,
) -> Scenario:
    """Read and check a scenario.

    Parameters
    ----------
    source : str, Path, mapping or Scenario
        A YAML file, the bare name of a scenario that infsim ships, or its content.
    set : iterable of str
        Overrides ``dotted.path=value``, applied in order.
    seed, replications : int, optional
        Override those of the scenario.

    Returns
    -------
    Scenario

    Raises
    ------
    InputError
        With file, line and column of the first problem, and the nearest valid word.

    Examples
    --------
    >>> load("quickstart", set=["engine.horizon=1 min"], seed=7)  # doctest: +SKIP
    """
    document = _document(source)
    texts = [*set]
    texts += [] if seed is None else [f"seed={seed}"]
    texts += [] if replications is None else [f"replications={replications}"]
    for text in texts:
        document = override(document, text)
    return Scenario.from_document(document)


def _document(source: str | Path | Mapping[str, Any] | Scenario) -> Document:
    if isinstance(source, Scenario):
        return source.document
    if isinstance(source, Mapping):
        return Document(dict(source), {}, "<mapping>", Path())
    path = _find(source)
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"not UTF-8 text: {error.reason}", where=Where(str(source))) from error
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", where=Where(str(source))) from error
    value, places = parse(text, str(path if isinstance(source, Path) else source))
    if value is None:
        raise InputError("the scenario is empty", where=Where(str(source)))
    return Document(value, places, str(source), path.parent)


def _find(source: str | Path) -> Path:
    path = Path(source)
    if path.exists():
        return path
    return data_file("scenarios", str(source), SUFFIXES)
