"""What the engine asks of a cost model: the time of one iteration."""

from __future__ import annotations

from abc import ABC, abstractmethod


class StepCost(ABC):
    """Time of one iteration of a span of operators, in one format, on one node.

    One object is made per (node, deployment, span); it is on the hot path, so implementations
    keep plain floats and lists and take a microsecond a call at the most.

    Attributes
    ----------
    calibrated : bool
        True if the times come from measured tables, False for the analytical roofline.
    source : str
        Where the times come from, for the manifest.
    calls : int
        How often a time was asked for.
    extrapolated : int
        How many of these calls were outside of the measured box.
    """

    calibrated: bool = False
    source: str = "unspecified"
    calls: int = 0
    extrapolated: int = 0

    @abstractmethod
    def step_s(
        self,
        prefill_tokens: int,
        prefill_pairs: float,
        prefill_context: float,
        decode_sequences: int,
        decode_context: float,
        sequences: int,
    ) -> float:
        """Seconds of one iteration, finite and not negative.

        Parameters
        ----------
        prefill_tokens : int
            Prompt tokens computed in this iteration (all chunks together).
        prefill_pairs : float
            Query-key pairs of these tokens: a chunk of t tokens after p cached ones adds
            ``t * p + t * (t + 1) / 2``.
        prefill_context : float
            Sum over the chunks of ``p + t``: the KV entries that the chunk reads.
        decode_sequences : int
            Sequences that decode one token.
        decode_context : float
            Sum over these of the KV entries attended to, their new token included.
        sequences : int
            Sequences in the batch that need logits (decodes, and prompts that end here).
        """

    @abstractmethod
    def decode_line(self, sequences: int, context: float) -> tuple[float, float, float]:
        """Cost of pure decode iterations as a line in the total context.

        Returns ``(base_s, per_token_s, limit)`` such that an iteration of ``sequences``
        decoding sequences lasts ``base_s + per_token_s * c`` for every total context ``c``
        in ``[context, limit]``. It must equal ``step_s(0, 0, 0, sequences, c, sequences)``.
        """
