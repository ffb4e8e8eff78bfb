"""The table of accuracy that a scenario names."""

from __future__ import annotations

from pathlib import Path

from infsim.cost.accuracy import AccuracyTable, load_accuracy_table
from infsim.paths import data_folder
from infsim.scenario.alternatives import Alternative
from infsim.scenario.build.blame import blame

FOLDER = "calibration/accuracy"
"""Where infsim keeps the tables that it ships."""


def build_accuracy(alternative: Alternative) -> AccuracyTable | None:
    """Read the table that answers are judged by (its test split); None without one.

    Raises
    ------
    InputError
        If it is damaged.
    """
    name = alternative.spec.accuracy
    if name is None:
        return None
    path = Path(name)
    with blame(alternative, "accuracy"):
        return load_accuracy_table(path if path.is_absolute() else data_folder(FOLDER) / name)
