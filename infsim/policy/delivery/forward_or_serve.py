"""Serve locally, and forward what the local model is not sure of."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from infsim.policy.delivery.knowledge import accuracy, answer_s, here_or_anywhere
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

if TYPE_CHECKING:
    from infsim.cost.accuracy import AccuracyTable


@register("delivery", "forward-or-serve")
@dataclass
class ForwardOrServe(Delivery):
    """Serve locally; forward if the confidence is low and the expected gain is worth its cost.

    Cost and accuracy are weighed as in INFIDA (Si Salem et al., IEEE/ACM ToN 2024): an answer
    costs its delays plus ``error_cost_s`` times the probability that it is wrong. An answer
    below the threshold is replaced by that of the deployment for which the expected gain in
    accuracy, given the confidence, most outweighs delay (both ways), queue, service and
    ``offload_cost_s``; if there is none, the answer stands. What is expected was learnt on
    the validation split, jointly for each pair of models: what the local model is unsure of is
    hard for the others as well.

    A request that is not at a deployment goes to the one of least cost, by mean accuracy.

    Attributes
    ----------
    error_cost_s : float
        The price of a wrong answer, in seconds (alpha of INFIDA).
    offload_cost_s : float
        The price of forwarding, in seconds, besides the time that it takes.
    threshold : float or "auto"
        Answers of at least this confidence are accepted; 1 leaves it to the gain alone. "auto"
        takes the best threshold on the validation split, for each pair of deployments, when
        queues are empty.
    """

    error_cost_s: float = 1.0
    offload_cost_s: float = 0.0
    threshold: float | Literal["auto"] = "auto"
    _tuned: dict[tuple[str, str, float], float] = field(
        default_factory=dict, init=False, repr=False
    )

    def __post_init__(self) -> None:
        if not self.error_cost_s > 0:
            raise ValueError(f"error_cost_s must be positive, got {self.error_cost_s}")
        if not self.offload_cost_s >= 0:
            raise ValueError(f"offload_cost_s must not be negative, got {self.offload_cost_s}")
        if self.threshold != "auto" and not 0 <= self.threshold <= 1:
            raise ValueError(f"threshold must be 'auto' or in [0, 1], got {self.threshold}")

    def decide(self, request: Request, view: DeliveryView) -> Serve:
        candidates = here_or_anywhere(view)
        if len(candidates) == 1:
            return Serve(candidates[0].index)

        def cost_s(deployment: DeploymentView) -> float:
            error = 1 - accuracy(deployment, view)
            return answer_s(deployment, view) + self.error_cost_s * error

        return Serve(min(candidates, key=cost_s).index)

    def review(self, request: Request, answer: Answer, view: DeliveryView) -> Accept | Serve:
        table = view.accuracy
        local = view.deployments[answer.deployment].accuracy_model
        if table is None or local is None or answer.confidence is None:
            return Accept()
        asked = {earlier.deployment for earlier in view.answers}
        best: tuple[float, Accept | Serve] = (0.0, Accept())
        for remote in view.deployments:
            model = remote.accuracy_model
            if model is None or remote.index in asked or not remote.up:
                continue
            gain = table.expected_gain(local, model, answer.confidence)
            cost_s = answer_s(remote, view) + self.offload_cost_s
            surplus_s = self.error_cost_s * gain - cost_s
            if surplus_s > best[0] and answer.confidence < self._limit(table, local, remote, view):
                best = surplus_s, Serve(remote.index)
        return best[1]

    def _limit(
        self, table: AccuracyTable, local: str, remote: DeploymentView, view: DeliveryView
    ) -> float:
        """Return the confidence from which on the answer of ``local`` is accepted."""
        if self.threshold != "auto":
            return self.threshold
        model = str(remote.accuracy_model)
        time_s = 2 * view.delay_s(remote.node) + remote.service_s + self.offload_cost_s
        key = (local, model, time_s / self.error_cost_s)
        if key not in self._tuned:
            self._tuned[key] = table.best_threshold(*key)
        return self._tuned[key]
