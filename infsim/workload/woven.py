"""Sessions woven into requests: who follows whom, at times and lengths that are given."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from infsim.rng import Streams
from infsim.workload.blocks import BLOCK, concatenate, ragged, resize, take, with_prefixes
from infsim.workload.hashing import mix
from infsim.workload.requests import Requests, Workload
from infsim.workload.turns import (
    MOST_BLOCKS,
    Floats,
    Ints,
    SessionModel,
    SessionSource,
    SharedPrefixes,
    Turns,
    join,
)

GROUP = 256
"""Requests that are woven at a time; part of what a seed means, not a parameter."""

_SESSIONS = (512, 16384)
"""Sessions drawn at first, and at most at a time; part of what a seed means, too."""


@dataclass(frozen=True)
class Woven:
    """The requests of a workload, made turns of sessions.

    Arrival times stay, and so do the pairs of lengths, but for their order within 512 requests:
    what is known of a queue from the workload holds as before. For each such group the
    turns of sessions that are due come first, then new sessions that begin at some of the
    arrival times, as many as are needed. The turns in order of time take the arrival times in
    order; those with the longest prompts take the pairs with the longest prompts.

    Attributes
    ----------
    workload : Workload
        Requests without sessions.
    model : SessionModel
        How sessions go on.
    prefixes : SharedPrefixes or None
        What their prompts begin with; None: requests get session ids only.
    block : int
        Requests of a block; what is drawn does not depend on it.

    Notes
    -----
    To order independent draws like a template is known from meteorology as the Schaake shuffle
    (Clark et al., Journal of Hydrometeorology 5, 2004): margins are those of the draws,
    dependence that of the template.
    """

    workload: Workload
    model: SessionModel
    prefixes: SharedPrefixes | None = None
    block: int = BLOCK

    def blocks(self, streams: Streams) -> Iterator[Requests]:
        return resize(self._parts(streams), self.block)

    def _parts(self, streams: Streams) -> Iterator[Requests]:
        loom = _Loom(self.model, self.prefixes, streams)
        for part in resize(self.workload.blocks(streams), BLOCK):
            groups = [take(part, slice(i, i + GROUP)) for i in range(0, len(part), GROUP)]
            woven, turns = zip(*map(loom.weave, groups), strict=True)
            requests = concatenate(woven)
            if self.prefixes is not None:
                requests = hashed(requests, join(turns), self.prefixes.block_tokens)
            yield requests


class _Loom:
    """The sessions that are under way, and a store of sessions that are to begin."""

    def __init__(
        self, model: SessionModel, prefixes: SharedPrefixes | None, streams: Streams
    ) -> None:
        self._source = SessionSource(model, prefixes, streams.stream("workload", "turns"))
        self._generator = streams.stream("workload", "beginnings")
        self._count = _SESSIONS[0]
        self._turns = self._source.draw(self._count)
        self._begins = _begins(self._turns)  # rows where sessions to come begin, and the end
        self._due: Ints = np.zeros(0, dtype=np.int64)
        self._due_s: Floats = np.zeros(0)

    def weave(self, group: Requests) -> tuple[Requests, Turns]:
        """Make turns of a group of requests; return them and what their prompts consist of."""
        times = group.arrival_s
        missing = len(times) - int(np.count_nonzero(self._due_s <= times[-1]))
        if missing > 0:
            self._begin(times, missing)
        due = np.flatnonzero(self._due_s <= times[-1])
        due = due[np.argsort(self._due_s[due], kind="stable")][: len(times)]
        turns = self._turns.take(self._due[due])
        self._due, self._due_s = np.delete(self._due, due), np.delete(self._due_s, due)
        order = _pairs_for(turns, group.input_tokens)
        return replace(
            group,
            input_tokens=group.input_tokens[order],
            output_tokens=group.output_tokens[order],
            session_id=turns.session,
        ), turns

    def _begin(self, times: Floats, missing: int) -> None:
        """Begin sessions at some of the times, until so many more turns are due by the last."""
        while len(self._begins) <= missing:
            self._refill()
        starts = times[0] + (times[-1] - times[0]) * self._generator.random(missing)
        begins = self._begins[: missing + 1]
        rows = np.arange(begins[0], begins[-1])
        session = np.repeat(np.arange(missing), np.diff(begins))
        time_s = starts[session] + self._turns.offset_s[rows]
        turns = np.bincount(session[time_s <= times[-1]], minlength=missing)
        needed = int(np.searchsorted(np.cumsum(turns), missing)) + 1
        self._begins = self._begins[needed:]
        count = int(begins[needed] - begins[0])
        self._due = np.concatenate([self._due, rows[:count]])
        self._due_s = np.concatenate([self._due_s, time_s[:count]])

    def _refill(self) -> None:
        """Draw more sessions, and forget the turns that are over."""
        to_come = np.arange(self._begins[0], self._begins[-1])
        kept = [self._turns.take(self._due), self._turns.take(to_come)]
        self._count = min(2 * self._count, _SESSIONS[1])
        self._turns = join([*kept, self._source.draw(self._count)])
        self._due = np.arange(len(self._due))
        self._begins = len(self._due) + _begins(self._turns, len(self._due))


def _pairs_for(turns: Turns, input_tokens: Ints) -> Ints:
    """Choose a pair of lengths for each turn, by its prompt; a permutation: int64 (n,).

    Turns of sessions with several turns take the next longer prompt that is free, so that a
    prompt that repeats another one is longer; lone turns take what is left, long ones the long.
    """
    pairs = np.argsort(input_tokens, kind="stable")
    order = np.empty(len(pairs), dtype=np.int64)
    by_length = np.argsort(turns.tokens, kind="stable")
    several = turns.several[by_length]
    chosen = by_length[several]
    place = np.arange(len(chosen))
    wanted = np.searchsorted(input_tokens[pairs], turns.tokens[chosen])
    taken = np.maximum.accumulate(wanted - place) + place if len(place) else place
    taken = np.minimum(taken, len(pairs) - len(chosen) + place)
    order[chosen] = pairs[taken]
    order[by_length[~several]] = np.delete(pairs, taken)
    return order


def _begins(turns: Turns, first: int = 0) -> Ints:
    """Return where sessions begin in turns from `first` on, counted from there, and the end."""
    session = turns.session[first:]
    return np.append(np.flatnonzero(np.diff(session, prepend=-1)), len(session))


def hashed(requests: Requests, turns: Turns, block_tokens: int) -> Requests:
    """Give requests the hashes of their prompts' whole blocks, as long as the prompts are.

    Parameters
    ----------
    requests : Requests
    turns : Turns
        What their prompts consist of, for prompts that may be longer or shorter.
    block_tokens : int
        Tokens of a block.
    """
    blocks = requests.input_tokens // block_tokens
    owner, start = turns.runs // MOST_BLOCKS, turns.runs % MOST_BLOCKS
    length = np.repeat(blocks, np.diff(turns.run_offsets))
    # each run ends where the next one of the prompt begins, the last with the prompt
    inner = np.ones(len(start), dtype=bool)
    inner[turns.run_offsets[1:] - 1] = False
    end = np.where(inner, np.minimum(np.roll(start, -1), length), length)
    length = np.maximum(end - start, 0)
    position = ragged(start, length)
    return with_prefixes(
        requests, blocks, mix(np.repeat(mix(owner), length) + position), block_tokens
    )
