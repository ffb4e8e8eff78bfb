"""Compute again only what was lost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from infsim.policy.interface import Action
from infsim.policy.recovery.limited import LimitedRecovery
from infsim.registry import register


@register("recovery", "replay")
@dataclass
class Replay(LimitedRecovery):
    """Keep the tokens made so far and compute their KV again where it was lost.

    In a mesh only the lost hops are given to other hosts, to which the client sends the
    activations it has kept (Petals; Borzunov et al., NeurIPS'23); a dedicated replica computes
    prompt and tokens as one long prompt.

    Attributes
    ----------
    max_losses : int or None
        A request that lost its work more often fails; ``None`` leaves the limit to the engine.
    """

    action: ClassVar[Action] = Action.REPLAY
