"""How sure a model is of an answer, and whether it is right: looked up for the sample."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from infsim.engine.experiment import Experiment


@dataclass(frozen=True)
class Judged:
    """What the table of accuracy says of one model's answer to one sample."""

    confidence: float
    prediction: int
    correct: bool


def judged(experiment: Experiment, deployment: int, sample: int) -> Judged | None:
    """Look an answer up; None without a table, a row of the model in it, or a sample."""
    table = experiment.accuracy
    model = experiment.deployments[deployment].model.accuracy_model
    if table is None or model is None or sample < 0:
        return None
    return Judged(
        float(table.confidence[model][sample]),
        int(table.prediction[model][sample]),
        bool(table.correct[model][sample]),
    )
