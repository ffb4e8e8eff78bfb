"""The Skype and the spot traces: pooling misleads, and the shipped profiles are what is fitted.

Reference: a pooled lognormal renewal has a KS distance of .435 from the availability of the nodes
of the Skype trace, a hierarchical model .063. Both figures appear for the whole trace, with the
share of the 28.7 days that each of the 2,081 peers was up. Spot zones correlate at .43 within a
region, and at .14 across regions.
"""

from __future__ import annotations

from math import sqrt

import numpy as np
import pytest

from infsim.cluster.availability import Lognormal, Renewal
from infsim.cluster.churn.compare import compare, ks_distance
from infsim.cluster.churn.fit import made_like
from infsim.cluster.churn.made import make_trace
from infsim.cluster.churn.population import fit_population
from infsim.cluster.churn.profile import load_profile
from infsim.cluster.churn.readers import read_churn
from infsim.cluster.churn.sites import fit_sites, make_sites
from infsim.cluster.churn.statistics import availability_of, durations_of, zone_correlation
from infsim.cluster.churn.trace import ChurnTrace
from infsim.paths import data_file
from infsim.rng import Streams
from tests.shared_data import shared

START_S = 4 * 3600.0


@pytest.fixture(scope="module")
def skype() -> ChurnTrace:
    return read_churn([shared("churn/skype/SKYPE.avt")])


@pytest.fixture(scope="module")
def spot() -> ChurnTrace:
    folder = shared("churn/skypilot-spot/aws-02-15-2023")
    return read_churn(sorted(folder.glob("*.json")))


def test_a_pooled_fit_is_far_off(skype: ChurnTrace) -> None:
    """Nodes of a pooled model are up for about its mean share; real ones rarely, or always.

    The reference figure is that of nodes that come up at time 0; a stationary start helps little.
    """
    logs = [np.log(durations_of(skype, up).complete_s) for up in (True, False)]
    up, down = (Lognormal(float(x.mean()), float(x.std())) for x in logs)
    for stationary, expected in ((False, 0.435), (True, 0.385)):
        pooled = Renewal(up, down, stationary)
        found = [
            make_trace([(n, pooled) for n in skype.nodes], skype.duration_s, Streams(seed))
            for seed in range(3)
        ]
        shares = np.concatenate([availability_of(one) for one in found])
        assert ks_distance(availability_of(skype), shares) == pytest.approx(expected, abs=0.015)


def test_a_population_of_unlike_nodes_is_near(skype: ChurnTrace) -> None:
    """Most of what is left are 370 peers, seen once for 412 s when the observation began."""
    for trace, most in ((skype, 0.075), (skype.part(START_S), 0.04)):
        model = fit_population(trace, steady=True)
        made = make_trace([(n, model) for n in trace.nodes], trace.duration_s, Streams(0))
        assert ks_distance(availability_of(trace), availability_of(made)) < most


def test_the_shipped_skype_profile(skype: ChurnTrace) -> None:
    trace = skype.part(START_S)
    profile = load_profile(data_file("traces/churn", "skype-like", (".yaml",)))
    found = compare(trace, [made_like(profile, trace, Streams(7))])
    assert profile.errors["real"] == pytest.approx(found["real"], rel=1e-3)
    real, made = found["real"], found["made"]
    assert made["online_mean"] == pytest.approx(real["online_mean"], rel=0.05)
    assert made["online_sd"] == pytest.approx(real["online_sd"], rel=0.15)
    assert made["online_daily_swing"] == pytest.approx(real["online_daily_swing"], rel=0.15)
    for hours in (1, 6, 12, 24):
        name = f"online_autocorrelation_{hours}h"
        assert made[name] == pytest.approx(real[name], abs=0.15)
    assert found["ks"]["availability"] < 0.05


def test_spot_zones_correlate(spot: ChurnTrace) -> None:
    correlation = zone_correlation(spot)
    assert correlation["within"] == pytest.approx(0.43, abs=0.005)
    assert correlation["across"] == pytest.approx(0.14, abs=0.01)


def test_made_spot_zones_correlate_alike(spot: ChurnTrace) -> None:
    """Zones draw their kind, so that a made trace scatters more than the mean of many."""
    model = fit_sites(spot)
    found = [zone_correlation(make_sites(model, spot, Streams(30, i))) for i in range(20)]
    for kind, real in zone_correlation(spot).items():
        values = [one[kind] for one in found]
        assert np.mean(values) == pytest.approx(
            real, abs=0.04 + 3 * float(np.std(values)) / sqrt(20)
        )
