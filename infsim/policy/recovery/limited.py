"""What recoveries share: a limit on how often a request may lose its work."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from infsim.policy.interface import Action, Loss, Recovery


@dataclass
class LimitedRecovery(Recovery):
    """The same action for every loss, until a request has lost its work too often.

    Attributes
    ----------
    max_losses : int or None
        A request that lost its work more often fails; ``None`` leaves the limit to the engine.
    """

    max_losses: int | None = None

    action: ClassVar[Action]

    def __post_init__(self) -> None:
        if self.max_losses is not None and self.max_losses < 0:
            raise ValueError(f"max_losses must not be negative, got {self.max_losses}")

    def recover(self, loss: Loss) -> Action:
        if self.max_losses is not None and loss.attempts > self.max_losses:
            return Action.FAIL
        return self.action
