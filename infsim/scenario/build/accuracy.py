"""The table of accuracy that a scenario names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from infsim.cost.accuracy import AccuracyTable, load_accuracy_table
from infsim.errors import InputError, did_you_mean
from infsim.model.deployment import Deployment
from infsim.paths import data_folder
from infsim.scenario.alternatives import Alternative
from infsim.scenario.build.blame import blame

FOLDER = "calibration/accuracy"
"""Where infsim keeps the tables that it ships."""


def build_accuracy(
    alternative: Alternative, deployments: Sequence[Deployment]
) -> AccuracyTable | None:
    """Read the table that answers are judged by; None without one.

    Raises
    ------
    InputError
        If it is damaged, or lacks a model that a deployment says is in it.
    """
    name = alternative.spec.accuracy
    if name is None:
        return None
    path = Path(name)
    with blame(alternative, "accuracy"):
        table = load_accuracy_table(path if path.is_absolute() else data_folder(FOLDER) / name)
    for deployment in deployments:
        row = deployment.model.accuracy_model
        if row is not None and row not in table.models:
            place = ("deployments", deployment.index) if alternative.spec.deployments else ()
            raise InputError(
                f"the table of accuracy has no model {row!r}{did_you_mean(row, table.models)}",
                where=alternative.where(*place, "model"),
                hint=f"it has {', '.join(table.models)}",
            )
    return table
