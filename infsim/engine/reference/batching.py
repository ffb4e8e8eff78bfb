"""What a batching policy sees."""

from __future__ import annotations

from collections.abc import Sequence as Many
from typing import TYPE_CHECKING

from infsim.engine.reference.parts import Host, Sequence
from infsim.policy.interface import PromptView
from infsim.policy.interface import Request as RequestView

if TYPE_CHECKING:
    from infsim.engine.reference.world import World


class PromptLook:
    """A prompt that waits or is unfinished.

    `hits` are the cached blocks that it would have, `found` the tokens that it left itself.
    """

    def __init__(self, sequence: Sequence, hits: int = 0, found: int = 0) -> None:
        self.sequence = sequence
        self.hits, self.found = hits, found

    @property
    def request(self) -> RequestView:
        return self.sequence.request.view

    @property
    def remaining_tokens(self) -> int:
        cached = self.hits * self.request.prefix_block_tokens + self.found
        return self.sequence.prompt - max(self.sequence.computed, cached)

    @property
    def queued_s(self) -> float:
        return self.sequence.queued_s


class BatchLook:
    """The state of an entry host at a boundary."""

    def __init__(self, world: World, host: Host, show_waiting: bool) -> None:
        self.world = world
        self.now = world.clock.now
        self.running = len(host.admitted)
        self.stages = host.stages
        self.decoding = sum(sequence.ready for sequence in host.admitted)
        self.prefilling = [PromptLook(s) for s in host.admitted if s.unfinished]
        known = [s for s in host.waiting if s.queued_s <= host.since_s]
        self.waiting = [self._look(s) for s in (known if show_waiting else [])]

    def _look(self, sequence: Sequence) -> PromptLook:
        request, hops, prompt = sequence.request, sequence.path.hops, sequence.prompt
        hits = self.world.memory.hits(request, hops, prompt)
        found = self.world.memory.found(request, hops, prompt, hits)
        return PromptLook(sequence, hits, found)

    def fits(self, admitted: Many[PromptView], prompt: PromptView) -> bool:
        known = [p for p in self.waiting if p is prompt or any(p is a for a in admitted)]
        return self.world.memory.fit([(p.sequence, p.hits) for p in known])
