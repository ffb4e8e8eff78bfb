"""The models, formats and deployments that a scenario describes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from infsim.cost.accuracy import AccuracyTable, ModelFacts
from infsim.errors import InputError, did_you_mean
from infsim.model import catalog
from infsim.model.deployment import Deployment
from infsim.model.formats import Format
from infsim.model.model import Model
from infsim.scenario.alternatives import Alternative
from infsim.scenario.build.blame import blame
from infsim.scenario.build.roster import Roster
from infsim.scenario.schema import models as schema


def build_deployments(
    alternative: Alternative, members: Roster, accuracy: AccuracyTable | None
) -> tuple[Deployment, ...]:
    """Build the deployments; without any, the scenario's model on all nodes.

    Parameters
    ----------
    alternative : Alternative
    members : Roster
        Names of the nodes.
    accuracy : AccuracyTable or None
        What models answer, and what they cost.

    Raises
    ------
    InputError
        With the place in the scenario, for unknown models, formats and nodes.
    """
    parts = alternative.spec.deployments
    if not parts:
        return (_deployment(alternative, schema.Deployment(), members, accuracy, 0, ()),)
    found = [
        _deployment(alternative, part, members, accuracy, i, ("deployments", i))
        for i, part in enumerate(parts)
    ]
    names = [deployment.name for deployment in found]
    for i, name in enumerate(names):
        if name in names[:i]:
            raise InputError(
                f"two deployments are named {name!r}",
                where=alternative.where("deployments", i),
                hint="give them a 'name'",
            )
    return tuple(found)


def _deployment(
    alternative: Alternative,
    part: schema.Deployment,
    members: Roster,
    accuracy: AccuracyTable | None,
    index: int,
    path: tuple[str | int, ...],
) -> Deployment:
    spec = alternative.spec
    own_model = () if part.model is None else path
    with blame(alternative, *own_model, "model"):
        model = build_model(part.model if part.model is not None else spec.model, accuracy)
    own_format = () if part.format is None else path
    with blame(alternative, *own_format, "format"):
        number_format = build_format(part.format if part.format is not None else spec.format)
    with blame(alternative, *path, "nodes"):
        nodes = members.select(part.nodes)
    return Deployment(
        name=part.name or f"{model.name}-{number_format.name}",
        model=model,
        format=number_format,
        nodes=nodes,
        index=index,
        demand_tokens=part.demand_tokens,
        expected_context=part.expected_context or (1024 if model.generative else 1),
    )


def build_model(
    entry: str | schema.AnyInlineModel | None, accuracy: AccuracyTable | None = None
) -> Model:
    """Return a model of the catalogue, or one written out in the scenario.

    Raises
    ------
    InputError
        If it is unknown, makes no sense, or its answers are not in the table of accuracy.
    """
    assert entry is not None  # the schema wants a model for each deployment
    if isinstance(entry, str):
        return catalog.load(entry)
    figures: dict[str, Any] = entry.model_dump(exclude={"name", "accuracy"}, exclude_unset=True)
    if entry.accuracy is not None:
        facts = _facts(entry.accuracy, accuracy)
        if isinstance(entry, schema.Monolithic):
            figures = {"parameters": facts.parameters, "macs": facts.macs} | figures
    for key in ("parameters", "macs"):
        if isinstance(entry, schema.Monolithic) and key not in figures:
            raise InputError(f"model {entry.name!r} needs {key!r}, or 'accuracy' to take it from")
    figures |= {"kind": entry.kind, "accuracy_model": entry.accuracy, "source": "the scenario"}
    return catalog.model_from_mapping(entry.name, figures)


def _facts(name: str, accuracy: AccuracyTable | None) -> ModelFacts:
    """Return what the table of accuracy knows of a model."""
    if accuracy is None:
        raise InputError(
            f"answers of {name!r} are not known, as the scenario has no table of accuracy",
            hint="accuracy: fashion-mnist",
        )
    if name not in accuracy.facts:
        raise InputError(
            f"the table of accuracy has no model {name!r}{did_you_mean(name, accuracy.facts)}",
            hint=f"it has {', '.join(accuracy.facts)}",
            key="accuracy",
        )
    return accuracy.facts[name]


def build_format(entry: str | schema.InlineFormat) -> Format:
    """Return a format of the catalogue, or one written out in the scenario."""
    if isinstance(entry, str):
        return catalog.load_format(entry)
    given = entry.model_dump(exclude={"like"}, exclude_none=True) | {"source": "the scenario"}
    if entry.like is not None:
        return replace(catalog.load_format(entry.like), **given)
    if entry.weight_bits is None:
        raise InputError(f"format {entry.name!r} needs 'weight_bits', or 'like' another format")
    return Format(**given)
