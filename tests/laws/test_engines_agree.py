"""L10: the fast engine and the reference engine, two programs from one text, do the same."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from infsim.engine.reference import simulate_reference
from infsim.engine.simulation import simulate
from infsim.results.recorder import RunRecord
from tests.experiments import Shape, build, shapes

TIMES = ("arrival_s", "start_s", "first_token_s", "end_s")
EQUAL = (
    "request_id",
    "session_id",
    "client",
    "input_tokens",
    "output_tokens",
    "generated_tokens",
    "cached_tokens",
    "preemptions",
    "attempts",
    "forwards",
    "deployment",
    "replica",
    "status",
    "wasted_tokens",
    "correct",
    "confidence",
)
NODE_SUMS = ("tokens", "iterations", "failures")
NODE_TIMES = ("up_s", "down_s", "busy_s", "loading_s")
NODE_AMOUNTS = (
    "energy_j",
    "carbon_g",
    "energy_cost",
    "peak_kv_bytes",
    "bytes_sent",
    "bytes_received",
)


def assert_same(fast: RunRecord, slow: RunRecord) -> None:
    """Same fates, same times to 1e-9 s, same accounts of the nodes."""
    for column in EQUAL:
        np.testing.assert_array_equal(
            fast.requests[column], slow.requests[column], err_msg=f"requests.{column}"
        )
    assert fast.text(fast.requests["error"]) == slow.text(slow.requests["error"])
    for column in TIMES:
        np.testing.assert_allclose(
            fast.requests[column],
            slow.requests[column],
            rtol=0,
            atol=1e-9,
            err_msg=f"requests.{column}",
        )
    for column in NODE_SUMS:
        np.testing.assert_array_equal(
            fast.nodes[column], slow.nodes[column], err_msg=f"nodes.{column}"
        )
    for column in NODE_TIMES:
        np.testing.assert_allclose(
            fast.nodes[column], slow.nodes[column], atol=1e-9, rtol=0, err_msg=f"nodes.{column}"
        )
    for column in NODE_AMOUNTS:
        np.testing.assert_allclose(
            fast.nodes[column], slow.nodes[column], rtol=1e-9, atol=1e-6, err_msg=f"nodes.{column}"
        )
    assert fast.end_s == pytest.approx(slow.end_s, abs=1e-9)


def both(shape: Shape) -> tuple[RunRecord, RunRecord]:
    return simulate(build(shape)), simulate_reference(build(shape))


def is_free_of_ties(shape: Shape) -> bool:
    """Whether nothing but the rules makes two things happen at one time.

    A message relayed by a client on the sender's own node races one from the sender itself: they
    take the same time, and rounding decides which comes first.
    """
    return not (shape.attached and shape.transfer == "relay")


ALIKE = shapes().filter(is_free_of_ties)
AHEAD = shapes(ahead=True, layout="pipelines", deployments=1, batching="chunked")
ONE_NODE = shapes(layout="pipelines", nodes=1, deployments=1, tight=True)
SLOW = [HealthCheck.too_slow]


@settings(deadline=None, max_examples=120, derandomize=True, suppress_health_check=SLOW)
@given(ALIKE)
def test_engines_agree(shape: Shape) -> None:
    assert_same(*both(shape))


@settings(deadline=None, max_examples=60, derandomize=True, suppress_health_check=SLOW)
@given(ONE_NODE)
def test_engines_agree_on_one_node_short_of_memory(shape: Shape) -> None:
    """Here the fast engine runs whole series of iterations in one event."""
    assert_same(*both(shape))


@settings(deadline=None, max_examples=60, derandomize=True, suppress_health_check=SLOW)
@given(AHEAD.filter(is_free_of_ties))
def test_engines_agree_on_plans_made_ahead(shape: Shape) -> None:
    assert_same(*both(shape))


@pytest.mark.parametrize("seed", [808695358, 80152818])
def test_a_resumed_sequence_may_be_preempted(seed: int) -> None:
    """Its cached tokens are left out of what remains, as they are for any waiting prompt."""
    shape = Shape(
        seed=seed,
        nodes=4,
        clients=3,
        requests=25,
        layout="mesh",
        deployments=1 if seed == 808695358 else 2,
        network="delays",
        churn="renewal",
        tight=True,
        stale=True,
        transfer="relay",
        sharing="max-min" if seed == 808695358 else "fifo",
        prefix_cache=True,
        router="tokens",
        delivery="wander",
        recovery="replay",
    )
    assert_same(*both(shape))


@pytest.mark.deep
@settings(deadline=None, max_examples=3000, suppress_health_check=SLOW)
@given(ALIKE)
def test_engines_agree_on_thousands(shape: Shape) -> None:
    assert_same(*both(shape))
