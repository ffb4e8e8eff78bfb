"""Serve where the request is."""

from __future__ import annotations

from dataclasses import dataclass

from infsim.policy.delivery.knowledge import here_or_anywhere
from infsim.policy.interface import Delivery, DeliveryView, Request, Serve
from infsim.registry import register


@register("delivery", "local")
@dataclass
class Local(Delivery):
    """Serve with the deployment of the node where the request is, and accept its answer.

    Where there is none, or it is down, the first deployment that is up serves. With a single
    deployment, this is plain serving.
    """

    def decide(self, request: Request, view: DeliveryView) -> Serve:
        deployments = view.deployments
        if len(deployments) == 1:
            return Serve(deployments[0].index)
        return Serve(here_or_anywhere(view)[0].index)
