"""How loaded a candidate is, in requests or in prompt tokens."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from infsim.policy.interface import ReplicaView

Measure = Literal["requests", "tokens"]


def in_requests(replica: ReplicaView) -> tuple[int, float]:
    """Return the requests at the candidate; among equals the nearer one is smaller."""
    return replica.waiting + replica.running, replica.delay_s


def in_tokens(replica: ReplicaView) -> tuple[int, int, float]:
    """Return the prompt tokens still to be computed, then as `in_requests`.

    Replicas that only decode have no such tokens, and differ in their requests.
    """
    return replica.queued_tokens, replica.waiting + replica.running, replica.delay_s


LOADS: dict[Measure, Callable[[ReplicaView], tuple[float, ...]]] = {
    "requests": in_requests,
    "tokens": in_tokens,
}
