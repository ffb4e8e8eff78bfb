"""Churn against theory: availability, correlation of sites, and fits that find what was put in."""

from __future__ import annotations

from math import log, sqrt

import numpy as np
import pytest

from infsim.cluster.availability import (
    AtSite,
    Availability,
    Duration,
    Exponential,
    Joint,
    Lognormal,
    NodeClass,
    Population,
    Renewal,
    Rhythm,
    Shared,
    Shifted,
    SiteModel,
    Weibull,
)
from infsim.cluster.churn.durations import fit_durations
from infsim.cluster.churn.made import make_trace
from infsim.cluster.churn.population import fit_classes, fit_population
from infsim.cluster.churn.rhythm import Flows
from infsim.cluster.churn.sites import fit_sites
from infsim.cluster.churn.statistics import (
    availability_of,
    durations_of,
    grid,
    online,
    zone_correlation,
)
from infsim.cluster.churn.trace import ChurnTrace, NodeTrace
from infsim.rng import Streams

DAY = 86400.0


def blank(names: list[tuple[str, str]]) -> list[NodeTrace]:
    """Return nodes of zones and regions of which nothing is known yet."""
    nothing = np.empty((0, 2))
    return [NodeTrace(f"n{i}", nothing, *place) for i, place in enumerate(names)]


def made(model: Availability, nodes: int, duration_s: float, seed: int = 1) -> ChurnTrace:
    like = blank([("", "")] * nodes)
    return make_trace([(node, model) for node in like], duration_s, Streams(seed))


# --- processes ------------------------------------------------------------------------------


def test_availability_of_a_population_is_the_mean_over_its_classes() -> None:
    """E[up / (up + down)], not E[up] / (E[up] + E[down]): pooling would say 101 / 202."""
    model = Population((NodeClass(1, 1.0, 1.0), NodeClass(3, 100.0, 10.0), NodeClass(1, 1.0, 9.0)))
    expected = (0.5 + 3 * 100 / 110 + 0.1) / 5
    assert model.expected_fraction == pytest.approx(expected)
    shares = availability_of(made(model, 3000, 500.0))
    assert shares.mean() == pytest.approx(expected, abs=5 * shares.std() / sqrt(3000))


@pytest.mark.parametrize("shape", [0.5, 1.0, 2.0])
def test_a_population_is_stationary(shape: float) -> None:
    model = Population((NodeClass(1, 60.0, 40.0),), up_shape=shape, down_shape=shape, least_s=10.0)
    trace = made(model, 4000, 300.0)
    counts = online(trace.nodes, np.array([0.5, 20.0, 100.0, 299.0]))
    assert counts / 4000 == pytest.approx(0.6, abs=5 * sqrt(0.24 / 4000))


def test_shifted_durations_follow_renewal_theory() -> None:
    """The duration that covers a random moment has mean E[X^2] / E[X]; half of it is left."""
    duration = Shifted(30.0, Exponential(20.0))
    rng = np.random.default_rng(3)
    x = np.array([duration.draw(rng) for _ in range(20_000)])
    biased = np.array([duration.draw_length_biased(rng) for _ in range(20_000)])
    rest = np.array([duration.draw_residual(rng) for _ in range(20_000)])
    covering = (50.0**2 + 20.0**2) / 50.0
    assert x.mean() == pytest.approx(duration.mean_s, rel=0.02)
    assert x.min() >= 30
    assert biased.mean() == pytest.approx(covering, rel=0.02)
    assert rest.mean() == pytest.approx(covering / 2, rel=0.03)


