"""Populations, sites, rhythms, notice; profiles and what scenarios make of them; the commands."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice, pairwise
from math import inf
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from infsim.cluster.availability import (
    Announced,
    AtSite,
    Availability,
    Exponential,
    Joint,
    NodeClass,
    Outage,
    Population,
    Renewal,
    RepeatedTrace,
    Rhythm,
    SampledTrace,
    Shared,
    SiteModel,
    TraceAvailability,
)
from infsim.cluster.availability.joint import union
from infsim.cluster.availability.population import Clock
from infsim.cluster.churn.fit import fit_profile
from infsim.cluster.churn.made import make_trace
from infsim.cluster.churn.profile import ChurnProfile, load_profile, profile_text
from infsim.cluster.churn.statistics import describe, durations_of, online, whole_drops
from infsim.cluster.churn.trace import ChurnTrace, NodeTrace
from infsim.errors import InputError
from infsim.figures import save
from infsim.figures.churn import churn_figure
from infsim.paths import data_names
from infsim.rng import Streams
from tests.command import Command

HOUR = 3600.0


def some(
    availability: Availability, count: int = 40, node: str = "n", seed: int = 0
) -> list[Outage]:
    return list(islice(availability.outages(Streams(seed), node), count))


# --- clocks and rhythms ---------------------------------------------------------------------

rates = st.lists(st.floats(0.01, 100), min_size=1, max_size=8)


@settings(deadline=None)
@given(rates, st.floats(0.1, 1e4), st.floats(0, 1e5), st.floats(0, 1e5))
def test_a_clock_shows_what_went_by(
    speeds: list[float], window_s: float, time_s: float, amount: float
) -> None:
    clock = Clock(window_s, speeds)
    later_s = clock.after(time_s, amount)
    assert later_s >= time_s
    passed = clock.shows(later_s) - clock.shows(time_s)
    assert passed == pytest.approx(amount, rel=1e-6, abs=1e-6 * (1 + clock.shows(time_s)))


def test_a_clock_begins_again() -> None:
    clock = Clock(10.0, (1.0, 3.0))
    assert [clock.shows(time) for time in (5, 10, 15, 20, 35)] == [5, 10, 25, 40, 65]
    assert clock.after(5, 20) == 15
    assert clock.after(15, 40) == 35


def test_all_nodes_of_a_run_begin_at_the_same_moment_of_the_rhythm() -> None:
    rhythm = Rhythm(HOUR, (1.0, 2.0), (1.0, 2.0), name="day")
    begin = {rhythm.begin_s(Streams(seed)) for seed in range(20)}
    assert len(begin) == 20
    assert all(0 <= moment < 2 * HOUR for moment in begin)
    assert rhythm.begin_s(Streams(3)) == rhythm.begin_s(Streams(3))
    assert replace(rhythm, start_s=7.0).begin_s(Streams(3)) == 7


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Rhythm(0.0, (1.0,), (1.0,)), "window of a rhythm must be positive, got 0"),
        (lambda: Rhythm(1.0, (), ()), r"as many factors to join \(0\)"),
        (lambda: Rhythm(1.0, (1.0,), (1.0, 1.0)), r"to leave \(2\)"),
        (lambda: Rhythm(1.0, (0.0,), (1.0,)), r"must be positive, got 0\.0"),
        (lambda: Population(()), "at least one class"),
        (lambda: Population((NodeClass(0, 1, 1),)), "class 0: its weight must be positive, got 0"),
        (lambda: Population((NodeClass(1, -1, 1),)), "Weibull mean must be positive"),
        (lambda: Population((NodeClass(1, 1, 1),), up_shape=0), "shape must be positive"),
        (
            lambda: Population((NodeClass(1, 1, 1e9),), seen_within_s=1.0),
            "class 0: hardly any node that is down for 1e",
        ),
        (lambda: SiteModel(Population((NodeClass(1, 1, 1),)), ()), "0 populations of zones for 1"),
        (lambda: Announced(TraceAvailability(()), -1.0), "notice must not be negative"),
        (lambda: Announced(TraceAvailability(()), 1.0, 2.0), r"must be in \[0, 1\], got 2"),
        (lambda: TraceAvailability(((1, 2),), (1.0, 2.0)), "2 notices for 1 outages"),
        (lambda: ChurnTrace((), 1.0), "has no nodes"),
        (lambda: ChurnTrace((node("a", (0, 5)),), 4.0), "uptimes of 'a' are not sorted within"),
        (lambda: ChurnTrace((node("a", (0, 5)),), 0.0), r"lasts 0\.0 s"),
    ],
)
def test_what_is_impossible_is_refused(make: Any, said: str) -> None:
    with pytest.raises(InputError, match=said):
        make()


# --- outages --------------------------------------------------------------------------------

classes = st.builds(NodeClass, st.floats(0.1, 9), st.floats(1, 1e6), st.floats(1, 1e6))


@settings(deadline=None)
@given(
    st.lists(classes, min_size=1, max_size=4),
    st.sampled_from([0.5, 1.0, 2.0]),
    st.sampled_from([0.0, 30.0]),
    rates,
    st.integers(0, 2**32),
)
def test_outages_of_a_population_are_increasing_disjoint_and_repeatable(
    kinds: list[NodeClass], shape: float, least_s: float, speeds: list[float], seed: int
) -> None:
    rhythm = Rhythm(HOUR, tuple(speeds), tuple(reversed(speeds)))
    model = Population(tuple(kinds), shape, shape, rhythm, least_s)
    found = some(model, seed=seed)
    assert found == some(model, seed=seed)
    assert found[0].down_s >= 0
    assert all(outage.down_s < outage.up_s for outage in found)
    assert all(a.up_s <= b.down_s for a, b in pairwise(found))


spans = st.lists(st.floats(0, 100), unique=True, max_size=16).map(
    lambda edges: [Outage(*pair) for pair in zip(*[iter(sorted(edges))] * 2, strict=False)]
)


@settings(deadline=None)
@given(st.lists(spans, max_size=4))
def test_a_union_is_down_whenever_one_is(parts: list[list[Outage]]) -> None:
    joined = list(union([iter(part) for part in parts]))
    assert all(a.up_s < b.down_s for a, b in pairwise(joined))
    edges = sorted({edge for part in parts for outage in part for edge in outage[:2]})
    for moment in (sum(pair) / 2 for pair in pairwise(edges)):
        down = any(o.down_s <= moment < o.up_s for part in parts for o in part)
        assert down == any(o.down_s <= moment < o.up_s for o in joined)


def test_nodes_of_a_zone_are_down_together_and_others_are_not() -> None:
    process = Renewal(Exponential(100.0), Exponential(10.0))
    rack = Shared("zone", "rack", process)
    assert some(rack, node="a") == some(rack, node="b")
    assert some(rack) != some(Shared("zone", "other", process))
    joint = Joint((Renewal(Exponential(50.0), Exponential(5.0)), rack))
    first, second = (some(joint, 400, node) for node in ("a", "b"))
    assert first != second
    for down, up, _ in some(rack, 50):
        for found in (first, second):
            assert any(o.down_s <= down and up <= o.up_s for o in found)
    assert Joint((rack, TraceAvailability(()))).expected_fraction is None


def test_notice_is_given_of_a_share_of_the_outages() -> None:
    process = Renewal(Exponential(100.0), Exponential(10.0))
    found = some(Announced(process, 120.0, 0.25), 4000)
    assert [o[:2] for o in found] == [o[:2] for o in some(process, 4000)]
    assert {o.notice_s for o in found} == {0.0, 120.0}
    assert np.mean([o.notice_s > 0 for o in found]) == pytest.approx(0.25, abs=0.035)
    assert Announced(process, 1.0).expected_fraction == process.expected_fraction


def test_an_observed_node_does_the_same_again() -> None:
    found = some(RepeatedTrace(((0.0, 4.0), (6.0, 9.0)), 10.0), 5)
    assert [o[:2] for o in found] == [(4, 6), (9, 10), (14, 16), (19, 20), (24, 26)]
    around = some(RepeatedTrace(((2.0, 4.0),), 10.0), 3)  # down around the end: one outage
    assert [o[:2] for o in around] == [(0, 2), (4, 12), (14, 22)]
    assert some(RepeatedTrace(((0.0, 10.0),), 10.0)) == []
    assert some(RepeatedTrace((), 10.0)) == [(0, inf, 0)]
    assert RepeatedTrace(((2.0, 4.0),), 10.0).expected_fraction == 0.2


def test_observed_nodes_are_drawn_without_replacement() -> None:
    observed = tuple(RepeatedTrace(((float(i), 50.0),), 100.0) for i in range(6))
    for seed in range(5):
        found = [some(SampledTrace(observed, "pool", i), 2, seed=seed)[-1] for i in range(6)]
        assert len(set(found)) == 6
    orders = {
        tuple(some(SampledTrace(observed, pool, i), 2)[-1] for i in range(6)) for pool in "abcd"
    }
    assert len(orders) == 4


def test_a_site_draws_its_zones_from_its_region() -> None:
    never = NodeClass(1, 1e12, 1.0)
    model = SiteModel(
        Population((never, never)),
        (Population((NodeClass(1, 10.0, 10.0),)), Population((NodeClass(1, 1000.0, 1000.0),))),
    )
    for region in "abcdef":
        zones = [some(AtSite(model, "test", region, zone), 200) for zone in ("x", "y")]
        means = [np.mean([o.up_s - o.down_s for o in zone[1:]]) for zone in zones]
        assert max(means) < 3 * min(means)  # both from the same kind of region
        assert zones[0] != zones[1]
    assert AtSite(model, "test", "r", "z").expected_fraction == pytest.approx(0.5)


# --- traces ---------------------------------------------------------------------------------


def node(name: str, *up: tuple[float, float], zone: str = "") -> NodeTrace:
    return NodeTrace(name, np.array(up, dtype=np.float64).reshape(-1, 2), zone, zone[:1])


def test_a_part_of_a_trace() -> None:
    trace = ChurnTrace((node("a", (0, 10), (20, 30)), node("b", (0, 4))), 40.0)
    part = trace.part(5.0, 25.0)
    assert part.duration_s == 20
    assert [(n.name, n.up.tolist()) for n in part.nodes] == [("a", [[0, 5], [15, 20]])]
    assert trace.scaled(0.5).nodes[0].up.tolist() == [[0, 5], [10, 15]]
    with pytest.raises(InputError, match="nothing of 'trace' lies between 50 s and 40 s"):
        trace.part(50.0)
    with pytest.raises(InputError, match="has no nodes"):
        trace.part(35.0)


def test_durations_and_their_censoring() -> None:
    trace = ChurnTrace((node("a", (0, 10), (20, 30)), node("b", (25, 40))), 40.0)
    up = durations_of(trace)
    assert up.seen_s.tolist() == [10, 10, 15]
    assert (up.began & up.ended).tolist() == [False, True, False]
    assert up.mean_s == 35 / 2  # two ends
    assert up.complete_s.tolist() == [10]
    assert up.quantile_s(0.5) == 10
    assert up.quantile_s(0.9) == inf
    down = durations_of(trace, up=False)
    assert down.seen_s.tolist() == [10, 10, 25]
    assert down.complete_s.tolist() == [10]


def test_figures_of_a_trace() -> None:
    members = [node(f"a{i}", (0, 40), (50, 70 + 5 * i), zone="ax") for i in range(2)]
    trace = ChurnTrace((*members, node("b", (0, 40), (60, 90), zone="ay")), 100.0)
    assert online(trace.nodes, np.array([1.0, 45, 65, 95])).tolist() == [3, 0, 3, 0]
    assert whole_drops(trace) == 2 / 3  # at 40 both, at 70 one, at 75 the last
    figures = describe(trace)
    assert figures["online_mean"] == pytest.approx((3 * 40 + 20 + 25 + 30) / 100, abs=0.02)
    # means 1.25 and .7 of the zones, of their squares 2.45 and .7, of their product 1.05
    expected = (1.05 - 1.25 * 0.7) / ((2.45 - 1.25**2) * 0.7 * 0.3) ** 0.5
    within = figures["zone_correlation"]["within"]  # type: ignore[index]
    assert within == pytest.approx(expected, abs=0.01)


# --- profiles -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def observed() -> ChurnTrace:
    model = Population((NodeClass(1, 2e4, 2e4), NodeClass(1, 5e3, 5e4)))
    like = [(node(f"n{i}"), model) for i in range(60)]
    return make_trace(like, 8 * 86400.0, Streams(4))


@pytest.fixture(scope="module")
def profile(observed: ChurnTrace) -> ChurnProfile:
    return fit_profile(observed, "mine", {"trace": "made up"}, seeds=2)


SITES = ChurnProfile(
    SiteModel(
        Population((NodeClass(2, 9e4, 4e4),)),
        (Population((NodeClass(1, 3e3, 8e3), NodeClass(1, 5e3, 2e3)), 0.5, 0.6, least_s=585.0),),
        Population((NodeClass(1, 7e5, 4e4),)),
        Population((NodeClass(1, 1e5, 1e3),)),
    ),
    "sites",
)


def test_a_profile_is_read_as_it_was_written(profile: ChurnProfile, tmp_path: Path) -> None:
    for one in (profile, SITES):
        path = tmp_path / f"{one.name}.yaml"
        path.write_text(profile_text(one))
        again = load_profile(path)
        assert profile_text(again) == path.read_text()
        assert (again.name, again.source) == (one.name, one.source)
        assert type(again.model) is type(one.model)
        for place in (("r", "z"), ("s", "z")):
            first, second = (some(p.availability(*place), 10) for p in (one, again))
            assert np.allclose(first, second, rtol=1e-3)


def test_a_fitted_profile_is_near_its_trace(profile: ChurnProfile) -> None:
    errors = profile.errors
    assert errors["made"]["online_mean"] == pytest.approx(errors["real"]["online_mean"], rel=0.2)
    assert errors["ks"]["availability"] < 0.25
    assert profile.model.rhythm.window_s >= 7200


def test_nothing_is_fitted_to_nodes_that_never_change() -> None:
    with pytest.raises(InputError, match="no node of 'trace' comes and goes"):
        fit_profile(ChurnTrace((node("a", (0, 10)),), 10.0), "x")
    with pytest.raises(InputError, match="zone 'z' is always up, or never"):
        fit_profile(ChurnTrace((node("a", (0, 10), zone="z"),), 10.0), "x")


GOOD = {
    "kind": "churn-profile",
    "version": 1,
    "model": {"classes": [[1, 10, 20]]},
    "rhythm": {"window_s": 10, "join": [1, 2], "leave": [1, 2]},
}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"kind": "trace-profile"}, "no churn profile: 'kind: churn-profile' is missing"),
        ({"version": 2}, "version is 2, known is 1"),
        ({"modle": 1}, "unknown entry 'modle'; did you mean 'model'"),
        ({"model": None}, "model: no mapping"),
        ({"model": {"classes": 5}}, "model: 'classes' is no list"),
        ({"model": {"classes": [[1, 2]]}}, r"class 0 is not a weight and two mean times: \[1, 2\]"),
        ({"model": {"classes": [[1, 2, "x"]]}}, r"model.classes\[0\]: 'x' is not a number"),
        ({"model": {"classes": [[1, 2, -3]]}}, "Weibull mean must be positive and finite, got -3"),
        ({"model": {"classes": [], "shape": 1}}, "unknown entry 'shape'"),
        (
            {"model": {"regions": {"classes": [[1, 2, 3]]}}},
            "needs 'classes' of nodes, or 'regions'",
        ),
        ({"model": {"regions": {"classes": [[1, 2, 3]]}, "zones": []}}, "0 populations of zones"),
        ({"model": {"regions": None, "zones": []}}, "model.regions: no mapping"),
        ({"rhythm": {"window_s": 1, "join": [1], "leave": 2}}, "rhythm: 2 is no list of numbers"),
        ({"rhythm": {"window_s": 1, "join": [1], "leave": [0]}}, "must be positive, got 0"),
        ({"source": "web"}, "'source' is no mapping"),
    ],
)
def test_damaged_profiles_are_refused(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    path = tmp_path / "p.yaml"
    path.write_text(yaml.safe_dump(GOOD))
    assert load_profile(path).model.rhythm.join == (1.0, 2.0)
    path.write_text(yaml.safe_dump(GOOD | change))
    with pytest.raises(InputError, match=said) as error:
        load_profile(path)
    assert "p.yaml" in str(error.value)


plain = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)


@settings(
    deadline=None, max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.sampled_from(["model", "rhythm", "source", "errors"]), plain)
def test_profiles_of_nonsense_never_crash(tmp_path: Path, section: str, nonsense: Any) -> None:
    path = tmp_path / "p.yaml"
    path.write_text(yaml.safe_dump(GOOD | {section: nonsense}), encoding="utf-8")
    try:
        load_profile(path)
    except InputError as error:
        assert "p.yaml" in str(error)  # noqa: PT017


@pytest.mark.parametrize("name", data_names("traces/churn", (".yaml",)))
def test_shipped_profiles_make_nodes(name: str) -> None:
    from infsim.paths import data_file

    path = data_file("traces/churn", name, (".yaml",))
    found = load_profile(path)
    assert path.stat().st_size < 16_000
    assert found.source["url"]
    assert set(found.errors) == {"real", "made", "made_sd", "ks"}
    for i in range(20):
        outages = some(found.availability("r", f"z{i}"), 3, f"n{i}")
        assert all(o.down_s < o.up_s for o in outages)


# --- figures and commands -------------------------------------------------------------------


def test_the_figure_of_a_trace(observed: ChurnTrace, tmp_path: Path) -> None:
    traces = [("real", observed), ("made", observed.part(0.0, 5 * 86400.0))]
    figure = churn_figure(traces)
    labels = [axes.get_xlabel() for axes in figure.axes]
    assert labels == ["days", "availability of a node", "uptime (hours)", "downtime (hours)"]
    counts = figure.axes[0].get_lines()[0].get_ydata()
    assert np.mean(np.asarray(counts)) == pytest.approx(
        sum(n.up_s for n in observed.nodes) / observed.duration_s, rel=0.02
    )
    for name in ("a.png", "b.png"):
        save(churn_figure(traces), tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def avt(trace: ChurnTrace) -> Iterator[str]:
    for one in trace.nodes:
        yield f"{one.name} {len(one.up)} {' '.join(f'{edge:.0f}' for edge in one.up.ravel())}"


def test_stats_and_fit(infsim: Command, observed: ChurnTrace, tmp_path: Path) -> None:
    (tmp_path / "t.avt").write_text("\n".join(avt(observed)))
    told = infsim("churn", "stats", "t.avt", "--start", "1 h", "--figure", "f.png")
    assert told.code == 0, told.err
    assert "online_mean" in told.out
    assert "lognormal" in told.out
    assert (tmp_path / "f.png").stat().st_size > 1000
    fitted = infsim("churn", "fit", "t.avt", "-o", "like.yaml", "--source", "url=here", "--steady")
    assert fitted.code == 0, fitted.err
    assert "KS distance of availability" in fitted.out
    found = load_profile(tmp_path / "like.yaml")
    assert found.source == {"files": "t.avt", "url": "here", "made_with": "infsim churn fit"}


def test_stats_of_a_trace_in_which_hardly_anything_ends(infsim: Command, tmp_path: Path) -> None:
    """All else is told; a distribution cannot be fitted to one duration, or to equal ones."""
    (tmp_path / "t.avt").write_text("a 2 0 10 20 30\nb 3 0 30 40 50 60 80\nc 1 5 100\n")
    told = infsim("churn", "stats", "t.avt")
    assert told.code == 0, told.err
    assert "online_mean" in told.out
    assert "3 complete durations, all equal: at least two that differ are needed" in told.out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("stats", "none.avt"), "none.avt: cannot read it"),
        (("stats", "t.avt", "--start", "5"), "--start: '5' has no unit"),
        (("stats", "t.avt", "--start", "9 h"), "nothing of 't' lies between"),
        (("fit", "t.avt", "-o", "x.yaml", "--source", "url"), "--source: 'url' is not KEY=TEXT"),
        (("fit", "t.avt", "-o", "x.yaml", "--format", "csw"), "unknown format 'csw'"),
    ],
)
def test_bad_commands(infsim: Command, tmp_path: Path, arguments: Any, said: str) -> None:
    (tmp_path / "t.avt").write_text("a 2 0 10 20 30\nb 1 5 25\n")
    ended = infsim("churn", *arguments)
    assert ended.code == 2
    assert said in ended.err
    assert not (tmp_path / "x.yaml").exists()
