"""Continuous batching with chunked prefill."""

from __future__ import annotations

from dataclasses import dataclass
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
    """

    token_budget: int = 2048
    max_sequences: int = 256

    steady: ClassVar[bool] = True

    def __post_init__(self) -> None:
        for name in ("token_budget", "max_sequences"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")

    def plan(self, view: BatchView) -> Iteration:
        left = self.token_budget - view.decoding
        if left <= 0:
            return DECODE
        chunks: list[tuple[PromptView, int]] = []
        for prompt in view.prefilling:
            tokens = min(prompt.remaining_tokens, left)
            chunks.append((prompt, tokens))
            left -= tokens
            if not left:
                return Iteration(chunks)
        if view.waiting:
            self._admit(view, left, chunks)
        return Iteration(chunks) if chunks else DECODE

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
