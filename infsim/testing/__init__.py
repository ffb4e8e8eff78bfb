"""Conformance kits for policies, a user's own included."""

from infsim.testing.conformance import (
    check_batching,
    check_delivery,
    check_placement,
    check_policy,
    check_recovery,
    check_routing,
)

__all__ = [
    "check_batching",
    "check_delivery",
    "check_placement",
    "check_policy",
    "check_recovery",
    "check_routing",
]
