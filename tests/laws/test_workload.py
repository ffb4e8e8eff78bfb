"""Laws of every workload: sorted, conserved, the same for the same seed, whatever the blocks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infsim.errors import InputError
from infsim.rng import Streams
from infsim.workload.arrivals import Arrivals, Deterministic, Gamma, Poisson
from infsim.workload.blocks import block, concatenate, read_all, resize, take, with_prefixes
from infsim.workload.cascade import Cascade
from infsim.workload.lengths import (
    Constant,
    Discrete,
    Independent,
    Lengths,
    Lognormal,
    Pairs,
    Quantiles,
    Uniform,
)
from infsim.workload.merge import Merge
from infsim.workload.rank_grid import RankGrid
from infsim.workload.requests import Requests, Workload
from infsim.workload.sessions import Sessions
from infsim.workload.synthetic import Synthetic
from infsim.workload.transform import (
    AssignClients,
    AssignSamples,
    AssignSessions,
    Cut,
    Limit,
    Rescale,
    mean_rate,
)

quick = settings(deadline=None, max_examples=50)


@dataclass(frozen=True)
class Given:
    """A workload of requests that are given."""

    requests: Requests
    size: int

    def blocks(self, streams: Streams) -> Iterator[Requests]:
        return resize([self.requests], self.size)


def digest(requests: Requests) -> tuple[bytes | int | None, ...]:
    """Everything that is in a block, comparable."""
    values = (getattr(requests, field.name) for field in fields(requests))
    return tuple(v.tobytes() if isinstance(v, np.ndarray) else v for v in values)


def requests_of(workload: Workload, seed: int = 1) -> Requests:
    return read_all(workload.blocks(Streams(seed)))


@st.composite
def given_requests(draw: st.DrawFn, hashed: bool | None = None) -> Requests:
    n = draw(st.integers(1, 40))
    tokens = st.lists(st.integers(1, 5000), min_size=n, max_size=n)
    # few different times, so that ties are common
    times = sorted(draw(st.lists(st.integers(0, 12), min_size=n, max_size=n)))
    requests = block(
        np.array(times) * 0.5,
        np.array(draw(tokens)),
        np.array(draw(tokens)),
        session_id=np.array(draw(st.lists(st.integers(-1, 4), min_size=n, max_size=n))),
    )
    if not (draw(st.booleans()) if hashed is None else hashed):
        return requests
    lengths = np.array(draw(st.lists(st.integers(0, 3), min_size=n, max_size=n)))
    return with_prefixes(requests, lengths, np.arange(lengths.sum()), 512)


workloads = st.builds(Given, given_requests(), st.integers(1, 50))

LENGTHS: dict[str, Lengths] = {
    "constant": Independent(Constant(100), Constant(7)),
    "uniform": Independent(Uniform(1, 9), Uniform(5, 5)),
    "lognormal": Independent(Lognormal(200, 1.5, low=3, high=900), Lognormal(50, 0.3)),
    "quantiles": Independent(Quantiles([0, 0.2, 1], [1, 5, 80]), Quantiles([0, 1], [2, 2])),
    "discrete": Independent(Discrete([1, 7, 30], [2, 0, 1]), Constant(3)),
    "pairs": Pairs([1, 10, 100], [3, 2, 1], [0.5, 0, 2]),
    "grid": RankGrid(
        Quantiles([0, 1], [1, 1000]),
        Quantiles([0, 1], [1, 100]),
        [[1, 2, 0, 1], [0, 0, 0, 0], [0, 0, 9, 1]],
        cycle_s=40.0,
        drift=[0.1, 0.05],
    ),
}
ARRIVALS: dict[str, Arrivals] = {
    "poisson": Poisson(3.0),
    "gamma": Gamma(3.0, cv=4.0),
    "deterministic": Deterministic(3.0),
    "cascade": Cascade(
        [5, 0, 130.5, 2],
        10.0,
        [[0.3] * 6, [0.0] * 6, [-1.0, -0.4, -0.1, 0.2, -0.02, -0.01], [0.8, 0.9] * 3],
        cycles=None,
    ),
}


def synthetic(arrivals: Arrivals, lengths: Lengths) -> Callable[[int], Workload]:
    return lambda size: Synthetic(arrivals, lengths, size)


SYNTHETIC: dict[str, Callable[[int], Workload]] = {
    **{name: synthetic(arrivals, LENGTHS["grid"]) for name, arrivals in ARRIVALS.items()},
    **{name: synthetic(Poisson(5.0), lengths) for name, lengths in LENGTHS.items()},
    "sessions": lambda b: Sessions(
        Gamma(0.5, cv=2), LENGTHS["lognormal"], system_tokens=300, max_context=4000, block=b
    ),
    "transformed": lambda b: Merge(
        [
            AssignSessions(Synthetic(Poisson(2.0), LENGTHS["pairs"], b), 5, 64),
            AssignSamples(
                AssignClients(Synthetic(Gamma(1.0, 2), LENGTHS["grid"], b), [1, 0, 2]), 10
            ),
        ]
    ),
}


@pytest.mark.parametrize("name", SYNTHETIC)
def test_made_requests_are_sane_and_repeatable_whatever_the_block(name: str) -> None:
    expected = requests_of(Limit(SYNTHETIC[name](100), requests=700))
    assert len(expected) == 700
    assert expected.arrival_s[0] >= 0
    assert (np.diff(expected.arrival_s) >= 0).all()
    assert expected.input_tokens.min() >= 1
    assert expected.output_tokens.min() >= 1
    for size in (1, 13, 700, 4096):
        again = requests_of(Limit(SYNTHETIC[name](size), requests=700))
        assert digest(again) == digest(expected)
    other = requests_of(Limit(SYNTHETIC[name](100), requests=700), seed=2)
    if name != "deterministic":
        assert other.arrival_s.tobytes() != expected.arrival_s.tobytes()


@pytest.mark.parametrize("name", LENGTHS)
def test_lengths_do_not_change_the_arrivals(name: str) -> None:
    """Common random numbers: another distribution of lengths, the same arrivals."""
    some = requests_of(Limit(Synthetic(Poisson(2.0), LENGTHS[name]), requests=100))
    other = requests_of(Limit(Synthetic(Poisson(2.0), LENGTHS["constant"]), requests=100))
    assert some.arrival_s.tobytes() == other.arrival_s.tobytes()


@quick
@given(workloads, st.integers(1, 60), st.integers(1, 13))
def test_limit_is_a_beginning(workload: Given, count: int, half_seconds: int) -> None:
    whole = workload.requests
    assert digest(requests_of(Limit(workload, requests=count))) == digest(
        take(whole, slice(0, count))
    )
    by_time = requests_of(Limit(workload, duration_s=half_seconds / 2))
    assert len(by_time) == (whole.arrival_s < half_seconds / 2).sum()


@quick
@given(workloads, st.integers(1, 11), st.integers(1, 12))
def test_cuts_put_together_are_the_whole(workload: Given, first: int, more: int) -> None:
    a, b = first / 2, (first + more) / 2
    parts = [requests_of(Cut(workload, *window)) for window in ((0, a), (a, b), (b, np.inf))]
    joined = np.concatenate(
        [part.arrival_s + start for part, start in zip(parts, (0, a, b), strict=True)]
    )
    assert joined.tolist() == workload.requests.arrival_s.tolist()
    assert sum(part.input_tokens.sum() for part in parts) == workload.requests.input_tokens.sum()
    hashes = [part.prefix_hashes for part in parts if part.prefix_hashes is not None]
    if workload.requests.prefix_hashes is not None and hashes:
        assert np.concatenate(hashes).tolist() == workload.requests.prefix_hashes.tolist()


@quick
@given(workloads, st.floats(0.01, 100))
def test_rescaling_changes_times_only(workload: Given, factor: float) -> None:
    scaled = requests_of(Rescale(workload, time_factor=factor))
    expected = replace(workload.requests, arrival_s=workload.requests.arrival_s * factor)
    assert digest(scaled) == digest(expected)


@quick
@given(workloads, st.floats(0.01, 100))
def test_rescaling_reaches_the_rate(workload: Given, rate: float) -> None:
    if workload.requests.arrival_s[0] == workload.requests.arrival_s[-1]:
        with pytest.raises(InputError, match="no rate"):
            requests_of(Rescale(workload, rate_per_s=rate))
    else:
        scaled = Rescale(workload, rate_per_s=rate)
        assert mean_rate(scaled, Streams(0)) == pytest.approx(rate)


@quick
@given(st.lists(st.builds(Given, given_requests(), st.integers(1, 9)), min_size=1, max_size=4))
def test_a_merge_has_all_requests_in_order(parts: list[Given]) -> None:
    merged = requests_of(Merge(parts))
    assert (np.diff(merged.arrival_s) >= 0).all()
    # stable: by time, then by part, then by place in the part
    whole = concatenate([part.requests for part in parts])
    order = np.argsort(whole.arrival_s, kind="stable")
    assert merged.input_tokens.tolist() == whole.input_tokens[order].tolist()
    assert merged.output_tokens.tolist() == whole.output_tokens[order].tolist()
    resized = requests_of(Merge([Given(part.requests, 1 + part.size % 3) for part in parts]))
    assert digest(merged) == digest(resized)


@quick
@given(given_requests(hashed=True))
def test_parts_of_a_merge_share_nothing(requests: Requests) -> None:
    """The same trace twice: two populations, each with the sessions and prefixes of one."""
    merged = requests_of(Merge([Given(requests, 7), Given(requests, 7)]))
    assert requests.prefix_hashes is not None
    assert merged.prefix_hashes is not None
    assert len(np.unique(merged.prefix_hashes)) == 2 * len(np.unique(requests.prefix_hashes))
    in_sessions = merged.session_id[merged.session_id >= 0]
    known = requests.session_id[requests.session_id >= 0]
    assert len(in_sessions) == 2 * len(known)
    assert len(np.unique(in_sessions)) == 2 * len(np.unique(known))


def test_parts_of_a_merge_draw_independently() -> None:
    part = Limit(Synthetic(Poisson(1.0), LENGTHS["constant"]), requests=50)
    merged = requests_of(Merge([part, part]))
    assert len(np.unique(merged.arrival_s)) == 100


@quick
@given(workloads, st.lists(st.integers(0, 3), min_size=1, max_size=4).filter(any))
def test_clients_are_assigned_by_weight_and_session(workload: Given, weights: list[int]) -> None:
    assigned = requests_of(AssignClients(workload, weights))
    assert digest(replace(assigned, client=workload.requests.client)) == digest(workload.requests)
    assert all(weights[client] > 0 for client in assigned.client)
    for session in set(assigned.session_id.tolist()) - {-1}:
        assert len(set(assigned.client[assigned.session_id == session].tolist())) == 1


@quick
@given(workloads, st.integers(1, 5))
def test_samples_and_sessions_are_in_range(workload: Given, count: int) -> None:
    sampled = requests_of(AssignSamples(workload, count))
    assert set(sampled.sample_id.tolist()) <= set(range(count))
    grouped = requests_of(AssignSessions(workload, count, prefix_tokens=64))
    assert set(grouped.session_id.tolist()) <= set(range(count))
    assert grouped.arrival_s.tolist() == workload.requests.arrival_s.tolist()
    assert grouped.input_tokens.tolist() == workload.requests.input_tokens.tolist()
    assert_prefixes_fit(grouped)


def assert_prefixes_fit(requests: Requests) -> None:
    """No more hashed blocks than the prompt has."""
    assert requests.prefix_offsets is not None
    blocks = np.diff(requests.prefix_offsets)
    assert (blocks * requests.prefix_block_tokens <= requests.input_tokens).all()


def test_a_turn_continues_the_one_before() -> None:
    system = 300
    sessions = Sessions(
        Poisson(1.0), LENGTHS["lognormal"], turns=5, system_tokens=system, prefix_block_tokens=16
    )
    requests = requests_of(Limit(sessions, requests=200))
    assert_prefixes_fit(requests)
    assert requests.prefix_offsets is not None
    assert requests.prefix_hashes is not None
    prompts = np.split(requests.prefix_hashes, requests.prefix_offsets[1:-1])
    shared = system // 16
    several = 0
    for session in np.unique(requests.session_id):
        turns = np.flatnonzero(requests.session_id == session)
        several += len(turns) > 1
        for before, after in pairwise(turns):
            grown = requests.input_tokens[before] + requests.output_tokens[before]
            assert requests.input_tokens[after] > grown
            assert requests.arrival_s[after] > requests.arrival_s[before]
            known = len(prompts[before])
            assert prompts[after][:known].tolist() == prompts[before].tolist()
            # nobody else has what comes after the system prompt
            assert not set(prompts[after][shared:]) & {
                value
                for other in range(len(requests))
                if requests.session_id[other] != session
                for value in prompts[other]
            }
        assert prompts[turns[0]][:shared].tolist() == prompts[0][:shared].tolist()
    assert several > 20


def test_sessions_are_in_order_however_many() -> None:
    """Thousands of sessions, drawn in several parts, whose turns overlap."""
    sessions = Sessions(Poisson(50.0), LENGTHS["constant"], turns=3, think_s=60)
    requests = requests_of(Limit(sessions, requests=10_000))
    assert requests.session_id.max() > 3000
    assert (np.diff(requests.arrival_s) >= 0).all()
    # the k-th session has not begun before the one before it
    _, first = np.unique(requests.session_id, return_index=True)
    assert (np.diff(first) > 0).all()


@quick
@given(given_requests(), st.integers(1, 50), st.integers(1, 50))
def test_resizing_keeps_everything(requests: Requests, first: int, second: int) -> None:
    parts = list(resize(resize([requests], first), second))
    assert all(len(part) == second for part in parts[:-1])
    assert digest(concatenate(parts)) == digest(requests)


@pytest.mark.parametrize(
    "make",
    [
        lambda w: Limit(w, requests=0),
        lambda w: Limit(w, duration_s=0),
        lambda w: Cut(w, 5, 5),
        lambda w: Rescale(w),
        lambda w: Rescale(w, rate_per_s=-1),
        lambda w: AssignClients(w, [0, 0]),
        lambda w: AssignClients(w, [1, -1]),
        lambda w: AssignSamples(w, 0),
        lambda w: AssignSessions(w, 0),
        lambda w: Merge([]),
        lambda w: Poisson(0),
        lambda w: Gamma(1, 0),
        lambda w: Cascade([0, 0], 1),
        lambda w: Cascade([1], 1, [[1.0] * 6]),
        lambda w: Cascade([1], 1, [[-1.1] * 6]),
        lambda w: Cascade([1], 1, [[0.5] * 5]),
        lambda w: Uniform(5, 4),
        lambda w: Constant(0),
        lambda w: Lognormal(-1, 1),
        lambda w: Quantiles([0, 1], [5, 1]),
        lambda w: Quantiles([0, 0.5], [1, 5]),
        lambda w: Pairs([], []),
        lambda w: Discrete([2, 1], [1, 1]),
        lambda w: Discrete([1, 2], [0, 0]),
        lambda w: Pairs([1, 2], [1]),
        lambda w: Sessions(Poisson(1), LENGTHS["pairs"], turns=0.5),
    ],
)
def test_nonsense_is_refused(make: Callable[[Workload], object]) -> None:
    with pytest.raises(InputError):
        make(Synthetic(Poisson(1.0), LENGTHS["constant"]))
