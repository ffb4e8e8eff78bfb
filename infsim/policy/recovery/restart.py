"""Start again from nothing."""

from __future__ import annotations

from dataclasses import dataclass

from infsim.policy.interface import Action, Loss, Recovery
from infsim.registry import register


@register("recovery", "restart")
@dataclass
class Restart(Recovery):
    """Forget the tokens made so far and serve the request anew, somewhere.

    Attributes
    ----------
    max_losses : int or None
        A request that lost its work more often fails; ``None`` leaves the limit to the engine.
    """

    max_losses: int | None = None

    def __post_init__(self) -> None:
        if self.max_losses is not None and self.max_losses < 0:
            raise ValueError(f"max_losses must not be negative, got {self.max_losses}")

    def recover(self, loss: Loss) -> Action:
        if self.max_losses is not None and loss.attempts > self.max_losses:
            return Action.FAIL
        return Action.RESTART