def test_a_rhythm_multiplies_the_hazards() -> None:
    """With hazards l a(t) and m b(t), the share of nodes up follows its differential equation."""
    rhythm = Rhythm(50.0, (3.0, 0.2), (0.5, 1.5), start_s=0.0)
    model = Population((NodeClass(1, 40.0, 40.0),), rhythm=rhythm)
    nodes, times = 6000, np.arange(5.0, 400.0, 10.0)
    found = online(made(model, nodes, 400.0).nodes, times) / nodes
    share, expected, step = 0.5, [], 0.01
    for k in range(40_000):
        if abs((k * step - 5.0) % 10.0) < step / 2:
            expected.append(share)
        window = int(k * step // 50.0) % 2
        share += step * ((1 - share) * rhythm.join[window] - share * rhythm.leave[window]) / 40.0
    assert found == pytest.approx(np.array(expected[: len(times)]), abs=5 * sqrt(0.25 / nodes))


@pytest.mark.parametrize("own", [0.6, 0.9])
def test_correlation_of_nodes_that_share_a_zone(own: float) -> None:
    """Two nodes up with a s each and a^2 s together correlate at (1 - s) / s x odds of a s."""
    shared = 0.8
    parts = (
        Renewal(Exponential(10 * own), Exponential(10 * (1 - own))),
        Shared(
            "zone", "rack", Renewal(Exponential(80.0 * shared), Exponential(80.0 * (1 - shared)))
        ),
    )
    model = Joint(parts)
    assert model.expected_fraction == pytest.approx(own * shared)
    trace = made(model, 40, 40_000.0)
    times = grid(trace.duration_s, 0.0)
    up = np.array([online([node], times) for node in trace.nodes], dtype=float)
    found = np.corrcoef(up)[~np.eye(40, dtype=bool)].mean()
    odds = own * shared / (1 - own * shared)
    assert up.mean() == pytest.approx(own * shared, abs=0.03)
    assert found == pytest.approx((1 - shared) / shared * odds, abs=0.05)


# --- fits -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("family", "truth"),
    [
        ("exponential", Exponential(50.0)),
        ("weibull", Weibull(0.6, 40.0)),
        ("weibull", Weibull(2.0, 40.0)),
        ("lognormal", Lognormal(log(30.0), 0.7)),
    ],
)
def test_parameters_are_recovered_from_censored_durations(family: str, truth: Duration) -> None:
    """An observation of a few mean times cuts off many; what was seen of them still tells."""
    trace = made(Renewal(truth, Exponential(5.0)), 5000, 3 * truth.mean_s)
    found = durations_of(trace)
    fits = fit_durations(found)
    assert (found.began & ~found.ended).mean() > 0.15
    best = fits[0]
    by_family = {fit.family: fit for fit in fits}
    assert by_family[family].aic <= best.aic + 4
    assert by_family[family].ks < 0.02
    fitted = by_family[family].distribution
    assert vars(fitted) == pytest.approx(vars(truth), rel=0.06)


def test_leaving_out_what_was_cut_off_would_be_wrong() -> None:
    trace = made(Renewal(Exponential(50.0), Exponential(5.0)), 3000, 60.0)
    found = durations_of(trace)
    assert found.mean_s == pytest.approx(50.0, rel=0.06)
    assert found.complete_s.mean() < 25
    assert found.quantile_s(0.5) == pytest.approx(50 * log(2), rel=0.1)


def test_what_was_under_way_is_longer_than_what_begins() -> None:
    """Taking the uptimes at time 0 for whole ones would be the inspection paradox."""
    truth = Weibull(0.5, 20.0)
    found = durations_of(made(Renewal(truth, Exponential(20.0)), 4000, 400.0))
    under_way = found.seen_s[~found.began & found.ended]
    assert under_way.mean() > 1.5 * found.complete_s.mean()
    assert found.quantile_s(0.5) == pytest.approx(20 * log(2) ** 2, rel=0.06)


