"""What a message pays for delays that vary and for TCP, and a network for being drawn."""

from __future__ import annotations

import time
import timeit
from collections.abc import Callable

import numpy as np
import pytest

from infsim.cluster.network import Network
from infsim.cluster.networks.distance import DistanceModel
from infsim.cluster.networks.geography import cities
from infsim.cluster.networks.tcp import Tcp
from infsim.cluster.networks.variation import SlowVariation, VariationModel
from infsim.rng import Streams

pytestmark = pytest.mark.benchmark

CALLS = 100_000


def seconds(call: Callable[[], object]) -> float:
    best = min(timeit.repeat(call, number=CALLS, repeat=5)) / CALLS
    print(f"{best * 1e6:.2f} µs a call")
    return best


def test_a_message_asks_for_its_delay_and_its_extra_time() -> None:
    names = [f"node-{i}" for i in range(50)]
    network = Network.full_mesh(50, 0.01, 1e8).with_effects(
        variation=SlowVariation(VariationModel(), names, Streams(0)), tcp=Tcp("fresh")
    )
    assert seconds(lambda: network.propagation_s(1, 2, 100.0)) < 2e-6
    assert seconds(lambda: network.message_extra_s(1, 2, 1e6, 100.0)) < 4e-6


def test_a_network_is_drawn_in_a_fraction_of_a_second() -> None:
    places = list(cities().values())[:100]
    start = time.process_time()
    DistanceModel().sample(places, np.random.default_rng(0))
    taken_s = time.process_time() - start
    print(f"{taken_s:.2f} CPU seconds for 100 places")
    assert taken_s < 1
