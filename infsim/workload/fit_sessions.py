"""Find the sessions of a trace, and what their prompts share, and fit a model of them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from infsim.workload.blocks import prefix_lengths
from infsim.workload.requests import Requests
from infsim.workload.turns import Floats, Following, Ints, SessionModel, SharedPrefixes, Table

_KNOTS = 12
_FEWEST_OF_TURN = 100
_FEWEST_BRANCHES = 8
_MOST_SHARED = 48
_LARGEST_WEIGHT = 8.0
_LENGTH_LEVELS = (0.5, 0.25, 0.75, 0.93)


class Links(NamedTuple):
    """Who follows whom in a trace.

    Attributes
    ----------
    parent : int64 (n,)
        The request before in the session, -1 for the first.
    kept : int64 (n,)
        Tokens of the prompt that repeat the parent's.
    shared : int64 (n,)
        Row of `SharedPrefixes` with which the session begins.
    prefixes : SharedPrefixes or None
        None if the trace has no hashes.
    """

    parent: Ints
    kept: Ints
    shared: Ints
    prefixes: SharedPrefixes | None


def fit_sessions(
    requests: Requests, arrival_s: Floats
) -> tuple[SessionModel, SharedPrefixes | None] | None:
    """Fit sessions to a trace with prefix hashes or session ids.

    Parameters
    ----------
    requests : Requests
        The trace.
    arrival_s : float64 (n,)
        Its times, without the ticks of a coarse clock.

    Returns
    -------
    (SessionModel, SharedPrefixes or None) or None
        None if no request has anything to do with another one.

    Notes
    -----
    A turn late in the trace has less time to be followed than an early one. Each pair of turns
    therefore counts by the inverse of the share of turns that had so much time left
    (Horvitz and Thompson, JASA 47, 1952), in the number that goes on and in all tables.
    """
    links = find_links(requests)
    if links is None:
        return None
    children = np.flatnonzero(links.parent >= 0)
    parents = links.parent[children]
    turn = _turns(links.parent)
    size = links.prefixes.block_tokens if links.prefixes else 1
    shared = np.asarray(links.prefixes.blocks)[links.shared] if links.prefixes else 0 * turn
    gap_s = arrival_s[children] - arrival_s[parents]
    left_s = arrival_s[-1] - arrival_s
    # what shares no block of its own cannot be seen to be followed
    visible = requests.input_tokens // size > shared if links.prefixes else turn >= 0
    weight = _weights(turn, visible, left_s, parents, gap_s)
    first_turn = _settled(links.parent < 0, arrival_s, gap_s)
    own = requests.input_tokens[first_turn] - shared[first_turn] * size
    bounds = _length_bounds(requests.input_tokens[parents])
    length = np.searchsorted(bounds, requests.input_tokens, side="right")
    continues, likelier = _chances(turn, length, visible, parents, weight)
    return SessionModel(
        continues=continues,
        gap_s=_table(gap_s, weight),
        first_tokens=_table(np.maximum(own, 0)),
        following=_following(requests.input_tokens, links, children, weight, bounds, likelier),
    ), links.prefixes


def _weights(
    turn: Ints, visible: NDArray[np.bool_], left_s: Floats, parents: Ints, gap_s: Floats
) -> Floats:
    """Return what each pair counts: the inverse of the share of such turns with time for it."""
    weight = np.ones(len(parents))
    for index in range(int(turn.max()) + 1):
        among = np.sort(left_s[visible & (turn == index)])
        pairs = turn[parents] == index
        had_time = 1 - np.searchsorted(among, gap_s[pairs]) / max(1, len(among))
        weight[pairs] = 1 / np.maximum(had_time, 1 / _LARGEST_WEIGHT)
    return weight


def _chances(
    turn: Ints, length: Ints, visible: NDArray[np.bool_], parents: Ints, weight: Floats
) -> tuple[list[float], list[float]]:
    """Fit the probability that a turn is followed: by its number, and a factor by its length.

    Alternately each is set so that the turns that go on come out right in number.
    """
    counts = np.bincount(turn[visible], minlength=1)
    last = next((i for i in range(1, len(counts)) if counts[i] < _FEWEST_OF_TURN), len(counts) - 1)
    turn = np.minimum(turn, last)
    go_on = np.bincount(parents, weight, minlength=len(turn))
    chance, likelier = np.zeros(last + 1), np.ones(int(length.max()) + 1)
    for _ in range(5):
        expected = np.bincount(turn, visible * likelier[length], minlength=len(chance))
        chance = np.bincount(turn, go_on, minlength=len(chance)) / np.maximum(expected, 1e-9)
        expected = np.bincount(length, visible * chance[turn], minlength=len(likelier))
        likelier = np.bincount(length, go_on, minlength=len(likelier)) / np.maximum(expected, 1e-9)
    chance = np.minimum(chance, 0.99 / max(1.0, float(likelier.max())))  # sessions end
    return chance.round(4).tolist(), likelier.round(4).tolist()


def _length_bounds(tokens: Ints) -> Floats:
    """Choose bounds between short and long prompts, by those that are followed."""
    levels = _LENGTH_LEVELS[: len(tokens) // _FEWEST_OF_TURN]
    return np.unique(np.quantile(tokens, levels).round()) if levels else np.zeros(0)


def _following(
    tokens: Ints,
    links: Links,
    children: Ints,
    weight: Floats,
    bounds: Floats,
    likelier: list[float],
) -> list[Following]:
    """Fit what follows prompts of each class of lengths."""
    size = links.prefixes.block_tokens if links.prefixes else 1
    parents = links.parent[children]
    before, kept = tokens[parents], links.kept[children]
    shared = np.asarray(links.prefixes.blocks)[links.shared[parents]] if links.prefixes else 0
    share = (kept / size - shared) / np.maximum(before // size - shared, 1)
    whole = kept >= before // size * size
    group = np.searchsorted(bounds, before, side="right")
    fitted = []
    for index, below in enumerate([*bounds.tolist(), float(tokens.max()) + 1]):
        grown, edited = (group == index) & whole, (group == index) & ~whole
        total = weight[group == index].sum()
        fitted.append(
            Following(
                below_tokens=below,
                likelier=likelier[index] if index < len(likelier) else 1.0,
                whole=round(float(weight[grown].sum() / total), 4) if total else 1.0,
                new_tokens=_table(np.maximum(tokens[children] - before, 0)[grown], weight[grown]),
                kept=_table(np.clip(share[edited], 0, 1), weight[edited]),
                edited_tokens=_table((tokens[children] - kept)[edited], weight[edited]),
            )
        )
    return fitted


def find_links(requests: Requests) -> Links | None:
    """Tell who follows whom, by prefix hashes or else by session ids; None if nobody does."""
    if requests.prefix_hashes is not None and len(requests.prefix_hashes):
        return _links_of_hashes(requests)
    parent = _previous(requests.session_id)
    if not (parent >= 0).any():
        return None
    kept = np.where(
        parent >= 0, np.minimum(requests.input_tokens, requests.input_tokens[parent]), 0
    )
    return Links(parent, kept, np.zeros(len(parent), dtype=np.int64), None)


def _previous(session_id: Ints) -> Ints:
    """Return the previous request of the same session, -1 if there is none."""
    order = np.argsort(session_id, kind="stable")
    parent = np.full(len(order), -1, dtype=np.int64)
    same = (np.diff(session_id[order]) == 0) & (session_id[order][1:] >= 0)
    parent[order[1:][same]] = order[:-1][same]
    return parent


def _links_of_hashes(requests: Requests) -> Links | None:
    """A request follows the latest one with which it has the most leading blocks in common.

    Where that ends at a block after which many sessions differ, they have only a beginning in
    common, and the request begins a session of its own.
    """
    trie = _Trie(requests)
    if not trie.matched.any():
        return None
    common = trie.common()
    row_of = {node: row for row, node in enumerate(common)}
    n = len(requests)
    parent = np.full(n, -1, dtype=np.int64)
    shared = np.zeros(n, dtype=np.int64)
    for i in range(n):
        path = trie.path(i)
        depth = int(trie.matched[i])
        follows = depth > 0 and path[depth - 1] not in row_of
        if follows:
            parent[i] = trie.before[i]
            shared[i] = shared[parent[i]]
        else:
            shared[i] = next((row_of[node] for node in reversed(path) if node in row_of), 0)
    weights = np.bincount(shared[parent < 0], minlength=len(common))
    prefixes = SharedPrefixes(
        requests.prefix_block_tokens,
        [row_of[trie.nearest(node, row_of)] if node else 0 for node in common],
        [trie.depth[node] for node in common],
        weights.tolist(),
    )
    kept = np.where(parent >= 0, trie.matched * requests.prefix_block_tokens, 0)
    return Links(parent, kept, shared, prefixes)


class _Trie:
    """All prompts as paths from a root, node 0; a node is a block after the blocks before it.

    Attributes
    ----------
    matched : int64 (n,)
        For each request how many of its leading blocks earlier requests had.
    before : int64 (n,)
        The latest request with so many of them, -1 if none.
    depth, above : list of int
        Blocks up to each node, and the node before it.
    """

    def __init__(self, requests: Requests) -> None:
        hashes = requests.prefix_hashes
        assert hashes is not None  # the caller has looked
        nodes: dict[tuple[int, int], int] = {}
        self.depth, self.above = [0], [0]
        self._paths: list[list[int]] = []
        lengths = prefix_lengths(requests).tolist()
        self.matched = np.zeros(len(lengths), dtype=np.int64)
        self.before = np.full(len(lengths), -1, dtype=np.int64)
        latest = [-1]
        values = iter(hashes.tolist())
        for i, length in enumerate(lengths):
            path, node, matched = [], 0, 0
            for depth in range(1, length + 1):
                key = (node, next(values))
                found = nodes.get(key)
                if found is None:
                    found = nodes[key] = len(self.depth)
                    self.depth.append(depth)
                    self.above.append(node)
                    latest.append(i)
                else:
                    matched = depth
                path.append(found)
                node = found
            if matched:
                self.before[i] = latest[path[matched - 1]]
            for node in path:
                latest[node] = i
            self.matched[i] = matched
            self._paths.append(path)

    def path(self, i: int) -> list[int]:
        """Return the nodes of a request, from its first block on."""
        return self._paths[i]

    def common(self) -> list[int]:
        """Return nodes after which many prompts differ, the root first, upper ones before lower.

        An edited dialogue branches, too, but not as often.
        """
        above = np.asarray(self.above[1:], dtype=np.int64)
        branches = np.bincount(above, minlength=len(self.depth))
        ends = np.array([path[-1] for path in self._paths if path], dtype=np.int64)
        branches += np.bincount(ends, minlength=len(self.depth))
        many = np.flatnonzero(branches[1:] >= _FEWEST_BRANCHES) + 1
        many = many[np.argsort(-branches[many], kind="stable")][: _MOST_SHARED - 1]
        return [0, *sorted(many.tolist(), key=lambda node: (self.depth[node], node))]

    def nearest(self, node: int, wanted: dict[int, int]) -> int:
        """Return the next wanted node above a node."""
        node = self.above[node]
        while node not in wanted:
            node = self.above[node]
        return node


def _turns(parent: Ints) -> Ints:
    """Return the turns before each request in its session."""
    turn: list[int] = []
    for before in parent.tolist():
        turn.append(0 if before < 0 else turn[before] + 1)
    return np.array(turn, dtype=np.int64)


def _settled(first: NDArray[np.bool_], arrival_s: Floats, gap_s: Floats) -> NDArray[np.bool_]:
    """Choose first turns; at the begin of a trace some are not, what they follow was before it."""
    if not len(gap_s):
        return first
    late = first & (arrival_s > arrival_s[0] + np.quantile(gap_s, 0.9))
    return late if late.sum() >= 200 else first


def _table(values: NDArray[np.generic], weight: Floats | None = None) -> Table:
    """Make a table of weighted quantiles; of nothing, one that is 0."""
    if not len(values):
        return Table([0, 1], [0, 0])
    order = np.argsort(values, kind="stable")
    ordered = values[order].astype(np.float64)
    mass = np.ones(len(values)) if weight is None else weight[order]
    centre = (np.cumsum(mass) - mass / 2) / mass.sum()
    levels = np.linspace(0, 1, 2001)
    exact = np.interp(levels, centre, ordered)
    chosen = [0, len(levels) - 1]
    while len(chosen) < _KNOTS:
        miss = np.abs(np.interp(levels, levels[chosen], exact[chosen]) - exact)
        area = np.add.reduceat(miss, chosen[:-1])
        worst = int(np.argmax(area))
        if not area[worst] > 0:
            break
        candidate = chosen[worst] + int(np.argmax(miss[chosen[worst] : chosen[worst + 1]]))
        chosen = sorted({*chosen, candidate})
    return Table(levels[chosen].round(5).tolist(), exact[chosen].round(4).tolist())
