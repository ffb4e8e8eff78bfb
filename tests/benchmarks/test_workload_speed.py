"""How fast requests are made, in CPU time."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from infsim.paths import data_folder
from infsim.rng import Streams
from infsim.workload.arrivals import Gamma, Poisson
from infsim.workload.lengths import Independent, Lognormal
from infsim.workload.merge import Merge
from infsim.workload.profile import load_profile
from infsim.workload.requests import Workload
from infsim.workload.synthetic import Synthetic
from infsim.workload.transform import AssignClients, AssignSamples, Limit

pytestmark = pytest.mark.benchmark

LENGTHS = Independent(Lognormal(1000, 1), Lognormal(200, 1))


def made_per_second(workload: Workload, requests: int = 500_000) -> float:
    list(Limit(workload, requests=1000).blocks(Streams(0)))  # imports
    start = time.process_time()
    made = sum(len(part) for part in Limit(workload, requests=requests).blocks(Streams(0)))
    rate = made / (time.process_time() - start)
    print(f"{rate / 1e6:.1f} million requests per CPU second")
    assert made == requests
    return rate


@pytest.mark.parametrize(
    "name",
    ["azure-conv-like", "azure-code-like", "mooncake-conv-like", "servegen-deepseek-r1-like"],
)
def test_profiles_make_a_million_requests_per_second(name: str) -> None:
    """Without sessions, which the next test is about."""
    profile = replace(load_profile(data_folder("traces") / f"{name}.yaml"), sessions=None)
    assert made_per_second(profile.workload(cycles=None)) > 1e6


def test_sessions_and_prefixes_of_a_profile() -> None:
    """Dialogues with 24 blocks a prompt: the hashes are most of what is made, 23 a request."""
    profile = load_profile(data_folder("traces") / "mooncake-conv-like.yaml")
    rate = made_per_second(profile.workload(cycles=None))
    print(f"{rate * 23 / 1e6:.1f} million prefix hashes per CPU second")
    assert rate > 0.25e6
    # session ids alone
    assert made_per_second(replace(profile, prefixes=None).workload(cycles=None)) > 0.4e6


def test_synthetic_requests_with_everything_assigned() -> None:
    parts = [Synthetic(Poisson(5), LENGTHS), Synthetic(Gamma(2, cv=3), LENGTHS)]
    workload = AssignSamples(AssignClients(Merge(parts), [1, 2, 3]), 10_000)
    assert made_per_second(workload) > 1e6