def test_classes_are_recovered() -> None:
    truth = Population((NodeClass(1, 2.0, 20.0), NodeClass(2, 30.0, 3.0)))
    trace = made(truth, 1200, 400.0)
    found = Population(fit_classes(trace, truth.rhythm), seen_within_s=400.0)
    rare = [item for item in found.classes if item.fraction < 0.5]
    often = [item for item in found.classes if item.fraction >= 0.5]
    total = sum(item.weight for item in found.classes)
    assert sum(item.weight for item in rare) / total == pytest.approx(1 / 3, abs=0.04)
    for part, up_s, down_s in ((rare, 2.0, 20.0), (often, 30.0, 3.0)):
        weights = [item.weight for item in part]
        assert np.average([item.up_mean_s for item in part], weights=weights) == pytest.approx(
            up_s, rel=0.15
        )
        assert np.average([item.down_mean_s for item in part], weights=weights) == pytest.approx(
            down_s, rel=0.15
        )


def test_nodes_that_were_never_seen_are_not_in_a_trace() -> None:
    """With them the mean availability is w f / P(seen): rare nodes are rarer than they look."""
    model = Population((NodeClass(1, 10.0, 1000.0),), seen_within_s=500.0)
    trace = made(model, 3000, 500.0)
    assert all(len(node.up) for node in trace.nodes)
    shares = availability_of(trace)
    assert shares.mean() == pytest.approx(model.expected_fraction, abs=5 * shares.std() / 54)
    steady = fit_classes(trace, model.rhythm)
    down_s = np.average([c.down_mean_s for c in steady], weights=[c.weight for c in steady])
    assert down_s == pytest.approx(1000.0, rel=0.25)


def test_a_rhythm_is_recovered() -> None:
    day = Rhythm(3600.0 * 4, (0.3, 0.5, 1.5, 2.4, 0.9, 0.4), (1.5, 0.7, 0.5, 0.8, 1.2, 1.3), 0.0)
    truth = Population((NodeClass(1, 4e4, 4e4), NodeClass(1, 8e3, 1e5)), rhythm=day)
    trace = made(truth, 800, 12 * DAY)
    found = fit_population(trace, window_s=3600.0 * 4)
    times = grid(trace.duration_s)
    real = online(trace.nodes, times)
    ours = online(made(found, 800, 12 * DAY, seed=5).nodes, times)
    assert ours.mean() == pytest.approx(real.mean(), rel=0.06)
    assert ours.std() == pytest.approx(real.std(), rel=0.2)
    assert np.corrcoef(real, ours)[0, 1] > 0.85
    join, _ = Flows.of(trace, day.window_s).folded(6).factors()
    assert int(np.argmax(join)) == 3


def test_correlations_of_zones_are_recovered() -> None:
    """Zones of two regions, with outages of regions and of everywhere."""
    truth = SiteModel(
        Population((NodeClass(1, 6e4, 1.5e4),)),
        (Population((NodeClass(1, 9e3, 2e3),)),),
        Population((NodeClass(1, 3e5, 2e4),)),
    )
    places = [(f"z{i}", "r" + "ab"[i % 2]) for i in range(8)]
    like = blank([(zone, region) for zone, region in places])

    def observed(model: SiteModel, seed: int, days: float) -> ChurnTrace:
        nodes = [(n, AtSite(model, "test", n.region, n.zone)) for n in like]
        return make_trace(nodes, days * DAY, Streams(seed))

    trace = observed(truth, 1, 150)
    found = fit_sites(trace, steady=True)
    wanted = zone_correlation(trace)
    ours = [zone_correlation(observed(found, 50 + i, 150)) for i in range(3)]
    for kind in ("within", "across"):
        assert np.mean([one[kind] for one in ours]) == pytest.approx(wanted[kind], abs=0.07)
    assert wanted["within"] > wanted["across"] + 0.1
    (fitted,) = {item.fraction for item in found.regions.classes[:1]}
    assert fitted == pytest.approx(truth.regions.classes[0].fraction, abs=0.06)
    assert found.everywhere is not None
    assert found.everywhere.classes[0].fraction == pytest.approx(3e5 / 3.2e5, abs=0.05)
