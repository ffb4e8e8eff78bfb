"""Accuracy of answers: which samples every model gets right, and how sure it is of each.

A table is *joint*: all models were run on the same samples. An accuracy per model would mislead a
study of serving or forwarding, because what one model is unsure of is hard for the others too: on
Fashion-MNIST the CNN is right on .90 of the test images, but only on .74 of those that the small
perceptron would forward to it.

A table is a folder. Its ``meta.yaml`` tells how it was made (written by
`infsim.calibrate.accuracy_ladder`) and has at least::

    outputs:
      files:                       # one for each split
        validation: {file: validation.parquet, sha256: ...}
        test: {file: test.parquet, sha256: ...}
    models:
      cnn: {parameters: 25866, macs: 551488, weight_bytes: 103464, weight_bits: 32}

``sha256`` may be left out. A Parquet file has the column ``label`` and one column per model with a
list of probabilities for each sample, as unsigned integers in multiples of 1/65535.
"""

from __future__ import annotations

import hashlib
import math
from bisect import bisect_right
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import yaml
from numpy.typing import NDArray

from infsim.errors import InputError, Where, did_you_mean

LEVELS = 65535
"""Probabilities are stored as multiples of 1/LEVELS."""

GAIN_BINS = 20
"""Bins of `AccuracyTable.expected_gain`: best of 10 to 100 by cross-validation (see there)."""

_T = TypeVar("_T")


class AccuracyTableError(InputError, ValueError):
    """A table of accuracy is absent, damaged, or does not have the model that was asked for."""


