"""The path of least latency through hosts that hold overlapping spans of a chain.

The rule of Petals' client (Borzunov et al., "Distributed inference and fine-tuning of large
language models over the internet", NeurIPS'23; ``sequence_manager.py``): a host may be entered
anywhere in its span, and is left at the span's end. Petals runs Dijkstra's algorithm on the
graph of (host, block); since every arc leads to a later block, visiting the hosts by the ends of
their spans settles each exactly once, without a queue.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Path:
    """A path through a chain.

    Attributes
    ----------
    hosts : tuple of int
        Indices of the hosts in order.
    bounds : tuple of int
        ``hosts[k]`` computes the operators ``[bounds[k], bounds[k + 1])``.
    latency_s : float
        Client, hops, compute, and back.
    """

    hosts: tuple[int, ...]
    bounds: tuple[int, ...]
    latency_s: float


def cheapest_path(
    spans: Sequence[tuple[int, int]],
    operators: int,
    operator_s: Sequence[float],
    entry_s: Sequence[float],
    hop_s: Sequence[Sequence[float]],
    exit_s: Sequence[float],
) -> Path | None:
    """Return the path of least latency, or None if the spans do not connect the chain.

    Plain Python: with the few hosts that can follow one another it is faster than arrays.

    Parameters
    ----------
    spans : sequence of (start, end)
        Operators ``[start, end)`` of each host.
    operators : int
        Operators of the chain.
    operator_s : sequence of float
        Time of one operator on each host.
    entry_s : sequence of float
        Cost of sending from the client to each host: delay, overhead, and the wait there.
    hop_s : sequence of sequences of float
        ``[g][h]`` is the same from host g to host h.
    exit_s : sequence of float
        Delay from each host back to the client.
    """
    best: dict[int, tuple[float, int | None]] = {}  # host: latency at its end, host before it
    by_end = sorted((h for h, (s, e) in enumerate(spans) if s < e), key=lambda h: spans[h][1])
    for h in by_end:
        start, end = spans[h]
        own_s = operator_s[h]
        choice: tuple[float, int | None] | None = None
        if start == 0:
            choice = (entry_s[h] + own_s * end, None)
        for g, (latency_s, _) in best.items():
            middle = spans[g][1]
            if start <= middle < end:
                through_s = latency_s + hop_s[g][h] + own_s * (end - middle)
                if choice is None or through_s < choice[0]:
                    choice = (through_s, g)
        if choice is not None:
            best[h] = choice
    last = [(best[h][0] + exit_s[h], h) for h in best if spans[h][1] == operators]
    if not last:
        return None
    latency_s, h = min(last)
    hosts: list[int] = []
    step: int | None = h
    while step is not None:
        hosts.append(step)
        step = best[step][1]
    hosts.reverse()
    return Path(tuple(hosts), (0, *(spans[h][1] for h in hosts)), latency_s)
