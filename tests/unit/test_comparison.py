"""What a study says about its alternatives, and what it does not dare to say."""

import math

import pytest

from infsim.results.metrics import METRICS, Objectives
from infsim.results.recorder import RunRecord, Status
from infsim.results.runs import Run
from infsim.results.statistics import Estimate
from infsim.study.comparison import Contrast, Observations
from infsim.study.report import change
from tests.records import queue, record, study


def runs(
    replications: int, requests: int = 150, own_noise: float = 0.0, **slowness: float
) -> list[Run]:
    return [
        Run(name, replication, queue(requests, replication, factor, own_noise))
        for name, factor in slowness.items()
        for replication in range(replications)
    ]


def contrast(observations: Observations, metric: str) -> float | None:
    found = next(c for c in observations.contrasts if c.metric == metric)
    return found.beyond_noise


def test_estimates_are_means_over_replications() -> None:
    found = Observations(runs(4, a=1.0))
    single = [found.values["a"][r]["e2e_mean_s"] for r in range(4)]
    estimate = found.estimate("a", "e2e_mean_s")
    assert estimate.value == pytest.approx(sum(single) / 4)
    assert estimate.low < min(single) or estimate.low < estimate.value
    assert found.replications == 4


def test_a_clear_difference_is_marked() -> None:
    found = Observations(runs(5, a=1.0, b=0.8))
    assert contrast(found, "e2e_p50_s") is True
    assert contrast(found, "ttft_p50_s") is True


def test_noise_is_hardly_ever_marked() -> None:
    # two alternatives that differ in noise of their own only, thirty times over
    marked = 0
    for seed in range(30):
        pairs = [
            Run(name, r, queue(60, 100 * seed + r, factor, own_noise=0.3))
            for name, factor in (("a", 1.0), ("b", 1.000001))
            for r in range(4)
        ]
        marked += any(c.beyond_noise for c in Observations(pairs).contrasts)
    assert marked <= 6  # at most 5 % by Holm: 1.5 expected, 6 with four standard deviations


def test_pairing_finds_what_intervals_side_by_side_hide() -> None:
    found = Observations(runs(5, a=1.0, b=0.97))
    first, second = (found.estimate(name, "e2e_p50_s") for name in ("a", "b"))
    assert second.high > first.low  # the intervals overlap
    assert contrast(found, "e2e_p50_s") is True


def test_equal_metrics_are_no_comparison() -> None:
    found = Observations(runs(3, a=1.0, b=0.8))
    same = next(c for c in found.contrasts if c.metric == "availability")
    assert same.beyond_noise is None
    assert change(same) == "="


@pytest.mark.parametrize(
    ("second", "shown"), [(0.9, "-10.0 %"), (9.9, "+890.0 %"), (10.0, "x 10.0"), (8062.0, "x 8062")]
)
def test_large_changes_are_factors(second: float, shown: str) -> None:
    found = Contrast("b", "e2e_p50_s", 1.0, second, Estimate(second - 1), math.nan)
    assert change(found) == f"({shown})"


def test_a_long_single_run_is_cut_into_batches() -> None:
    found = Observations(runs(1, requests=4000, a=1.0, b=0.8))
    assert not math.isnan(found.estimate("a", "e2e_p50_s").low)
    assert contrast(found, "e2e_p50_s") is True
    # 400 requests in a batch have a p90, but not a p99; nodes have one total only
    assert not math.isnan(found.estimate("a", "e2e_p90_s").low)
    assert math.isnan(found.estimate("a", "e2e_p99_s").low)
    assert math.isnan(found.estimate("a", "energy_j").low)
    assert contrast(found, "e2e_p99_s") is None


def test_batches_cover_the_truth_about_a_queue() -> None:
    # M/M/1 at load 0.5: mean time in system 1 / (2 - 1) = 1 s
    covered = 0
    for seed in range(40):
        found = Observations([Run("a", 0, queue(4000, seed, load=0.5))])
        estimate = found.estimate("a", "e2e_mean_s")
        covered += estimate.low <= 1.0 <= estimate.high
    assert covered >= 33  # 95 % of 40 is 38; four standard deviations below: 32.5


def test_a_short_single_run_promises_nothing() -> None:
    found = Observations(runs(1, a=1.0, b=0.8))
    assert all(c.beyond_noise is None for c in found.contrasts)
    text = study(runs(1, a=1.0, b=0.8)).text()
    assert "One run, too short for intervals" in text
    assert "*" not in text
    assert "(-2" in text  # what cannot be told is in parentheses


def test_the_longest_warm_up_holds_for_all() -> None:
    def start_up(length: int) -> RunRecord:
        rows = [
            {
                "arrival_s": float(i),
                "start_s": i + 0.1,
                "first_token_s": i + 0.2,
                "end_s": i + 1 + max(0.0, 50 * (1 - i / length)) + 0.01 * math.sin(i),
            }
            for i in range(1000)
        ]
        return record(rows, end_s=1010.0)

    pair = [Run("a", 0, start_up(100)), Run("b", 0, start_up(250))]
    alone = [Observations([run], warmup="auto").warmups_s[0] for run in pair]
    both = Observations(pair, warmup="auto")
    assert both.warmups_s[0] == max(alone) > min(alone) > 50
    assert both.values["a"][0]["requests"] == both.values["b"][0]["requests"]


