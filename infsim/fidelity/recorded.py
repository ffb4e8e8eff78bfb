"""A run of a real serving engine: its requests with their times, and how the engine was set up."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from infsim.errors import InputError
from infsim.fidelity.prompts import unlike
from infsim.rng import Streams
from infsim.workload.blocks import block, with_prefixes
from infsim.workload.requests import Requests

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Serving:
    """How an engine served a model.

    Attributes
    ----------
    model, format, device : str
        Names of the catalogue.
    devices : int
        Tensor-parallel devices.
    kv_tokens : int
        Tokens for which the KV cache has room.
    block_tokens : int
        Tokens of one of its blocks.
    token_budget, max_sequences : int
        Limits of one iteration.
    plan_ahead : bool
        Whether an iteration is planned while the one before it runs (asynchronous scheduling).
    prefix_cache : bool
        Whether KV blocks are kept for prompts that begin alike, and for preempted requests.
    replicas : int
        Data-parallel engines, each with ``devices``, and limits and KV cache of its own.
    """

    model: str
    format: str
    device: str
    devices: int
    kv_tokens: int
    block_tokens: int
    token_budget: int
    max_sequences: int
    plan_ahead: bool
    prefix_cache: bool
    replicas: int = 1


@dataclass(frozen=True)
class Recorded:
    """What was measured.

    Attributes
    ----------
    name : str
        Of the run, for tables.
    serving : Serving
    input_tokens, output_tokens : int64 (n,)
    arrival_s, first_token_s, end_s : float64 (n,)
        When each request reached the engine, by increasing time from 0; when its first and its
        last token were made.
    hashes : sequence of int64 arrays, optional
        Of the whole blocks of each prompt, chained: equal ones mean equal prefixes. Without them no
        two prompts begin alike.
    notes : sequence of str
        What the recording does not tell and had to be assumed.

    Raises
    ------
    InputError
        If times go backwards, or a length is below 1.
    """

    name: str
    serving: Serving
    input_tokens: NDArray[np.int64]
    output_tokens: NDArray[np.int64]
    arrival_s: Floats
    first_token_s: Floats
    end_s: Floats
    hashes: Sequence[NDArray[np.int64]] | None = None
    notes: Sequence[str] = ()

    def __post_init__(self) -> None:
        if len(self.arrival_s) < 2:
            raise InputError(f"{len(self.arrival_s)} requests cannot be compared with anything")
        for name, wrong in (
            ("arrivals go backwards", np.diff(self.arrival_s, prepend=0.0) < 0),
            ("a first token before the arrival", self.first_token_s < self.arrival_s),
            ("an end before the first token", self.end_s < self.first_token_s),
            ("a prompt without tokens", self.input_tokens < 1),
            ("an output without tokens", self.output_tokens < 1),
        ):
            if wrong.any():
                raise InputError(f"request {int(np.argmax(wrong))}: {name}")

    def __len__(self) -> int:
        return len(self.arrival_s)

    def blocks(self, streams: Streams) -> Iterator[Requests]:  # noqa: ARG002 - all is given
        """Yield the requests, for the simulator."""
        size = self.serving.block_tokens
        hashes = unlike(self.input_tokens, size) if self.hashes is None else self.hashes
        lengths = np.array([len(row) for row in hashes])
        requests = block(self.arrival_s, self.input_tokens, self.output_tokens)
        yield with_prefixes(requests, lengths, np.concatenate(hashes), size)
