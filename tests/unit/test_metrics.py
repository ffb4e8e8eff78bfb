"""Every metric by hand on a few requests, and laws on many."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infsim.results.metrics import (
    METRICS,
    OF_TOKENS,
    Objectives,
    Window,
    e2e_s,
    measure,
    measure_requests,
    meets,
    tpot_s,
    ttft_s,
    warmup_end_s,
)
from infsim.results.recorder import Status
from tests.records import queue, record

NAN = math.nan

# Of a request that arrives at 0, starts at 1, has its first of 5 tokens at 2, and the last at 4.
ONE = record()


def test_latencies_of_one_request() -> None:
    assert ttft_s(ONE.requests) == [2.0]
    assert e2e_s(ONE.requests) == [4.0]
    assert tpot_s(ONE.requests) == [0.5]  # (E2E - TTFT) / (n - 1) = 2 / 4


def test_all_metrics_of_one_request() -> None:
    priced = record(nodes=({"energy_cost": -1e-4},))
    found = measure(priced, objectives=Objectives(ttft_s=2.0))
    assert list(found) == list(METRICS)
    expected = {
        "requests": 1,
        "throughput_requests_per_s": 0.1,
        "throughput_tokens_per_s": 0.5,
        "ttft_mean_s": 2,
        "ttft_p99_s": 2,
        "tpot_p50_s": 0.5,
        "e2e_p90_s": 4,
        "queue_mean_s": 1,
        "goodput_requests_per_s": 0.1,
        "slo_attainment": 1,
        "availability": 1,
        "unfinished": 0,
        "node_availability": 1,
        "utilization": 0.5,
        "wasted_work": 0,
        "attempts": 1,
        "memory_peak_bytes": 4e9,
        "kv_peak": 0.25,
        "energy_j": 1000,
        "energy_per_token_j": 200,
        "carbon_g": 2,
        "carbon_per_token_g": 0.4,
        "energy_cost": -1e-4,  # at times the market pays
        "bytes_sent": 100,
    }
    assert {name: found[name] for name in expected} == pytest.approx(expected)


def test_what_does_not_exist_is_nan() -> None:
    found = measure(ONE)
    for name in ("goodput_requests_per_s", "slo_attainment", "accuracy", "energy_cost"):
        assert math.isnan(found[name])
    empty = measure(record(requests=(), nodes=()))
    assert empty["requests"] == 0
    assert math.isnan(empty["ttft_p50_s"])
    assert math.isnan(empty["availability"])


def test_a_single_token_has_no_tpot_and_keeps_any_objective_for_it() -> None:
    run = record([{"generated_tokens": 1, "first_token_s": 4.0}])
    assert np.isnan(tpot_s(run.requests)).all()
    assert meets(run.requests, Objectives(tpot_s=1e-9)).all()


def test_answers_of_a_single_token_repeat_nothing() -> None:
    one = {"output_tokens": 1, "generated_tokens": 1, "first_token_s": 4.0}
    found = measure(record([one, one]))
    assert found["e2e_p50_s"] == 4.0
    assert all(math.isnan(found[name]) for name in OF_TOKENS)
    # one longer answer, and there is something to tell
    assert not any(math.isnan(measure(record([one, {}]))[name]) for name in OF_TOKENS)


def test_goodput_wants_all_objectives_and_completion() -> None:
    late = {"first_token_s": 3.0, "end_s": 5.0}
    lost = {"status": Status.FAILED}
    run = record([{}, late, lost])
    assert meets(run.requests, Objectives(ttft_s=2.0)).tolist() == [True, False, False]
    assert meets(run.requests, Objectives(ttft_s=9.0, e2e_s=4.0)).tolist() == [True, False, False]
    assert meets(run.requests, Objectives(ttft_s=9.0)).tolist() == [True, True, False]
    assert measure(run, objectives=Objectives(ttft_s=2.0))["slo_attainment"] == pytest.approx(1 / 3)


def test_availability_is_of_requests_that_ended() -> None:
    unfinished = {"status": Status.UNFINISHED, "end_s": NAN, "first_token_s": NAN}
    run = record([{}, {}, {"status": Status.FAILED}, {"status": Status.REJECTED}, unfinished])
    found = measure(run)
    assert found["availability"] == 0.5
    assert found["unfinished"] == 0.2


def test_wasted_work_is_a_share_of_all_work() -> None:
    run = record([{"wasted_tokens": 105}, {"cached_tokens": 50}])
    # useful: 100 + 5, and 100 - 50 + 5
    assert measure(run)["wasted_work"] == pytest.approx(105 / (105 + 160))


def test_accuracy_is_over_judged_answers() -> None:
    run = record([{"correct": 1}, {"correct": 0}, {"correct": 1}, {"correct": -1}])
    assert measure(run)["accuracy"] == pytest.approx(2 / 3)


def test_the_warm_up_is_left_out() -> None:
    late = {"arrival_s": 5.0, "start_s": 5.0, "first_token_s": 6.0, "end_s": 8.0}
    found = measure(record([{}, late]), start_s=5.0)
    assert found["requests"] == 1
    assert found["ttft_mean_s"] == 1
    assert found["throughput_requests_per_s"] == pytest.approx(1 / 5)  # of 5 s
    assert found["energy_j"] == 1000  # of the whole run


def test_tokens_count_where_they_were_made() -> None:
    # five tokens from 2 to 4, so half of them before 3
    half = measure_requests(ONE, Window(0, 3), Objectives())
    assert half["throughput_tokens_per_s"] * 3 == pytest.approx(2.5)
    assert half["throughput_requests_per_s"] == 0


def test_tokens_of_unfinished_requests_count_and_of_failed_ones_do_not() -> None:
    open_end = {"status": Status.UNFINISHED, "end_s": NAN, "generated_tokens": 8}
    found = measure(record([open_end, {"status": Status.FAILED}]))
    assert found["throughput_tokens_per_s"] == pytest.approx(0.8)


def test_itl_is_the_time_of_the_iterations_weighted_by_their_tokens() -> None:
    segments = [
        (0, 0, 0.0, 1.0, 10, 0, 9, 0),  # 90 gaps of 0.1 s
        (0, 0, 1.0, 3.0, 1, 64, 10, 0),  # 10 gaps of 2 s
        (0, 0, 3.0, 9.0, 1, 64, 0, 0),  # a prompt alone makes no gap
    ]
    run = record(segments=segments)
    found = measure(run, single_stage=True)
    assert found["itl_p50_s"] == pytest.approx(0.1)
    assert found["itl_p99_s"] == pytest.approx(2.0)
    assert math.isnan(measure(run)["itl_p50_s"])  # stages of a pipeline do not tell it


def test_node_availability_counts_the_time_down() -> None:
    assert measure(record(nodes=({"down_s": 5.0}, {})))["node_availability"] == 0.75


@given(st.integers(0, 50), st.integers(2, 9))
def test_rates_of_equal_parts_average_to_that_of_the_whole(seed: int, parts: int) -> None:
    run = queue(40, seed)
    whole = Window(0.0, run.end_s)
    rows = [measure_requests(run, part, Objectives()) for part in whole.split(parts)]
    for name in ("throughput_requests_per_s", "throughput_tokens_per_s"):
        together = measure_requests(run, whole, Objectives())[name]
        assert np.mean([row[name] for row in rows]) == pytest.approx(together)


@given(st.integers(0, 50))
def test_latencies_are_ordered(seed: int) -> None:
    found = measure(queue(40, seed))
    for latency in ("ttft", "tpot", "e2e", "queue"):
        p50, p90, p99 = (found[f"{latency}_p{q}_s"] for q in (50, 90, 99))
        assert 0 <= p50 <= p90 <= p99
    assert found["queue_mean_s"] <= found["ttft_mean_s"] <= found["e2e_mean_s"]


def test_littles_law_holds_for_the_metrics() -> None:
    run = queue(4000, load=0.5)
    found = measure(run)
    # mean number in the system: by the area under it, and by rate times mean time
    events = np.concatenate([run.requests["arrival_s"], run.requests["end_s"]])
    steps = np.repeat([1, -1], 4000)[np.argsort(events)]
    inside = np.sum(np.cumsum(steps)[:-1] * np.diff(np.sort(events))) / run.end_s
    assert found["throughput_requests_per_s"] * found["e2e_mean_s"] == pytest.approx(inside)


def test_the_warm_up_of_a_queue_that_starts_full_is_found() -> None:
    rng = np.random.default_rng(0)
    waits = rng.exponential(1.0, 2000)
    waits[:200] += np.linspace(40, 0, 200)
    rows = [{"arrival_s": float(i), "end_s": i + float(w)} for i, w in enumerate(waits)]
    start_s, cut = warmup_end_s(record(rows, end_s=2100.0))
    assert cut.reliable
    assert 130 <= start_s <= 260
