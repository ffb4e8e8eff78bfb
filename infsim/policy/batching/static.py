"""Static batching."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import ClassVar

from infsim.policy.interface import Batching, BatchView, Iteration, PromptView
from infsim.registry import register


@register("batching", "static")
@dataclass
class Static(Batching):
    """Form a batch, compute its prompts, decode until all have finished, form the next one.

    What model servers did before continuous batching: a batch starts when ``batch_size``
    requests wait, or when the first of them has waited ``max_wait_s``; places that become free
    meanwhile stay empty.

    Attributes
    ----------
    batch_size : int
        Most requests in a batch; fewer if their KV cache does not fit.
    max_wait_s : float
        How long the first request waits for others, in seconds.
    token_budget : int
        Tokens that a stage further down the pipeline merges into one iteration.
    """

    batch_size: int = 8
    max_wait_s: float = 0.1
    token_budget: int = 2048

    steady: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {self.batch_size}")
        if not self.max_wait_s >= 0:
            raise ValueError(f"max_wait_s must not be negative, got {self.max_wait_s}")

    def plan(self, view: BatchView) -> Iteration:
        if view.running or not view.waiting:
            if not view.prefilling:
                return Iteration()
            unfinished = [(prompt, prompt.remaining_tokens) for prompt in view.prefilling]
            return Iteration(unfinished, decode=False)
        due_s = view.waiting[0].queued_s + self.max_wait_s
        # a clock that was advanced to due_s may be a rounding error short of it
        if len(view.waiting) < self.batch_size and due_s - view.now > 1e-9 * self.max_wait_s:
            return Iteration(wake_s=due_s)
        return Iteration([(prompt, prompt.remaining_tokens) for prompt in self._batch(view)])

    def _batch(self, view: BatchView) -> list[PromptView]:
        batch: list[PromptView] = []
        for prompt in islice(view.waiting, self.batch_size):
            if not view.fits(batch, prompt):
                break
            batch.append(prompt)
        return batch
