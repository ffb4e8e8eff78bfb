"""From a trace to a churn profile, with its errors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from infsim.cluster.churn.compare import compare
from infsim.cluster.churn.made import make_trace
from infsim.cluster.churn.population import fit_population
from infsim.cluster.churn.profile import ChurnProfile
from infsim.cluster.churn.sites import fit_sites
from infsim.cluster.churn.trace import ChurnTrace
from infsim.rng import Streams

FIT_SEED, TEST_SEED = 0, 1  # errors are measured on other draws than the fit was corrected by


def fit_profile(
    trace: ChurnTrace,
    name: str,
    source: Mapping[str, Any] | None = None,
    *,
    steady: bool = False,
    seeds: int = 20,
) -> ChurnProfile:
    """Fit a profile: sites that fail together if the trace has zones, else unlike nodes.

    Parameters
    ----------
    trace : ChurnTrace
    name : str
    source : mapping, optional
        Where the trace comes from.
    steady : bool
        Fit no rhythm.
    seeds : int
        Made traces over which the errors are averaged.

    Raises
    ------
    InputError
        If no node, or zone, comes and goes.
    """
    fit = fit_sites if trace.zones[0] else fit_population
    model = fit(trace, steady=steady, seed=FIT_SEED)
    profile = ChurnProfile(model, name, dict(source or {}))
    made = [made_like(profile, trace, Streams(TEST_SEED, i)) for i in range(seeds)]
    return ChurnProfile(model, name, profile.source, compare(trace, made))


def made_like(profile: ChurnProfile, trace: ChurnTrace, streams: Streams) -> ChurnTrace:
    """Return a made trace with as many nodes, in the same zones, for the same time."""
    # the beginning of the rhythm is that of the trace it was fitted to
    nodes = [(n, profile.availability(n.region, n.zone, start_s=0.0)) for n in trace.nodes]
    return make_trace(nodes, trace.duration_s, streams)
