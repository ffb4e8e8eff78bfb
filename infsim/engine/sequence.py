"""What the engine keeps of a request: its ticket, its sequences, the batches they travel in."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING

from infsim.policy.interface import Answer, Request

if TYPE_CHECKING:
    from infsim.engine.paths import Path
    from infsim.engine.views import Load

TRAVELLING, WAITING, RUNNING, DEAD = range(4)
"""States of a sequence: on its way to the entry, in its queue, admitted, ended or lost."""


class Ticket:
    """A request from arrival to end, with everything that is recorded of it."""

    __slots__ = (
        "answers",
        "attempts",
        "cached_tokens",
        "client",
        "decisions",
        "deployment",
        "first_token_s",
        "forwards",
        "generated",
        "here",
        "output_tokens",
        "preemptions",
        "recoveries",
        "replica",
        "request",
        "start_s",
        "wasted",
    )

    def __init__(self, request: Request, output_tokens: int, client: int, here: int) -> None:
        self.request = request
        self.output_tokens = output_tokens
        self.client = client  # endpoint of the client
        self.here = here  # endpoint where the request is
        self.generated = 0
        self.start_s = self.first_token_s = float("nan")
        self.deployment = self.replica = -1
        self.cached_tokens = self.preemptions = self.attempts = 0
        self.forwards = self.decisions = self.recoveries = 0
        self.wasted = 0.0
        self.answers: list[Answer] = []


class Sequence:
    """One attempt of a request on one path; a batching policy sees it as a `PromptView`.

    The underscored attributes know the hidden output length, and are the engine's only.

    A sequence that decodes in a fast-forwarded host has its ``kv`` and ``generated`` as of
    decode iteration 0 of that host; the host adds its count of iterations.

    Attributes
    ----------
    prompt : int
        Tokens to compute before the next token can be made: the input, and after a
        preemption or a replay the tokens made so far.
    computed : int
        How many of them are computed or cached.
    kv : int
        Tokens in its KV cache.
    prefilled : bool
        Whether the prompt has passed the last hop.
    blocks : int
        Blocks reserved for it on every hop, prefix entries included.
    queued_s, back_s : float
        When it joined the queue, and when its last token came back.
    order : int
        Order of admission at its entry host.
    """

    __slots__ = (
        "_target",
        "_ticket",
        "back_s",
        "blocks",
        "cached",
        "computed",
        "entries",
        "finish",
        "generated",
        "kv",
        "loads",
        "order",
        "path",
        "prefilled",
        "prompt",
        "queued_s",
        "request",
        "state",
    )

    def __init__(self, ticket: Ticket, path: Path, loads: tuple[Load, ...], target: int) -> None:
        self._ticket = ticket
        self.request = ticket.request
        self.path = path
        self.loads = loads
        self._target = target
        self.generated = ticket.generated
        self.prompt = ticket.request.input_tokens + ticket.generated
        self.computed = self.kv = self.blocks = 0
        self.order = self.finish = -1
        self.queued_s = self.back_s = 0.0
        self.prefilled = False
        self.state = TRAVELLING
        # With a prefix cache: what tells its cached tokens, and its entries on every hop.
        self.cached: Callable[[Sequence], int] | None = None
        self.entries: list[list[Hashable]] | None = None

    @property
    def cached_tokens(self) -> int:
        """Tokens whose KV it found in the prefix cache."""
        return self._ticket.cached_tokens if self.entries is not None else 0

    @property
    def worked(self) -> int:
        """Tokens whose KV its entry has computed: what is wasted if it has to be given up."""
        return max(self.kv, self.computed) - self.cached_tokens

    @property
    def remaining_tokens(self) -> int:
        """Prompt tokens still to be computed; what is cached now need not be."""
        if self.cached is not None and self.state == WAITING:
            return self.prompt - self.cached(self)
        return self.prompt - self.computed


class Batch:
    """What one iteration of an entry host sends along one path. It never splits or changes."""

    __slots__ = (
        "chunks",
        "client",
        "context",
        "decodes",
        "ends",
        "outputs",
        "pairs",
        "path",
        "prefill",
        "prefill_context",
        "replay",
    )

    def __init__(self, path: Path, client: int) -> None:
        self.path = path
        self.client = client
        self.decodes: list[Sequence] = []
        self.chunks: list[tuple[Sequence, bool]] = []  # and whether the prompt ends here
        self.context = 0
        self.prefill = 0
        self.pairs = 0.0
        self.prefill_context = 0.0
        self.outputs = 0
        self.ends = path.ends
        self.replay: Sequence | None = None

    def add_decode(self, sequence: Sequence) -> None:
        """Add one token of a sequence."""
        self.decodes.append(sequence)
        self.context += sequence.kv + 1
        self.outputs += 1

    def add_chunk(self, sequence: Sequence, before: int, tokens: int, final: bool) -> None:
        """Add prompt tokens of a sequence that has ``before`` tokens computed."""
        self.chunks.append((sequence, final))
        self.prefill += tokens
        self.pairs += tokens * before + tokens * (tokens + 1) / 2
        self.prefill_context += before + tokens
        self.outputs += final

    @property
    def tokens(self) -> int:
        """Tokens that pass through the operators."""
        return self.prefill + len(self.decodes)
