"""Continuous batching with chunked prefill."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import ClassVar

from infsim.policy.interface import Batching, BatchView, Iteration, PromptView
from infsim.registry import register

DECODE = Iteration()


@register("batching", "continuous")
@dataclass
class Continuous(Batching):
    """Fill every iteration up to a budget of tokens: decodes first, then pieces of prompts.

    Iteration-level scheduling (Orca, Yu et al., OSDI'22) with chunked prefill (Sarathi-Serve,
    Agrawal et al., OSDI'24), as vLLM does it: unfinished prompts are continued in order of
    admission, then waiting prompts are admitted in order of arrival while they fit. A prompt
    that does not fit holds up those behind it, so that none starves.

    Attributes
    ----------
    token_budget : int
        Tokens of one iteration.
    max_sequences : int
        Requests admitted at one time.
    micro_batches : int or None
        Batches that the sequences of a pipeline are spread over, so that its stages work at the
        same time instead of waiting for one batch to go round (GPipe, Huang et al., NeurIPS'19);
        as many as the pipeline has stages by default, 1 to let all decode together.
    """

    token_budget: int = 2048
    max_sequences: int = 256
    micro_batches: int | None = None

    steady: ClassVar[bool] = True

    def __post_init__(self) -> None:
        for name in ("token_budget", "max_sequences", "micro_batches"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")

    def plan(self, view: BatchView) -> Iteration:
        if view.stages == 1:
            chunks = self._prompts(view, self.token_budget - view.decoding)
            return Iteration(chunks) if chunks else DECODE
        limit = ceil(view.running / (self.micro_batches or view.stages))
        chunks = self._prompts(view, self.token_budget - min(limit, view.decoding))
        return Iteration(chunks, decode_limit=limit)

    def _prompts(self, view: BatchView, left: int) -> list[tuple[PromptView, int]]:
        """Fill up with pieces of prompts."""
        chunks: list[tuple[PromptView, int]] = []
        if left <= 0:
            return chunks
        for prompt in view.prefilling:
            tokens = min(prompt.remaining_tokens, left)
            chunks.append((prompt, tokens))
            left -= tokens
            if not left:
                return chunks
        if view.waiting:
            self._admit(view, left, chunks)
        return chunks

    def _admit(self, view: BatchView, left: int, chunks: list[tuple[PromptView, int]]) -> None:
        """Add waiting prompts in order while tokens, sequences and memory last."""
        places = self.max_sequences - view.running
        admitted: list[PromptView] = []
        for prompt in view.waiting:
            if not left or len(admitted) >= places or not view.fits(admitted, prompt):
                return
            tokens = min(prompt.remaining_tokens, left)
            chunks.append((prompt, tokens))
            admitted.append(prompt)
            left -= tokens