class _PerModel(dict[str, _T]):
    """Something per model; an unknown model is an error that names the nearest one."""

    def __init__(self, source: Path, entries: Mapping[str, _T]) -> None:
        super().__init__(entries)
        self.source = source

    def __missing__(self, model: str) -> _T:
        raise AccuracyTableError(
            f"no model {model!r} in this table of accuracy{did_you_mean(str(model), self)}",
            where=Where(str(self.source)),
            hint=f"it has {', '.join(self)}",
        )


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What one answer of a model costs.

    Attributes
    ----------
    parameters : int
        Weights and biases; of an exit, of all that runs until it answers.
    macs : int
        Multiply-accumulates per sample (a multiply-accumulate is two FLOP); of an exit, cumulative.
    weight_bytes : int
    weight_bits : int
        Bits of one weight: 32, or fewer if the model was compressed.
    """

    parameters: int
    macs: int
    weight_bytes: int
    weight_bits: int


@dataclass(frozen=True, eq=False)
class AccuracyTable:
    """Answers of every model on the same samples of one split.

    Attributes
    ----------
    source : Path
        The folder it was read from.
    split : str
        ``test``, on which answers are judged, or ``validation``, from which policies learn.
    label : uint8 (samples,)
        The right class.
    facts : mapping of str to ModelFacts
    levels : mapping of str to uint16 (samples, classes)
        Probabilities as stored, see `probabilities`.
    learning : AccuracyTable or None
        The validation split of a test split, None for the validation split, see `validation`.

    Notes
    -----
    ``prediction``, ``confidence`` and ``correct`` are mappings from a model's name to an array
    with one entry per sample: uint8 class, float64 probability of that class, bool.
    """

    source: Path
    split: str
    label: NDArray[np.uint8]
    facts: Mapping[str, ModelFacts]
    levels: Mapping[str, NDArray[np.uint16]] = field(repr=False)
    learning: AccuracyTable | None = field(default=None, repr=False)
    _gains: dict[tuple[str, str], tuple[list[float], list[float]]] = field(
        default_factory=dict, init=False, repr=False
    )

    def __post_init__(self) -> None:
        for name in ("facts", "levels"):
            object.__setattr__(self, name, _PerModel(self.source, getattr(self, name)))

    @property
    def models(self) -> tuple[str, ...]:
        return tuple(self.levels)

    @property
    def samples(self) -> int:
        return len(self.label)

    @property
    def validation(self) -> AccuracyTable:
        """The validation split (it is its own).

        `expected_gain` and `best_threshold` learn from it, never from the samples that judge.
        """
        return self if self.learning is None else self.learning

    @cached_property
    def prediction(self) -> Mapping[str, NDArray[np.uint8]]:
        return self._each(lambda levels: levels.argmax(axis=1).astype(np.uint8))

    @cached_property
    def confidence(self) -> Mapping[str, NDArray[np.float64]]:
        return self._each(lambda levels: levels.max(axis=1) / LEVELS)

    @cached_property
    def correct(self) -> Mapping[str, NDArray[np.bool_]]:
        return self._each(lambda levels: levels.argmax(axis=1) == self.label)

    def _each(self, compute: Callable[[NDArray[np.uint16]], _T]) -> Mapping[str, _T]:
        return _PerModel(self.source, {m: compute(levels) for m, levels in self.levels.items()})

    def probabilities(self, model: str) -> NDArray[np.float64]:
        """Return the class probabilities of a model, (samples, classes).

        They were rounded one by one, so rows sum to 1 only within the error of ``meta.yaml``.
        """
        return self.levels[model] / LEVELS

    def accuracy(self, model: str) -> float:
        """Return the fraction of samples of this split that a model gets right."""
        return float(self.correct[model].mean())

    def expected_gain(self, local: str, remote: str, confidence: float) -> float:
        """Return P(remote right) - P(local right) given the confidence of the local model.

        Forward when it exceeds the cost of offloading (the Bayes rule for two models). It is
        learnt from the validation split: the mean of the difference within 20 bins that hold
        equally many samples. Bins rather than an isotonic fit, because the gain need not be
        monotone (where neither model is right there is nothing to gain, and towards a weaker
        remote model it rises with confidence); over pairs of the ladder, five-fold
        cross-validation on the validation split finds both equally good when the remote model is
        better, bins better when it is not, and 10 to 30 bins better than more.

        Parameters
        ----------
        local, remote : str
            Names of models.
        confidence : float
            Of the answer of ``local``, in [0, 1].
        """
        learnt = self._gains.get((local, remote))
        if learnt is None:
            learnt = self._gains[local, remote] = self.validation._learn_gain(local, remote)
        edges, gains = learnt
        return gains[bisect_right(edges, confidence)]

    def _learn_gain(self, local: str, remote: str) -> tuple[list[float], list[float]]:
        confidence = self.confidence[local]
        gain = self.correct[remote].astype(float) - self.correct[local]
        shares = np.arange(1, GAIN_BINS) / GAIN_BINS
        # edges are confidences that occur, each the first of its bin: then no bin is empty
        edges = np.unique(np.quantile(confidence, shares, method="inverted_cdf"))
        edges = edges[edges > confidence.min()]
        bins = np.searchsorted(edges, confidence, side="right")
        return edges.tolist(), (np.bincount(bins, gain) / np.bincount(bins)).tolist()

    def best_threshold(self, local: str, remote: str, offload_cost: float) -> float:
        """Return the threshold that loses least on the validation split.

        A sample is forwarded if the confidence of ``local`` is *below* the threshold; see
        `forwarding_loss`. Of equally good thresholds the lowest is returned: 0 never forwards,
        infinity always does.
        """
        split = self.validation
        order = np.argsort(split.confidence[local], kind="stable")
        confidence = split.confidence[local][order]
        accepted = ~split.correct[local][order]
        forwarded = offload_cost + ~split.correct[remote][order]
        # losses[k]: the k least sure samples are forwarded
        losses = np.concatenate(([0.0], np.cumsum(forwarded - accepted)))
        splittable = np.concatenate(([True], confidence[1:] > confidence[:-1], [True]))
        k = int(np.where(splittable, losses, np.inf).argmin())
        if k == 0:
            return 0.0
        return math.inf if k == len(order) else float(confidence[k - 1 : k + 1].mean())

    def forwarding_loss(
        self, local: str, remote: str, threshold: float, offload_cost: float
    ) -> float:
        """Return the mean loss on this split when answers below a confidence are forwarded.

        A wrong answer loses 1, a forwarded sample ``offload_cost`` besides.
        """
        forwarded = self.confidence[local] < threshold
        right = np.where(forwarded, self.correct[remote], self.correct[local])
        return float(1 - right.mean() + offload_cost * forwarded.mean())


def calibration_error(
    confidence: NDArray[np.float64], correct: NDArray[np.bool_], bins: int = 15
) -> float:
    """Return the expected calibration error: mean |accuracy - confidence| over bins.

    Bins have equal width and weigh as much as they hold samples (Guo et al., ICML 2017).

    Parameters
    ----------
    confidence, correct : array (samples,)
        Confidence in [0, 1], and whether the answer was right.
    """
    which = np.minimum((confidence * bins).astype(np.intp), bins - 1)
    gaps = np.bincount(which, correct - confidence, bins)
    return float(np.abs(gaps).sum() / len(confidence))


# --- reading --------------------------------------------------------------------------------


def load_accuracy_table(path: Path) -> AccuracyTable:
    """Read a table: its test split, with the validation split in ``.validation``.

    Parameters
    ----------
    path : Path
        Folder with ``meta.yaml``.

    Raises
    ------
    AccuracyTableError
        A ValueError: the folder or a file is not there, damaged, or not such a table.
    """
    meta = _read_meta(path)
    files = _entry(path, meta, "outputs", "files")
    models = _entry(path, meta, "models")
    facts = {model: _facts(path, model, models[model]) for model in models}
    validation = _read_split(path, "validation", _entry(path, files, "validation"), facts)
    return _read_split(path, "test", _entry(path, files, "test"), facts, validation)


def _wrong(file: Path, message: str) -> AccuracyTableError:
    return AccuracyTableError(message, where=Where(str(file)))


def _read_meta(path: Path) -> dict[str, Any]:
    file = path / "meta.yaml"
    if not file.is_file():
        siblings = [other.parent.name for other in path.parent.glob("*/meta.yaml")]
        raise _wrong(file, f"no table of accuracy here{did_you_mean(path.name, siblings)}")
    try:
        meta = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise _wrong(file, f"not readable as YAML: {error}") from error
    if not isinstance(meta, dict):
        raise _wrong(file, f"expected a mapping with outputs and models, got {meta!r:.60}")
    return meta


def _entry(path: Path, mapping: dict[str, Any], *keys: str) -> dict[str, Any]:
    value: Any = mapping
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    if not isinstance(value, dict):
        raise _wrong(path / "meta.yaml", f"{'.'.join(keys)}: expected a mapping, got {value!r:.60}")
    return value


def _facts(path: Path, model: str, given: Any) -> ModelFacts:
    try:
        return ModelFacts(**{f.name: int(given[f.name]) for f in fields(ModelFacts)})
    except (KeyError, TypeError, ValueError) as error:
        needed = ", ".join(f.name for f in fields(ModelFacts))
        message = f"models.{model}: expected whole numbers {needed}"
        raise _wrong(path / "meta.yaml", message) from error


def _read_split(
    path: Path,
    split: str,
    entry: dict[str, Any],
    facts: Mapping[str, ModelFacts],
    learning: AccuracyTable | None = None,
) -> AccuracyTable:
    file = path / str(entry.get("file", f"{split}.parquet"))
    columns = _read_columns(file, entry.get("sha256"))
    missing = [name for name in ("label", *facts) if name not in columns]
    if missing:
        raise _wrong(file, f"no column {', '.join(missing)}")
    label = columns.pop("label")
    for name in facts:
        if columns[name].shape[:-1] != label.shape or label.max() >= columns[name].shape[-1]:
            message = f"{name}: expected as many classes as labels name, and a row per label"
            raise _wrong(file, message)
    levels = {name: columns[name].astype(np.uint16) for name in facts}
    return AccuracyTable(path, split, label.astype(np.uint8), facts, levels, learning)


def _read_columns(file: Path, sha256: str | None) -> dict[str, NDArray[Any]]:
    """Read a Parquet file of whole numbers; a column of lists becomes a matrix."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not file.is_file():
        raise _wrong(file, "missing; meta.yaml names it")
    content = file.read_bytes()
    if sha256 is not None and hashlib.sha256(content).hexdigest() != sha256:
        raise _wrong(file, "damaged or changed: its sha256 is not the one in meta.yaml")
    try:
        table = pq.ParquetFile(pa.BufferReader(content)).read().combine_chunks()
        return {name: _numbers(table[name].chunk(0)) for name in table.column_names}
    except pa.ArrowException as error:
        raise _wrong(file, f"not readable as Parquet of numbers: {error}") from error


def _numbers(array: Any) -> NDArray[Any]:
    import pyarrow as pa

    lists = pa.types.is_fixed_size_list(array.type)
    values = array.flatten() if lists else array
    if not pa.types.is_integer(values.type) or values.null_count:
        raise pa.ArrowTypeError(f"expected whole numbers without gaps, got {array.type}")
    # by DLPack, because pyarrow's to_numpy imports pandas (a second) where that is installed
    numbers = np.from_dlpack(values)
    return numbers.reshape(len(array), -1) if lists else numbers
