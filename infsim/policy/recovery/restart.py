"""Start again from nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from infsim.policy.interface import Action
from infsim.policy.recovery.limited import LimitedRecovery
from infsim.registry import register


@register("recovery", "restart")
@dataclass
class Restart(LimitedRecovery):
    """Forget the tokens made so far and serve the request anew, somewhere.

    Attributes
    ----------
    max_losses : int or None
        A request that lost its work more often fails; ``None`` leaves the limit to the engine.
    """

    action: ClassVar[Action] = Action.RESTART
