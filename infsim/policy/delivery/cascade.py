"""Ask better and better models until one is sure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from infsim.policy.delivery.knowledge import accuracy, answer_s, by_name
from infsim.policy.interface import (
    Accept,
    Answer,
    Delivery,
    DeliveryView,
    DeploymentView,
    Request,
    Serve,
)
from infsim.registry import register


@register("delivery", "cascade")
@dataclass
class Cascade(Delivery):
    """Walk up a ladder of deployments and stop at the first confident answer.

    As in cascades of classifiers (Viola and Jones, CVPR 2001) and of language models (Chen et
    al., "FrugalGPT", 2023). The last answer stands, however sure it is.

    Attributes
    ----------
    threshold : float
        Confidence from which on an answer is accepted.
    ladder : sequence of str
        Names of deployments, from the first to the last that is asked. Without it, models are
        asked in order of their accuracy on the validation split, each at the deployment that
        would answer soonest.
    """

    threshold: float = 0.8
    ladder: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not 0 <= self.threshold <= 1:
            raise ValueError(f"threshold must be in [0, 1], got {self.threshold}")

    def decide(self, request: Request, view: DeliveryView) -> Serve:
        rungs = self._rungs(view)
        usable = [deployment for deployment in rungs if deployment.up] or rungs
        return Serve(usable[0].index)

    def review(self, request: Request, answer: Answer, view: DeliveryView) -> Accept | Serve:
        if answer.confidence is None or answer.confidence >= self.threshold:
            return Accept()
        for deployment in self._above(answer, view):
            if deployment.up:
                return Serve(deployment.index)
        return Accept()

    def _rungs(self, view: DeliveryView) -> Sequence[DeploymentView]:
        """Return a deployment for each rung, from the lowest to the highest."""
        if self.ladder:
            return [by_name(name, view.deployments) for name in self.ladder]
        soonest: dict[str, DeploymentView] = {}
        for deployment in sorted(view.deployments, key=lambda d: (not d.up, answer_s(d, view))):
            soonest.setdefault(_model(deployment), deployment)
        return sorted(soonest.values(), key=lambda d: (accuracy(d, view), d.index))

    def _above(self, answer: Answer, view: DeliveryView) -> Sequence[DeploymentView]:
        rungs = self._rungs(view)
        last = view.deployments[answer.deployment]
        if self.ladder:
            return rungs[self.ladder.index(last.name) + 1 :]
        at = [_model(deployment) for deployment in rungs].index(_model(last))
        return rungs[at + 1 :]


def _model(deployment: DeploymentView) -> str:
    """Return what makes two deployments answer the same."""
    return deployment.accuracy_model or deployment.name
