"""Round robin in proportion to weights, as evenly spread as can be."""

from __future__ import annotations

from collections.abc import Sequence


class SmoothRoundRobin:
    """Interleaved weighted round robin.

    At each turn every candidate earns its weight, and the richest is chosen and pays the sum of
    all weights; over a whole cycle each is chosen as often as its weight says, and a heavy one
    does not come in bursts (nginx 1.3.1, "smooth weighted round-robin", Dounin 2012). Helix (Mei
    et al., ASPLOS'25) routes requests so, with the flows of its layout as weights.

    Parameters
    ----------
    weights : sequence of float
        Non-negative, not all zero.
    """

    def __init__(self, weights: Sequence[float]) -> None:
        if min(weights, default=-1.0) < 0 or not any(weights):
            raise ValueError("weights must be non-negative and not all zero")
        self.weights = [float(weight) for weight in weights]
        self._total = sum(self.weights)
        self._credit = [0.0] * len(self.weights)

    def next(self) -> int:
        """Return the index of the next candidate (the first among equals)."""
        credit = self._credit
        for i, weight in enumerate(self.weights):
            credit[i] += weight
        chosen = max(range(len(credit)), key=credit.__getitem__)
        credit[chosen] -= self._total
        return chosen
