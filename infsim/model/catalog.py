"""The catalogue of models and formats, and models written out as plain data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from infsim.catalog_folder import CatalogFolder
from infsim.errors import InputError, did_you_mean
from infsim.model.architecture import Architecture
from infsim.model.formats import Format
from infsim.model.graph import Operator, chain, graph_from_mapping
from infsim.model.model import Model
from infsim.paths import data_folder

MODELS = CatalogFolder(Path(__file__).parent / "catalog" / "models", "model")
FORMATS = CatalogFolder(Path(__file__).parent / "catalog" / "formats", "format")


def names() -> tuple[str, ...]:
    """Return the names of all models of the catalogue and of the tables of accuracy."""
    return (*MODELS.names(), *sorted(_measured_models()))


def load(name: str) -> Model:
    """Return a model of the catalogue, or one whose answers were measured.

    Parameters
    ----------
    name : str
        As in `names`; case, spaces and underscores do not matter. ``fashion-mnist/cnn`` is the
        model ``cnn`` of the table ``calibration/accuracy/fashion-mnist``, with its parameters
        and multiply-accumulates, and its row of the table as `Model.accuracy_model`.

    Raises
    ------
    InputError
        If there is no such model; suggests the nearest one.
    """
    if "/" not in name:
        return model_from_mapping(MODELS.resolve(name), MODELS.read(name))
    measured = _measured_models()
    if name not in measured:
        raise InputError(f"unknown model {name!r}{did_you_mean(name, measured)}")
    return model_from_mapping(name, measured[name])


def load_architecture(name: str) -> Architecture:
    """Return the architecture of a transformer of the catalogue."""
    figures = MODELS.read(name)
    if figures["kind"] != "transformer":
        raise InputError(f"model {name!r} is not a transformer, but {figures['kind']}")
    return _architecture(MODELS.resolve(name), figures)


@cache
def load_format(name: str) -> Format:
    """Return a number format of the catalogue; an unknown name is an `InputError`.

    Read once: pricing a model asks for the formats of all measured kernels again and again.
    """
    return Format(name=FORMATS.resolve(name), **FORMATS.read(name))


def model_from_mapping(name: str, figures: Mapping[str, Any]) -> Model:
    """Build a model from plain data.

    Parameters
    ----------
    name : str
    figures : mapping
        ``kind`` is ``transformer`` (further keys are fields of `Architecture`),
        ``monolithic`` (``parameters``, ``macs``, ``output_values``; one pass per request) or
        ``graph`` (``operators``, ``edges`` as in `graph_from_mapping`, ``generative``,
        ``max_context``). All take ``accuracy_model`` and ``source``.

    Raises
    ------
    InputError
        For an unknown kind or figures that make no model.
    """
    kind = str(figures.get("kind"))
    if kind not in _BUILDERS:
        raise InputError(f"model {name!r}: unknown kind {kind!r}{did_you_mean(kind, _BUILDERS)}")
    try:
        return _BUILDERS[kind](name, figures)
    except (KeyError, TypeError) as error:
        raise InputError(f"model {name!r}: {error}") from error


def _measured_models() -> dict[str, dict[str, Any]]:
    """Models of the tables of accuracy, by ``table/model``."""
    import yaml

    loader: type = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    found = {}
    for path in data_folder("calibration").glob("accuracy/*/meta.yaml"):
        meta = yaml.load(path.read_bytes(), Loader=loader)
        for model, facts in meta["models"].items():
            found[f"{path.parent.name}/{model}"] = {
                "kind": "monolithic",
                "parameters": facts["parameters"],
                "macs": facts["macs"],
                "accuracy_model": model,
                "source": f"measured, {path.parent.name}/meta.yaml",
            }
    return found


def _architecture(name: str, figures: Mapping[str, Any]) -> Architecture:
    skipped = ("kind", "accuracy_model")
    return Architecture(name=name, **{k: v for k, v in figures.items() if k not in skipped})


def _transformer(name: str, figures: Mapping[str, Any]) -> Model:
    architecture = _architecture(name, figures)
    return Model(
        name=name,
        graph=architecture.graph(),
        max_context=architecture.max_context,
        accuracy_model=figures.get("accuracy_model"),
        source=architecture.source,
    )


def _monolithic(name: str, figures: Mapping[str, Any]) -> Model:
    operator = Operator(
        name=name,
        parameters=figures["parameters"],
        macs_per_token=figures["macs"],
        output_values=figures.get("output_values", 1),
    )
    return Model(
        name=name,
        graph=chain([operator]),
        generative=False,
        accuracy_model=figures.get("accuracy_model"),
        source=figures.get("source", "unspecified"),
    )


def _graph(name: str, figures: Mapping[str, Any]) -> Model:
    return Model(
        name=name,
        graph=graph_from_mapping(figures["operators"], figures.get("edges", ())),
        generative=figures.get("generative", False),
        max_context=figures.get("max_context"),
        accuracy_model=figures.get("accuracy_model"),
        source=figures.get("source", "unspecified"),
    )


_BUILDERS: Mapping[str, Callable[[str, Mapping[str, Any]], Model]] = {
    "transformer": _transformer,
    "monolithic": _monolithic,
    "graph": _graph,
}