def test_interrupted_runs_do_not_count_beside_whole_ones() -> None:
    whole, cut = queue(100, 0), record(interrupted=True)
    found = Observations([Run("a", 0, whole), Run("a", 1, cut), Run("b", 0, cut)])
    assert list(found.values["a"]) == [0]
    assert list(found.values["b"]) == [0]  # it has no other


def test_only_common_replications_are_paired() -> None:
    most = runs(6, a=1.0, b=0.8)[:-1]  # the last replication of b is missing
    found = Observations(most)
    assert contrast(found, "e2e_p50_s") is True
    assert found.replications == 5


def test_the_tables_agree_with_the_observations() -> None:
    result = study(runs(3, a=1.0, b=0.8), objectives=Objectives(ttft_s=1.0))
    assert result.summary.column("alternative") == ["a", "b"]
    assert result.summary.column("e2e_p50_s")[1] == result.observations.estimate("b", "e2e_p50_s")
    metrics = result.differences.column("metric")
    assert metrics == [m for m in result.observations.metrics if METRICS[m].headline]
    assert "goodput_requests_per_s" in metrics
    assert "accuracy" not in metrics  # nothing was judged
    labels = result.comparison[0].column("metric")
    assert labels == [METRICS[str(m)].label for m in metrics]


def test_many_alternatives_go_into_several_tables() -> None:
    tables = study(runs(1, a=1.0, b=0.9, c=0.8, d=0.7, e=0.6)).comparison
    assert [
        [c.title for c in table.columns if c.title not in (" ", "change")] for table in tables
    ] == [["a", "b", "c", "d"], ["a", "e"]]
    assert [bool(table.notes) for table in tables] == [False, True]


def test_what_spoils_the_numbers_is_told() -> None:
    late = {"status": Status.UNFINISHED, "end_s": math.nan}
    runs = [
        Run(
            "a",
            0,
            record([{}, late]),
            {"costs": {"calibrated": True, "priced": 88, "extrapolated": 0}},
        ),
        Run(
            "b",
            0,
            record([{}]),
            {"costs": {"calibrated": False, "priced": 112, "extrapolated": 12}},
        ),
    ]
    notes = study(runs, warmup="auto").notes
    assert notes == (
        "Too short to tell where the warm-up ends (MSER-5): 2 runs.",
        "Unfinished at the end, and in no E2E latency: a 1, b 0 requests.",
        "Partly calibrated: some iteration times come from a model, not from measurements.",
        "12 of 200 iteration times (6.0 %) were extrapolated.",
    )
    assert study([Run("a", 0, queue(200))]).notes == ()
    modelled = {"costs": {"calibrated": False, "partly_calibrated": False, "extrapolated": 0}}
    assert study([Run("a", 0, queue(200), modelled)]).notes == (
        "Uncalibrated: iteration times come from a model, not from measurements.",
    )


def test_declared_power_is_told() -> None:
    """Of all devices, or of those without a table."""
    measured, declared = {"power": {"x": "NVML"}}, {"power": {"x": "NVML", "y": "declared"}}
    whole = {"power": {"x": "declared", "y": "declared"}}
    says = "is declared, not measured: idle, or active in iterations."
    for details, notes in (
        (measured, ()),
        (declared, (f"Power of y {says}",)),
        (whole, (f"Power {says}",)),
    ):
        assert study([Run("a", 0, queue(200), details)]).notes == notes


def test_the_text_is_as_wide_as_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    result = study(runs(1, a=1.0, b=0.9, c=0.8, d=0.7))
    assert max(map(len, result.text().splitlines())) > 90
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "80")
    assert max(map(len, "\n".join(t.text(80) for t in result.comparison).splitlines())) <= 80
    assert result.text().splitlines()[2:] == result.text(80).splitlines()[2:]


def test_tables_take_fewer_alternatives_where_they_would_be_too_wide() -> None:
    result = study(runs(3, a=1.0, b=0.9, c=0.8, d=0.7))
    widest = result.comparison[0].width
    whole, folded = (result.comparison[0].text(w).splitlines() for w in (widest, widest - 1))
    assert whole[:20] == result.comparison[0].text().splitlines()[:20] != folded[:20]
    assert result.text(widest).count("TTFT p50") == 1
    narrower = result.text(widest - 1).splitlines()
    assert sum("TTFT p50" in line for line in narrower) == 2
    labels = [line for line in narrower if "throughput" in line]
    assert all("±" in line for line in labels)  # nothing is folded


def test_a_change_of_a_negative_cost_is_no_percentage() -> None:
    """From -10 to -5 the cost rises by 5; half of the first value would read as a fall."""
    found = Contrast("b", "energy_cost", -10.0, -5.0, Estimate(5.0), 0.001)
    assert math.isnan(found.relative)
    assert change(found) == "+5.00 *"
