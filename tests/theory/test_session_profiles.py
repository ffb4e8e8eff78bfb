"""Sessions in profiles: parameters come back from the fit, and again in what is made."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infsim.rng import Streams
from infsim.workload.arrivals import Poisson
from infsim.workload.blocks import block, prefix_lengths, read_all, take, with_prefixes
from infsim.workload.fit import fit_profile
from infsim.workload.fit_sessions import find_links, fit_sessions
from infsim.workload.hashing import mix
from infsim.workload.lengths import Constant, Independent, Lognormal
from infsim.workload.prefixes import hit_curve
from infsim.workload.requests import Requests
from infsim.workload.sessions import Sessions
from infsim.workload.synthetic import Synthetic
from infsim.workload.transform import Limit
from infsim.workload.turns import Following, SessionModel, SharedPrefixes, Table
from infsim.workload.woven import Woven

DIALOGUES = Sessions(
    Poisson(1.0),
    Independent(Lognormal(300, 0.5), Constant(100)),
    turns=4,
    think_s=60,
    answer_s_per_token=0.05,
    system_tokens=512,
    max_context=10**6,
    prefix_block_tokens=64,
)


def dialogues(seed: int = 1, requests: int = 12_000) -> Requests:
    return read_all(Limit(DIALOGUES, requests=requests).blocks(Streams(seed)))


@pytest.mark.parametrize("seen_by", ["hashes", "session ids"])
def test_parameters_of_dialogues_come_back(seen_by: str) -> None:
    """4 turns, 5 s of answer and 60 s of thought, 400 tokens more each turn, 512 in common."""
    requests = dialogues()
    if seen_by == "session ids":
        requests = replace(requests, prefix_offsets=None, prefix_hashes=None)
    fitted = fit_sessions(requests, requests.arrival_s)
    assert fitted is not None
    model, prefixes = fitted
    assert model.continues[0] == pytest.approx(0.75, abs=0.03)
    assert model.mean_turns == pytest.approx(4, rel=0.1)
    gaps = model.gap_s.draw(np.random.default_rng(0), 100_000)
    assert gaps.mean() == pytest.approx(65, rel=0.06)
    assert gaps.min() == pytest.approx(5, abs=0.5)
    for after in model.following:
        assert after.whole == 1
        grown = after.new_tokens.draw(np.random.default_rng(0), 100_000)
        assert grown.mean() == pytest.approx(400, rel=0.05)
    first = model.first_tokens.draw(np.random.default_rng(0), 100_000)
    if prefixes is None:
        assert first.mean() == pytest.approx(512 + 300, rel=0.05)
        return
    assert first.mean() == pytest.approx(300, rel=0.05)
    assert prefixes.block_tokens == 64
    assert list(prefixes.blocks) == [0, 8]
    assert prefixes.weights[0] == 0


def test_turns_that_came_too_late_for_the_trace_are_reckoned_with() -> None:
    """Half of the turns are followed, but the trace of four think times ends before some are."""
    slow = replace(DIALOGUES, think_s=600, turns=2, arrivals=Poisson(5.0))
    requests = read_all(Limit(slow, duration_s=2400).blocks(Streams(2)))
    links = find_links(requests)
    fitted = fit_sessions(requests, requests.arrival_s)
    assert links is not None
    assert fitted is not None
    parents = links.parent[links.parent >= 0]
    naive = len(parents) / len(requests)
    assert naive < 0.42
    assert fitted[0].continues[0] == pytest.approx(0.5, abs=0.03)


def test_made_dialogues_hit_a_cache_as_often() -> None:
    real = dialogues()
    sizes = [300, 1000, 3000, 10_000, None]
    expected = hit_curve(real, sizes)
    profile = fit_profile(real)
    made = np.mean(
        [hit_curve(read_all(profile.workload().blocks(Streams(seed))), sizes) for seed in range(4)],
        axis=0,
    )
    assert made == pytest.approx(expected, abs=0.03)


def test_system_prompts_without_dialogues() -> None:
    """Requests that share only what they begin with, by popularity; one goes on from another."""
    n, generator = 6000, np.random.default_rng(7)
    kinds = generator.choice(4, n, p=[0.5, 0.25, 0.15, 0.1])
    blocks = np.array([0, 6, 10, 25])
    own = generator.integers(1, 12, n)
    hashes = []
    for row, kind in enumerate(kinds.tolist()):
        common = range(1, 1 + blocks[kind])
        # the second goes on from the first one, after 6 blocks
        hashes.append([i if i <= 6 and kind in (1, 2) else 1000 * kind + i for i in common])
        hashes[-1].extend(10**6 + 100 * row + i for i in range(own[row]))
    depth = blocks[kinds]
    lengths = (depth + own) * 16 + 3
    requests = with_prefixes(
        block(np.sort(generator.random(n)) * 3600, lengths, np.full(n, 50)),
        depth + own,
        np.array(list(itertools.chain(*hashes))),
        16,
    )
    fitted = fit_sessions(requests, requests.arrival_s)
    assert fitted is not None
    model, prefixes = fitted
    assert prefixes is not None
    assert model.continues == [0.0]
    shares = dict(zip(prefixes.blocks, prefixes.weights, strict=True))
    assert shares[25] / n == pytest.approx(0.1, abs=0.02)
    assert prefixes.weights[0] / n == pytest.approx(0.5, abs=0.02)
    sizes = [50, 500, None]
    made = read_all(fit_profile(requests).workload().blocks(Streams(0)))
    assert hit_curve(made, sizes) == pytest.approx(hit_curve(requests, sizes), abs=0.04)


def test_hashes_of_single_blocks_mean_the_same_as_chained_ones() -> None:
    """Two prompts that differ in one block and agree in the next have no more in common."""
    chained = dialogues(requests=2000)
    assert chained.prefix_hashes is not None
    assert chained.prefix_offsets is not None
    position = np.arange(len(chained.prefix_hashes)) - np.repeat(
        chained.prefix_offsets[:-1], prefix_lengths(chained)
    )
    # every fifth block has the same content in all prompts
    loose = np.where(position % 5 == 4, 7, chained.prefix_hashes)
    a = find_links(chained)
    b = find_links(replace(chained, prefix_hashes=loose))
    assert a is not None
    assert b is not None
    assert a.parent.tolist() == b.parent.tolist()


NEW = Table([0, 1], [0, 200])
EXAMPLE = SessionModel(
    continues=[0.6, 0.8],
    gap_s=Table([0, 1], [5, 60]),
    first_tokens=Table([0, 1], [10, 900]),
    following=[
        Following(below, likelier, whole, NEW, Table([0, 1], [0, 1]), Table([0, 1], [5, 9]))
        for below, likelier, whole in ((500, 1.1, 1.0), (9e9, 0.9, 0.5))
    ],
)
SHARED = SharedPrefixes(16, [0, 0, 1], [0, 2, 5], [1, 2, 2])
PLAIN = Synthetic(Poisson(3.0), Independent(Lognormal(800, 1), Lognormal(90, 1)))


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), count=st.integers(1, 3000), hashed=st.booleans())
def test_weaving_keeps_times_and_lengths(seed: int, count: int, hashed: bool) -> None:
    plain = Limit(PLAIN, requests=count)
    woven = read_all(
        Woven(plain, EXAMPLE, SHARED if hashed else None, block=100).blocks(Streams(seed))
    )
    given_ = read_all(plain.blocks(Streams(seed)))
    assert woven.arrival_s.tolist() == given_.arrival_s.tolist()
    pairs = [sorted(zip(r.input_tokens, r.output_tokens, strict=True)) for r in (woven, given_)]
    assert pairs[0] == pairs[1]
    assert (woven.session_id >= 0).all()
    if not hashed:
        assert woven.prefix_hashes is None
        return
    assert (prefix_lengths(woven) == woven.input_tokens // 16).all()


def test_blocks_do_not_change_what_is_woven() -> None:
    made = []
    for size in (7, 1000, 100_000):
        plain = Limit(replace(PLAIN, block=size), requests=5000)
        made.append(read_all(Woven(plain, EXAMPLE, SHARED, size).blocks(Streams(3))))
    for other in made[1:]:
        for name in ("arrival_s", "input_tokens", "session_id", "prefix_hashes"):
            assert getattr(other, name).tolist() == getattr(made[0], name).tolist()


def test_prompts_of_one_session_have_a_beginning_in_common() -> None:
    """Hashes mean prefixes: equal ones stand at the same place after equal ones."""
    made = read_all(Limit(Woven(PLAIN, EXAMPLE, SHARED), requests=8000).blocks(Streams(4)))
    assert made.prefix_hashes is not None
    assert made.prefix_offsets is not None
    before: dict[int, int] = {}
    bounds, hashes = made.prefix_offsets.tolist(), made.prefix_hashes.tolist()
    for first, last in itertools.pairwise(bounds):
        chain = 0
        for value in hashes[first:last]:
            assert before.setdefault(value, chain) == chain
            chain = value
    # only sessions share more than the longest beginning
    links = find_links(made)
    assert links is not None
    follows = np.flatnonzero(links.kept > 5 * 16)
    assert len(follows) > 500
    assert (made.session_id[follows] == made.session_id[links.parent[follows]]).all()


def test_long_runs_forget_sessions_that_are_over() -> None:
    """What is held does not grow: the first and the last part of a long run cost the same."""
    woven = Woven(PLAIN, EXAMPLE, SHARED)
    made = Limit(woven, requests=200_000).blocks(Streams(5))
    sessions = [np.ptp(part.session_id) for part in made]
    assert max(sessions[10:]) < 3 * max(sessions[:10])


def test_nothing_to_find() -> None:
    n = 500
    requests = block(np.arange(n, dtype=np.float64), np.full(n, 900), np.full(n, 10))
    assert fit_sessions(requests, requests.arrival_s) is None
    unlike = with_prefixes(requests, np.ones(n, dtype=np.int64), mix(np.arange(n)), 512)
    assert fit_sessions(unlike, unlike.arrival_s) is None
    few = take(dialogues(), slice(0, 150))
    assert fit_profile(few).sessions is not None


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    n=st.integers(100, 400),
    sessions=st.integers(1, 200),
    kinds=st.integers(1, 60),
    ids=st.booleans(),
)
def test_whatever_is_shared_makes_a_profile(
    seed: int, n: int, sessions: int, kinds: int, ids: bool
) -> None:
    """Few or many sessions, hashes that mean little: a fit is made, and requests from it."""
    generator = np.random.default_rng(seed)
    lengths = generator.integers(1, 400, n)
    trace = block(
        np.sort(generator.random(n)) * 100,
        lengths,
        np.full(n, 5),
        session_id=generator.integers(-1, sessions, n) if ids else None,
    )
    if not ids:
        blocks = lengths // 16
        trace = with_prefixes(trace, blocks, generator.integers(0, kinds, blocks.sum()), 16)
    made = read_all(fit_profile(trace).workload().blocks(Streams(seed)))
    assert len(made) == n
    assert sorted(made.arrival_s) == made.arrival_s.tolist()
