"""Reading a table of accuracy, and what policies learn from it."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path
from timeit import repeat
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from infsim.calibrate.accuracy_ladder import quantise
from infsim.cost.accuracy import (
    LEVELS,
    AccuracyTable,
    ModelFacts,
    calibration_error,
    load_accuracy_table,
)
from infsim.errors import InputError

CLASSES = 3
FACTS = {"parameters": 10, "macs": 20, "weight_bytes": 40, "weight_bits": 32}
MODELS = ("small", "large")


def random_levels(seed: int, samples: int) -> NDArray[np.uint16]:
    probabilities = np.random.default_rng(seed).dirichlet([0.5] * CLASSES, samples)
    return np.rint(probabilities * LEVELS).astype(np.uint16)


def random_table(seed: int, samples: int = 200) -> AccuracyTable:
    label = np.random.default_rng(seed).integers(0, CLASSES, samples).astype(np.uint8)
    levels = {name: random_levels(seed + i, samples) for i, name in enumerate(MODELS, 1)}
    facts = dict.fromkeys(MODELS, ModelFacts(**FACTS))
    return AccuracyTable(Path("made"), "validation", label, facts, levels)


def write(folder: Path, table: AccuracyTable) -> dict[str, Any]:
    """Write both splits of a folder with the same samples; return its meta.yaml."""
    folder.mkdir()
    files = {}
    for split in ("validation", "test"):
        file = folder / f"{split}.parquet"
        lists = {
            name: pa.FixedSizeListArray.from_arrays(levels.ravel(), CLASSES)
            for name, levels in table.levels.items()
        }
        pq.write_table(pa.table({"label": table.label, **lists}), file)
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        files[split] = {"file": file.name, "sha256": digest}
    meta = {"outputs": {"files": files}, "models": dict.fromkeys(MODELS, FACTS)}
    rewrite(folder, meta)
    return meta


def rewrite(folder: Path, meta: object) -> None:
    (folder / "meta.yaml").write_text(yaml.safe_dump(meta, sort_keys=False), encoding="utf-8")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path / "made", random_table(0))
    return tmp_path / "made"


# --- reading --------------------------------------------------------------------------------


def test_what_was_written_is_read(folder: Path) -> None:
    written, table = random_table(0), load_accuracy_table(folder)
    assert (table.split, table.validation.split) == ("test", "validation")
    assert table.validation.validation is table.validation
    assert table.models == MODELS
    assert table.samples == 200
    assert table.facts["large"] == ModelFacts(**FACTS)
    np.testing.assert_array_equal(table.label, written.label)
    for model in MODELS:
        probabilities = table.probabilities(model)
        np.testing.assert_array_equal(probabilities, written.levels[model] / LEVELS)
        np.testing.assert_array_equal(table.prediction[model], probabilities.argmax(axis=1))
        np.testing.assert_array_equal(table.confidence[model], probabilities.max(axis=1))
        right = probabilities.argmax(axis=1) == table.label
        np.testing.assert_array_equal(table.correct[model], right)
        assert table.accuracy(model) == right.mean()


def test_unknown_model_names_the_nearest(folder: Path) -> None:
    table = load_accuracy_table(folder)
    for ask in (
        table.accuracy,
        table.probabilities,
        table.facts.__getitem__,
        lambda model: table.expected_gain("small", model, 0.5),
        lambda model: table.best_threshold(model, "large", 0.5),
    ):
        with pytest.raises(ValueError, match=r"made: no model 'larg' .* did you mean 'large'\?"):
            ask("larg")


def test_missing_table_names_its_neighbour(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"mode/meta\.yaml: no table .* did you mean 'made'\?"):
        load_accuracy_table(folder.parent / "mode")


def test_errors_are_errors_of_input(folder: Path) -> None:
    with pytest.raises(InputError):
        load_accuracy_table(folder / "absent")


def test_damaged_file(folder: Path) -> None:
    file = folder / "test.parquet"
    content = bytearray(file.read_bytes())
    content[100] ^= 1
    file.write_bytes(content)
    with pytest.raises(ValueError, match=r"test\.parquet: damaged"):
        load_accuracy_table(folder)


def test_missing_file(folder: Path) -> None:
    (folder / "validation.parquet").unlink()
    with pytest.raises(ValueError, match=r"validation\.parquet: missing"):
        load_accuracy_table(folder)


def test_file_that_is_not_parquet(tmp_path: Path) -> None:
    meta = write(tmp_path / "made", random_table(0))
    (tmp_path / "made" / "test.parquet").write_text("label\n3\n", encoding="utf-8")
    del meta["outputs"]["files"]["test"]["sha256"]
    rewrite(tmp_path / "made", meta)
    with pytest.raises(ValueError, match=r"test\.parquet: not readable as Parquet"):
        load_accuracy_table(tmp_path / "made")


@pytest.mark.parametrize(
    ("meta", "message"),
    [
        ("just text", "expected a mapping"),
        ({"models": {}}, r"outputs\.files: expected a mapping, got None"),
        ({"outputs": {"files": {}}, "models": {"a": {"macs": 1}}}, r"models\.a: expected whole"),
        ({"outputs": {"files": {}}, "models": {}}, "validation: expected a mapping"),
    ],
)
def test_wrong_meta(folder: Path, meta: object, message: str) -> None:
    rewrite(folder, meta)
    with pytest.raises(ValueError, match=rf"meta\.yaml: {message}"):
        load_accuracy_table(folder)


def test_meta_that_is_not_yaml(folder: Path) -> None:
    (folder / "meta.yaml").write_text("a: [1", encoding="utf-8")
    with pytest.raises(ValueError, match="not readable as YAML"):
        load_accuracy_table(folder)


def test_model_without_column(tmp_path: Path) -> None:
    meta = write(tmp_path / "made", random_table(0))
    meta["models"]["huge"] = FACTS
    rewrite(tmp_path / "made", meta)
    with pytest.raises(ValueError, match=r"validation\.parquet: no column huge"):
        load_accuracy_table(tmp_path / "made")


def test_column_that_is_not_of_numbers(tmp_path: Path) -> None:
    meta = write(tmp_path / "made", random_table(0))
    meta["outputs"]["files"]["test"].pop("sha256")
    rewrite(tmp_path / "made", meta)
    pq.write_table(pa.table({"label": ["shoe"]}), tmp_path / "made" / "test.parquet")
    with pytest.raises(ValueError, match=r"test\.parquet: not readable as Parquet of numbers"):
        load_accuracy_table(tmp_path / "made")


def test_label_without_class(tmp_path: Path) -> None:
    table = random_table(0)
    table.label[7] = CLASSES
    write(tmp_path / "made", table)
    with pytest.raises(ValueError, match=r"validation\.parquet: small: expected as many classes"):
        load_accuracy_table(tmp_path / "made")


# --- learning -------------------------------------------------------------------------------


def test_gain_is_the_mean_difference_in_a_bin() -> None:
    table = random_table(3, samples=2000)
    order = np.argsort(table.confidence["small"])
    difference = table.correct["large"].astype(float) - table.correct["small"]
    for samples in np.split(order, range(99, 1999, 100)):
        gains = {
            table.expected_gain("small", "large", c) for c in table.confidence["small"][samples]
        }
        assert len(gains) == 1
        assert gains.pop() == pytest.approx(difference[samples].mean())


def test_gain_of_equal_confidences_is_one_bin() -> None:
    table = random_table(0)
    for levels in table.levels.values():
        levels[:] = (0, LEVELS, 0)
    right = (table.label == 1).mean()
    assert table.accuracy("small") == right
    assert [table.expected_gain("small", "large", c) for c in (0.0, 0.5, 1.0)] == [0.0, 0.0, 0.0]


def test_test_split_learns_from_validation_only() -> None:
    validation, test = random_table(1), random_table(7)
    judged = AccuracyTable(
        test.source, "test", test.label, test.facts, test.levels, learning=validation
    )
    assert judged.best_threshold("small", "large", 0.1) == validation.best_threshold(
        "small", "large", 0.1
    )
    for confidence in np.linspace(0, 1, 11):
        assert judged.expected_gain("small", "large", confidence) == validation.expected_gain(
            "small", "large", confidence
        )


@given(seed=st.integers(0, 10_000), cost=st.floats(0, 1), coarse=st.booleans())
def test_best_threshold_loses_least(seed: int, cost: float, coarse: bool) -> None:
    table = random_table(seed, samples=30)
    if coarse:  # many equal confidences
        for levels in table.levels.values():
            levels[:] = levels // 20_000 * 20_000
    best = table.best_threshold("small", "large", cost)
    loss = table.forwarding_loss("small", "large", best, cost)
    every = [*table.confidence["small"], math.inf]
    losses = [table.forwarding_loss("small", "large", t, cost) for t in every]
    assert loss == pytest.approx(min(losses))
    assert loss <= table.forwarding_loss("small", "large", 0.0, cost) + 1e-12


def test_thresholds_at_the_ends() -> None:
    table = random_table(0)
    table.levels["large"][:] = np.eye(CLASSES)[table.label] * LEVELS
    assert table.best_threshold("small", "large", 0.0) == math.inf
    assert table.best_threshold("small", "large", 1.5) == 0.0


@given(
    arrays(float, 50, elements=st.floats(0, 1)),
    arrays(bool, 50),
)
def test_calibration_error_is_bounded(
    confidence: NDArray[np.float64], correct: NDArray[np.bool_]
) -> None:
    error = calibration_error(confidence, correct)
    assert abs(correct.mean() - confidence.mean()) <= error + 1e-12 <= 1 + 1e-9


def test_calibration_error_by_hand() -> None:
    confidence = np.array([0.95, 0.95, 0.45, 1.0])
    correct = np.array([True, False, True, True])
    # bin 14 of 15 holds three samples with 2.9 of confidence of which 2 are right
    assert calibration_error(confidence, correct) == pytest.approx((0.9 + 0.55) / 4)


# --- writing --------------------------------------------------------------------------------


@given(
    arrays(float, (20, CLASSES), elements=st.floats(1e-3, 1)),
    st.sampled_from([1, 30]),
)
def test_rounding_keeps_the_first_class_and_the_order(
    scores: NDArray[np.float64], sharpness: int
) -> None:
    probabilities = scores**sharpness / (scores**sharpness).sum(axis=1, keepdims=True)
    levels = quantise(probabilities)
    np.testing.assert_array_equal(levels.argmax(axis=1), probabilities.argmax(axis=1))
    by_confidence = np.argsort(probabilities.max(axis=1))
    assert (np.diff(levels.max(axis=1)[by_confidence].astype(int)) >= 0).all()
    assert np.abs(levels / LEVELS - probabilities).max() <= 0.5 / 255 + 2 / LEVELS
    confidence = levels.max(axis=1) / LEVELS
    assert np.abs(confidence - probabilities.max(axis=1)).max() <= 0.5 / LEVELS + 1e-12


@pytest.mark.benchmark
def test_gain_is_cheap() -> None:
    table = random_table(0)
    table.expected_gain("small", "large", 0.5)
    seconds = repeat(lambda: table.expected_gain("small", "large", 0.5), number=10_000, repeat=5)
    assert min(seconds) / 10_000 < 1e-6
