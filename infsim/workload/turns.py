"""Sessions as a trace has them: how they begin, go on, and what their prompts share."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from infsim.errors import InputError
from infsim.workload.blocks import offsets, ragged

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

MOST_BLOCKS = 1 << 20
"""A prompt has fewer blocks than this; a run is packed as ``owner * MOST_BLOCKS + first block``."""


@dataclass(frozen=True)
class Table:
    """Quantiles of something that is 0 or more, linear in between.

    Attributes
    ----------
    levels : sequence of float
        Increasing, from 0 to 1.
    values : sequence of float
        Not decreasing, 0 or more.
    """

    levels: Sequence[float]
    values: Sequence[float]

    def __post_init__(self) -> None:
        if len(self.levels) != len(self.values) or len(self.levels) < 2:
            raise InputError(f"{len(self.levels)} levels and {len(self.values)} values")
        if self.levels[0] != 0 or self.levels[-1] != 1 or not (np.diff(self.levels) > 0).all():
            raise InputError("levels must increase from 0 to 1", key="levels")
        if not (np.diff(self.values) >= 0).all() or not 0 <= self.values[0] <= self.values[-1]:
            raise InputError("values must be 0 or more and not decrease", key="values")

    def draw(self, generator: np.random.Generator, n: int) -> Floats:
        """Draw n values: float64 (n,)."""
        return np.interp(generator.random(n), self.levels, self.values)


@dataclass(frozen=True)
class SharedPrefixes:
    """Beginnings that prompts of different sessions have in common: system prompts, templates.

    They form a tree: a beginning may go on where another one ends. Row 0 is the empty beginning.

    Attributes
    ----------
    block_tokens : int
        Tokens of one hashed block.
    below : sequence of int
        For each beginning the earlier row that it goes on from.
    blocks : sequence of int
        Blocks of each, those below included; 0 in row 0.
    weights : sequence of float
        How often a session begins with exactly this one.
    """

    block_tokens: int
    below: Sequence[int] = (0,)
    blocks: Sequence[int] = (0,)
    weights: Sequence[float] = (1.0,)

    def __post_init__(self) -> None:
        if self.block_tokens < 1:
            raise InputError(f"{self.block_tokens} tokens of a block", key="block_tokens")
        if not len(self.below) == len(self.blocks) == len(self.weights) > 0:
            raise InputError("below, blocks and weights must be equally long", key="below")
        if self.below[0] != 0 or self.blocks[0] != 0:
            raise InputError("row 0 must be the empty beginning", key="blocks")
        for row in range(1, len(self.below)):
            below = self.below[row]
            if not 0 <= below < row or not self.blocks[below] < self.blocks[row] < MOST_BLOCKS:
                raise InputError(
                    f"row {row} has {self.blocks[row]} blocks on row {below}, it must be longer "
                    f"than that and come later",
                    key="below",
                )
        if not min(self.weights) >= 0 or not 0 < sum(self.weights) < math.inf:
            raise InputError("weights must be 0 or more, and not all 0", key="weights")

    def runs(self, row: int) -> list[int]:
        """Return the runs that a beginning consists of, from its first block on."""
        packed: list[int] = []
        while row:
            packed.insert(0, row * MOST_BLOCKS + self.blocks[self.below[row]])
            row = self.below[row]
        return packed


@dataclass(frozen=True)
class Following:
    """How a prompt of some length is followed.

    Attributes
    ----------
    below_tokens : float
        Holds for prompts shorter than this, and not shorter than the entry before says.
    likelier : float
        Factor on the probability that another turn follows.
    whole : float
        Share of the turns whose prompt repeats the whole prompt before it.
    new_tokens : Table
        What such a prompt has beyond that.
    kept : Table
        For the other turns the share of the previous prompt that is repeated; of what is the
        session's own, not of a beginning that other sessions share.
    edited_tokens : Table
        What a prompt of these has beyond that.
    """

    below_tokens: float
    likelier: float
    whole: float
    new_tokens: Table
    kept: Table
    edited_tokens: Table

    def __post_init__(self) -> None:
        if not self.below_tokens > 0:
            raise InputError(f"below_tokens is {self.below_tokens}", key="below_tokens")
        if not 0 <= self.likelier < math.inf:
            raise InputError(f"likelier is {self.likelier}", key="likelier")
        if not 0 <= self.whole <= 1:
            raise InputError(f"whole is {self.whole}, must be in [0, 1]", key="whole")
        if not self.kept.values[-1] <= 1:
            raise InputError("kept must be in [0, 1]", key="kept")


@dataclass(frozen=True)
class SessionModel:
    """How sessions begin and go on.

    Attributes
    ----------
    continues : sequence of float
        Probability that another turn follows the first, the second, … one; the last entry
        holds for all later ones, and is below 1.
    gap_s : Table
        From the arrival of a turn to that of the next.
    first_tokens : Table
        Prompt of the first turn, without the beginning that it shares with other sessions.
    following : sequence of Following
        What comes after short prompts, longer ones, …; the last entry holds for all that are
        longer still.
    """

    continues: Sequence[float]
    gap_s: Table
    first_tokens: Table
    following: Sequence[Following]

    def __post_init__(self) -> None:
        if not self.continues or not all(0 <= p <= 1 for p in self.continues):
            raise InputError("continues must be probabilities", key="continues")
        if self.continues[-1] >= 1:
            raise InputError("sessions that never end: continues ends with 1", key="continues")
        bounds = [each.below_tokens for each in self.following]
        if not bounds or not (np.diff(bounds) > 0).all():
            raise InputError("following must go from short to long prompts", key="following")

    @property
    def mean_turns(self) -> float:
        """Expected turns of a session."""
        alive = np.cumprod(np.asarray(self.continues))
        return float(1 + alive[:-1].sum() + alive[-1] / (1 - self.continues[-1]))


@dataclass(frozen=True, slots=True)
class Turns:
    """Turns of sessions, as columns.

    Attributes
    ----------
    offset_s : float64 (n,)
        Arrival after the session's first turn.
    tokens : float64 (n,)
        Prompt length.
    session : int64 (n,)
        Id of the session.
    several : bool (n,)
        Whether the session has more than one turn.
    run_offsets : int64 (n + 1,), runs : int64 (m,)
        What the prompt of turn ``i`` consists of: ``runs[run_offsets[i]:run_offsets[i + 1]]``,
        each an owner and the first block of what it owns, see `MOST_BLOCKS`.
    """

    offset_s: Floats
    tokens: Floats
    session: Ints
    several: NDArray[np.bool_]
    run_offsets: Ints
    runs: Ints

    def __len__(self) -> int:
        return len(self.offset_s)

    def take(self, rows: Ints) -> Turns:
        """Return these rows."""
        lengths = np.diff(self.run_offsets)[rows]
        return Turns(
            self.offset_s[rows],
            self.tokens[rows],
            self.session[rows],
            self.several[rows],
            offsets(lengths),
            self.runs[ragged(self.run_offsets[rows], lengths)],
        )


def join(parts: Sequence[Turns]) -> Turns:
    """Join tables of turns, one after the other."""
    columns = {
        name: np.concatenate([getattr(part, name) for part in parts])
        for name in (field.name for field in fields(Turns))
        if name != "run_offsets"
    }
    lengths = np.concatenate([np.diff(part.run_offsets) for part in parts])
    return Turns(run_offsets=offsets(lengths), **columns)


class SessionSource:
    """Draws whole sessions, from first to last turn.

    Parameters
    ----------
    model : SessionModel
        How they go on.
    prefixes : SharedPrefixes or None
        What they begin with; None if prompts have no prefix hashes.
    generator : numpy.random.Generator
        Where the numbers come from.
    """

    def __init__(
        self, model: SessionModel, prefixes: SharedPrefixes | None, generator: np.random.Generator
    ) -> None:
        self._model = model
        self._prefixes = prefixes or SharedPrefixes(1)
        self._hashed = prefixes is not None
        self._generator = generator
        self._sessions = 0
        self._owners = len(self._prefixes.below)
        chains = [self._prefixes.runs(row) for row in range(self._owners)]
        self._depth = np.array([len(chain) for chain in chains], dtype=np.int64)
        self._chains = np.zeros((len(chains), int(self._depth.max()) + 1), dtype=np.int64)
        for row, chain in enumerate(chains):
            self._chains[row, : len(chain)] = chain
        weights = np.cumsum(np.asarray(self._prefixes.weights, dtype=np.float64))
        self._shares = weights / weights[-1]
        self._bounds = np.array([each.below_tokens for each in model.following[:-1]])
        self._likelier = np.array([each.likelier for each in model.following])

    def draw(self, n: int) -> Turns:
        """Draw n sessions; their turns come session by session."""
        model, generator, size = self._model, self._generator, self._prefixes.block_tokens
        row = np.searchsorted(self._shares, generator.random(n), side="right")
        shared = np.asarray(self._prefixes.blocks, dtype=np.int64)[row]
        state = _Prompts(self._chains[row], self._depth[row])
        state.cut(shared, self._owned(n))
        tokens: Floats = np.maximum(shared * size + model.first_tokens.draw(generator, n), 1.0)
        offset_s = np.zeros(n)
        session = np.arange(self._sessions, self._sessions + n)
        self._sessions += n
        parts = []
        for turn in itertools.count():
            chance = model.continues[min(turn, len(model.continues) - 1)]
            goes_on = generator.random(len(session)) < chance * self._likelier[self._group(tokens)]
            if self._hashed:  # what shares no block of its own is another session to a cache
                goes_on &= tokens // size > shared
            parts.append(Turns(offset_s, tokens, session, goes_on | (turn > 0), *state.runs()))
            kept = np.flatnonzero(goes_on)
            if not len(kept):
                break
            session, shared, state = session[kept], shared[kept], state.take(kept)
            offset_s = offset_s[kept] + model.gap_s.draw(generator, len(kept))
            tokens = self._next_tokens(tokens[kept], shared, state)
        turns = join(parts)
        return turns.take(np.argsort(turns.session, kind="stable"))

    def _group(self, tokens: Floats) -> Ints:
        """Return which entry of `following` holds for prompts of these lengths."""
        return np.searchsorted(self._bounds, tokens, side="right")

    def _next_tokens(self, tokens: Floats, shared: Ints, state: _Prompts) -> Floats:
        """Draw the prompts that follow, and note from where on they are new."""
        group = self._group(tokens)
        result = np.empty(len(tokens))
        for index, after in enumerate(self._model.following):
            rows = np.flatnonzero(group == index)
            if not len(rows):
                continue
            result[rows] = self._follow(after, tokens[rows], shared[rows], state, rows)
        return result

    def _follow(
        self, after: Following, tokens: Floats, shared: Ints, state: _Prompts, rows: Ints
    ) -> Floats:
        generator, size = self._generator, self._prefixes.block_tokens
        n = len(tokens)
        own = tokens // size - shared
        keep = shared + np.maximum(np.rint(own * after.kept.draw(generator, n)), 1)
        edited = (generator.random(n) >= after.whole) & (keep < tokens // size)
        grown = tokens + after.new_tokens.draw(generator, n)
        rewritten = keep * size + after.edited_tokens.draw(generator, n)
        if self._hashed:
            owner = self._owned(int(edited.sum()))
            state.cut(keep[edited].astype(np.int64), owner, rows[edited])
        following: Floats = np.where(edited, rewritten, grown)
        return following

    def _owned(self, n: int) -> Ints:
        """Return n owners that were never used before."""
        self._owners += n
        return np.arange(self._owners - n, self._owners)


class _Prompts:
    """Who owns which blocks of the prompts of many sessions: a stack of runs for each."""

    def __init__(self, stack: Ints, depth: Ints) -> None:
        self._stack = stack
        self._depth = depth

    def take(self, rows: Ints) -> _Prompts:
        return _Prompts(self._stack[rows], self._depth[rows])

    def cut(self, block: Ints, owner: Ints, rows: Ints | None = None) -> None:
        """Give the blocks from `block` on to new owners, in all prompts or these rows."""
        if rows is None:
            rows = np.arange(len(self._depth))
        width = self._stack.shape[1]
        held = np.arange(width) < self._depth[rows, None]
        held &= self._stack[rows] % MOST_BLOCKS < block[:, None]
        depth = held.sum(axis=1)
        if len(rows) and int(depth.max()) == width:
            self._stack = np.pad(self._stack, ((0, 0), (0, width)))
        self._stack[rows, depth] = owner * MOST_BLOCKS + block
        self._depth[rows] = depth + 1

    def runs(self) -> tuple[Ints, Ints]:
        """Return offsets and runs of all prompts."""
        held = np.arange(self._stack.shape[1]) < self._depth[:, None]
        return offsets(self._depth), self._stack[held]
