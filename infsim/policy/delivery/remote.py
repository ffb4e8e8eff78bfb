"""Serve at one place, wherever requests come from."""

from __future__ import annotations

from dataclasses import dataclass

from infsim.policy.delivery.knowledge import accuracy, answer_s, by_name
from infsim.policy.interface import Delivery, DeliveryView, Request, Serve
from infsim.registry import register


@register("delivery", "remote")
@dataclass
class Remote(Delivery):
    """Send every request to the same deployment, up or down: the cloud-only baseline.

    Attributes
    ----------
    deployment : str or None
        Its name; ``None`` takes the most accurate one, and the fastest of equally accurate ones.
    """

    deployment: str | None = None

    def decide(self, request: Request, view: DeliveryView) -> Serve:
        if self.deployment is not None:
            return Serve(by_name(self.deployment, view.deployments).index)
        if len(view.deployments) > 1 and view.accuracy is None:
            raise ValueError(
                "name the deployment: without a table of accuracy none is the most accurate"
            )
        best = max(view.deployments, key=lambda d: (accuracy(d, view), -answer_s(d, view)))
        return Serve(best.index)
