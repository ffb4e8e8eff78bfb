"""Data-parallel engines: several of their own, or ranks in step that share experts.

Engines of a dense model have nothing to do with each other but the balancer that divides the
requests among them. Engines of a mixture of experts keep in step: in every layer the tokens of all
ranks meet the experts, which are divided among them, so that an iteration lasts as long as that of
the rank with most to do. They are simulated as one engine with the sequences of all: requests go
to the rank with fewest, so that each has its share, and prompts are on one rank each.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

from infsim.cost.costs import Costs
from infsim.cost.interface import StepCost
from infsim.model.deployment import Deployment
from infsim.policy.interface import ReplicaView, Request, Router, RoutingView

WAITING = 4
"""Weight of a waiting request against a running one, in vLLM's balancer."""


class Balancer(Router):
    """Send to the engine with least to do, as vLLM's own data-parallel balancer does.

    vLLM 0.9 to 0.28, ``vllm/v1/engine/core_client.py``: the least of four times the waiting plus
    the running requests, the first of equals.
    """

    def route(self, request: Request, view: RoutingView) -> ReplicaView:  # noqa: ARG002
        return min(view.replicas, key=lambda r: WAITING * r.waiting + r.running)


class RankCosts(Costs):
    """Costs of a cluster in which data-parallel ranks are one engine with the batches of all."""

    def step(self, node: int, deployment: Deployment, operators: Sequence[int]) -> StepCost:
        cost = super().step(node, deployment, operators)
        ranks = self.cluster.nodes[node].data_parallel
        return cost if ranks == 1 else RankStepCost(cost, ranks)


class RankStepCost(StepCost):
    """Time of an iteration of all ranks: of the one with most to do.

    Decodes are divided evenly. Whole prompts go to one rank each: how many there are follows from
    their tokens and query-key pairs, as those of one chunk without a prefix are half its square.

    Parameters
    ----------
    cost : StepCost
        Of a rank, while the others have as much to do.
    ranks : int
    """

    def __init__(self, cost: StepCost, ranks: int) -> None:
        self._cost = cost
        self._ranks = ranks
        self.calibrated, self.source = cost.calibrated, cost.source

    def step_s(
        self,
        prefill_tokens: int,
        prefill_pairs: float,
        prefill_context: float,
        decode_sequences: int,
        decode_context: float,
        sequences: int,
    ) -> float:
        share = 1.0
        if prefill_tokens:
            prompts = max(round(prefill_tokens**2 / (2 * prefill_pairs)), 1)
            share = ceil(prompts / self._ranks) / prompts
        decodes = ceil(decode_sequences / self._ranks)
        return self._cost.step_s(
            ceil(prefill_tokens * share),
            prefill_pairs * share,
            prefill_context * share,
            decodes,
            decode_context / self._ranks,
            decodes + ceil((sequences - decode_sequences) * share),
        )

    def decode_line(self, sequences: int, context: float) -> tuple[float, float, float]:
        ranks = self._ranks
        base_s, slope_s, limit = self._cost.decode_line(ceil(sequences / ranks), context / ranks)
        return base_s, slope_s / ranks, limit * ranks
