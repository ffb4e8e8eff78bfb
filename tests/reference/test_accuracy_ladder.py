"""What was measured on Fashion-MNIST, against published and earlier findings.

Figures marked "earlier" were measured before, on the same data with networks of the same kind but
other weights. The standard error of an accuracy on 10,000 samples is .003, so accuracies agree
within .01 and losses, which share most of their samples, within .005.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import yaml
from numpy.typing import NDArray

from infsim.cost.accuracy import AccuracyTable, calibration_error, load_accuracy_table
from infsim.paths import data_folder

FOLDER = data_folder("calibration") / "accuracy" / "fashion-mnist"
CLASSES = 10
EXITS = tuple(f"cnn4-exit{k}" for k in (1, 2, 3, 4))
MEMBERS = ("softmax", "mlp32", "mlp128", "mlp512x2", "cnn", "cnn4-exit3", "cnn4-exit4")
EARLIER = {
    "softmax": 0.820,
    "mlp32": 0.868,
    "mlp128": 0.881,
    "mlp512x2": 0.886,
    "cnn": 0.905,
    **dict(zip(EXITS, (0.710, 0.849, 0.877, 0.904), strict=True)),
}


@pytest.fixture(scope="module")
def table() -> AccuracyTable:
    return load_accuracy_table(FOLDER)


# --- the table ------------------------------------------------------------------------------


def test_folder_is_small() -> None:
    assert sum(file.stat().st_size for file in FOLDER.iterdir()) < 2.5e6


def test_stored_outputs_agree_with_what_was_measured(table: AccuracyTable) -> None:
    meta = yaml.safe_load((FOLDER / "meta.yaml").read_text(encoding="utf-8"))
    for split in (table, table.validation):
        for model, facts in meta["models"].items():
            assert split.accuracy(model) == facts["accuracy"][split.split]
            error = calibration_error(split.confidence[model], split.correct[model])
            assert error == pytest.approx(facts["ece"][split.split], abs=5e-4)
        for model in split.models:
            off = np.abs(split.probabilities(model).sum(axis=1) - 1)
            assert (
                off.max()
                <= CLASSES * meta["outputs"]["files"][split.split]["worst_error"]["any_class"]
            )


@pytest.mark.parametrize(("model", "accuracy"), EARLIER.items())
def test_accuracy_of_the_ladder(table: AccuracyTable, model: str, accuracy: float) -> None:
    assert table.accuracy(model) == pytest.approx(accuracy, abs=0.012)


# --- serve or forward -----------------------------------------------------------------------


def test_forwarded_samples_are_hard_for_the_remote_model_too(table: AccuracyTable) -> None:
    forwarded = table.confidence["mlp32"] < 0.8
    assert forwarded.mean() == pytest.approx(0.26, abs=0.02)  # earlier
    on_forwarded = table.correct["cnn"][forwarded].mean()
    assert on_forwarded == pytest.approx(0.735, abs=0.02)  # earlier
    assert on_forwarded < table.accuracy("cnn") - 0.15


def oracle_loss(table: AccuracyTable, cost: float) -> float:
    """Loss of who forwards exactly the samples that only the remote model gets right."""
    local, remote = table.correct["mlp32"], table.correct["cnn"]
    return float(np.where(local, 0, np.where(remote, cost, 1)).mean())


@pytest.mark.parametrize(
    ("cost", "tuned", "always", "rule", "oracle"),
    [
        (0.05, 0.1121, 0.1454, 0.1178, 0.0744),
        (0.10, 0.1212, 0.1954, 0.1328, 0.0775),
        (0.20, 0.1318, 0.2954, 0.1507, 0.0835),
    ],
)
def test_tuned_threshold(
    table: AccuracyTable, cost: float, tuned: float, always: float, rule: float, oracle: float
) -> None:
    def loss(threshold: float) -> float:
        return table.forwarding_loss("mlp32", "cnn", threshold, cost)

    threshold = table.best_threshold("mlp32", "cnn", cost)
    assert loss(threshold) == pytest.approx(tuned, abs=0.005)  # earlier, as are the next three
    assert loss(math.inf) == pytest.approx(always, abs=0.005)
    assert loss(1 - cost) == pytest.approx(rule, abs=0.005)
    assert oracle_loss(table, cost) == pytest.approx(oracle, abs=0.005)

    assert oracle_loss(table, cost) < loss(threshold) < min(loss(0.0), loss(1 - cost))
    best = min(loss(t) for t in np.linspace(0, 1, 201))
    assert loss(threshold) - best < 0.002


@pytest.mark.parametrize("cost", [0.05, 0.10, 0.20])
def test_expected_gain_forwards_as_well_as_the_threshold(table: AccuracyTable, cost: float) -> None:
    confidence = table.confidence["mlp32"].tolist()
    gain = np.array([table.expected_gain("mlp32", "cnn", c) for c in confidence])
    right = np.where(gain > cost, table.correct["cnn"], table.correct["mlp32"])
    loss = 1 - right.mean() + cost * (gain > cost).mean()
    threshold = table.best_threshold("mlp32", "cnn", cost)
    assert loss == pytest.approx(table.forwarding_loss("mlp32", "cnn", threshold, cost), abs=0.002)


def test_expected_gain_is_calibrated_on_test(table: AccuracyTable) -> None:
    confidence = table.confidence["mlp32"].tolist()
    gain = np.array([table.expected_gain("mlp32", "cnn", c) for c in confidence])
    measured = table.correct["cnn"].astype(float) - table.correct["mlp32"]
    for least, most in ((-1, 0.02), (0.02, 0.15), (0.15, 1)):
        of_those = (least < gain) & (gain <= most)
        assert gain[of_those].mean() == pytest.approx(measured[of_those].mean(), abs=0.03)


# --- cascades -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("threshold", "accuracy", "operations"), [(0.8, 0.8990, 0.28), (0.9, 0.9027, 0.41)]
)
def test_early_exit(
    table: AccuracyTable, threshold: float, accuracy: float, operations: float
) -> None:
    sure = np.array([table.confidence[model] >= threshold for model in EXITS])
    sure[-1] = True
    taken = sure.argmax(axis=0)
    correct = np.array([table.correct[model] for model in EXITS])[taken, range(table.samples)]
    macs = np.array([table.facts[model].macs for model in EXITS])
    assert correct.mean() == pytest.approx(accuracy, abs=0.005)  # earlier
    assert macs[taken].mean() / macs[-1] == pytest.approx(operations, abs=0.03)  # earlier
    assert table.accuracy(EXITS[-1]) - correct.mean() < 0.01


# --- ensembles ------------------------------------------------------------------------------


def weight(accuracy: float) -> float:
    """Log odds of a vote when errors are independent and spread evenly over the classes."""
    return math.log(accuracy / (1 - accuracy)) + math.log(CLASSES - 1)


def best_first(table: AccuracyTable) -> tuple[str, ...]:
    return tuple(sorted(MEMBERS, key=table.validation.accuracy, reverse=True))


def vote(
    table: AccuracyTable, members: tuple[str, ...], weights: list[float]
) -> NDArray[np.float64]:
    """Return the votes for each class, (samples, classes)."""
    votes = np.zeros((table.samples, CLASSES))
    for model, w in zip(members, weights, strict=True):
        votes[np.arange(table.samples), table.prediction[model]] += w
    return votes


def test_errors_correlate(table: AccuracyTable) -> None:
    correlation = np.corrcoef([table.correct[model] for model in MEMBERS])
    pairs = correlation[np.triu_indices(len(MEMBERS), 1)]
    assert (pairs.min(), pairs.max()) == pytest.approx((0.51, 0.82), abs=0.05)  # earlier


def test_plain_majority_is_worse_than_the_best_member(table: AccuracyTable) -> None:
    majority = vote(table, MEMBERS, [1.0] * len(MEMBERS)).argmax(axis=1)
    accuracy = (majority == table.label).mean()
    assert accuracy == pytest.approx(0.8945, abs=0.005)  # earlier
    assert accuracy < max(map(table.accuracy, MEMBERS)) - 0.005


def test_weights_help_but_cannot_mend_correlation(table: AccuracyTable) -> None:
    weights = [weight(table.validation.accuracy(model)) for model in MEMBERS]
    weighted = (vote(table, MEMBERS, weights).argmax(axis=1) == table.label).mean()
    plain = (vote(table, MEMBERS, [1.0] * len(MEMBERS)).argmax(axis=1) == table.label).mean()
    assert plain < weighted < max(map(table.accuracy, MEMBERS))


def test_stopping_at_a_decided_margin_changes_no_answer(table: AccuracyTable) -> None:
    members = best_first(table)
    weights = [weight(table.validation.accuracy(model)) for model in members]
    final = vote(table, members, weights).argmax(axis=1)
    asked = np.full(table.samples, len(members))
    for k in reversed(range(1, len(members))):
        second, first = np.sort(vote(table, members[:k], weights[:k]), axis=1)[:, -2:].T
        decided = first - second > sum(weights[k:])
        so_far = vote(table, members[:k], weights[:k]).argmax(axis=1)
        assert (so_far[decided] == final[decided]).all()
        asked[decided] = k
    assert asked.mean() < 0.7 * len(members)


def test_two_that_agree(table: AccuracyTable) -> None:
    """Ask best first until an answer was given twice; the best member's counts if none was."""
    predictions = np.array([table.prediction[model] for model in best_first(table)])
    answer, asked = predictions[0].copy(), np.full(table.samples, len(predictions))
    for k in reversed(range(1, len(predictions))):
        agrees = (predictions[:k] == predictions[k]).any(axis=0)
        answer[agrees], asked[agrees] = predictions[k][agrees], k + 1
    accuracy = (answer == table.label).mean()
    assert asked.mean() == pytest.approx(2.07, abs=0.02)  # earlier
    assert accuracy == pytest.approx(0.9067, abs=0.005)  # earlier
    assert accuracy > max(map(table.accuracy, MEMBERS))


# --- compression ----------------------------------------------------------------------------


def test_overconfidence_grows_with_compression(table: AccuracyTable) -> None:
    models = ("cnn", "cnn-int8", "cnn-int4", "cnn-int3", "cnn-int2")
    excess = [table.confidence[m].mean() - table.accuracy(m) for m in models]
    errors = [calibration_error(table.confidence[m], table.correct[m]) for m in models]
    assert excess == sorted(excess)
    assert errors == sorted(errors)
    assert errors[0] < 0.02
    assert 0.06 <= errors[3] <= 0.10  # earlier
    assert errors[4] > 0.2  # earlier


def test_thresholds_of_the_full_model_break_when_it_is_compressed(table: AccuracyTable) -> None:
    local, remote, cost = "cnn-int3", "cnn4-exit4", 0.1
    kept = table.best_threshold("cnn", remote, cost)
    retuned = table.best_threshold(local, remote, cost)
    assert retuned > kept + 0.1
    losses = [table.forwarding_loss(local, remote, t, cost) for t in (kept, retuned)]
    assert losses[0] > losses[1] + 0.01
