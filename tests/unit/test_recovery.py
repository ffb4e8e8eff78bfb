"""What each recovery policy answers, and what comes of its limit in the engine."""

from dataclasses import replace

import pytest

from infsim.engine.simulation import simulate
from infsim.policy.interface import Action, Loss, Recovery
from infsim.policy.recovery.replay import Replay
from infsim.policy.recovery.restart import Restart
from infsim.results.recorder import Status
from infsim.testing.experiments import replicas
from infsim.testing.views import request


def loss(attempts: int) -> Loss:
    return Loss(request(), now=1.0, attempts=attempts, generated_tokens=7, lost_nodes=(0,))


@pytest.mark.parametrize(("policy", "action"), [(Restart, Action.RESTART), (Replay, Action.REPLAY)])
def test_actions(policy: type[Restart] | type[Replay], action: Action) -> None:
    assert policy().recover(loss(9)) is action
    limited = policy(max_losses=2)
    assert [limited.recover(loss(k)) for k in (1, 2, 3)] == [action, action, Action.FAIL]


@pytest.mark.parametrize("max_losses", [0, 2])
@pytest.mark.parametrize("policy", [Restart, Replay])
def test_losses_are_limited(policy: type[Restart] | type[Replay], max_losses: int) -> None:
    recovery: Recovery = policy(max_losses=max_losses)
    rows = simulate(replace(replicas(volatile=True), recovery=recovery)).requests
    failed = rows["status"] == Status.FAILED
    assert failed.any()
    assert (rows["attempts"][failed] == 1 + max_losses).all()
    assert rows["attempts"].max() == 1 + max_losses


def test_a_limit_must_make_sense() -> None:
    for policy in (Restart, Replay):
        with pytest.raises(ValueError, match="max_losses must not be negative, got -1"):
            policy(max_losses=-1)
