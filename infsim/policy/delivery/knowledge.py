"""What delivery policies know of deployments beyond their load."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

from infsim.errors import did_you_mean
from infsim.policy.interface import DeliveryView, DeploymentView

if TYPE_CHECKING:
    from infsim.cost.accuracy import AccuracyTable


def by_name(name: str, deployments: Sequence[DeploymentView]) -> DeploymentView:
    """Return the deployment of this name; raises ValueError, with the nearest name, if none."""
    for deployment in deployments:
        if deployment.name == name:
            return deployment
    known = [deployment.name for deployment in deployments]
    raise ValueError(f"there is no deployment {name!r}{did_you_mean(name, known)}")


def here_or_anywhere(view: DeliveryView) -> Sequence[DeploymentView]:
    """Return the deployments of this node that are up; else all that are up; else all."""
    up = [deployment for deployment in view.deployments if deployment.up]
    return [d for d in up if d.node == view.here] or up or view.deployments


def accuracy(deployment: DeploymentView, view: DeliveryView) -> float:
    """Return how often it was right on the validation split; 0 if that is not known."""
    if view.accuracy is None or deployment.accuracy_model is None:
        return 0.0
    return _accuracy(view.accuracy, deployment.accuracy_model)


@lru_cache(maxsize=256)
def _accuracy(table: AccuracyTable, model: str) -> float:
    return table.accuracy(model)


def answer_s(deployment: DeploymentView, view: DeliveryView) -> float:
    """Return the estimated time until its answer is here: delay both ways, queue, service."""
    return 2 * view.delay_s(deployment.node) + deployment.queue_s + deployment.service_s
