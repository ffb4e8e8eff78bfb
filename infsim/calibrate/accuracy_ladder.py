"""Measure which images every model of a small ladder gets right, and how sure it is of each.

Run ``python -m infsim.calibrate.accuracy_ladder --data DIR --out DIR``. It trains the ladder on
Fashion-MNIST (a few minutes on one core) and writes what `infsim.cost.accuracy` reads: the class
probabilities of every model on the same validation and test images, and ``meta.yaml`` with what
was measured and how. Needs torch (``infsim[calibrate]``).

The images are split as they come: the first 50,000 of the training file to train on, its last
10,000 for validation, the test file for test. Learning rate and epochs were chosen on validation,
the widths of the network with exits so that its exits spread over the ladder.
"""

# mypy: disable-error-code="import-not-found"
# torch is an extra; where it is missing, its types are unknown

from __future__ import annotations

import argparse
import gzip
import hashlib
import logging
import shutil
import subprocess
import sys
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from numpy.typing import NDArray

from infsim.calibrate.accuracy_networks import (
    BATCH,
    CLASSES,
    LADDER,
    LEARNING_RATE,
    SIDE,
    Network,
    multiply_accumulates,
    predict,
    rounded,
    size,
    train,
)
from infsim.cost.accuracy import LEVELS, calibration_error

Images = NDArray[np.float32]
Labels = NDArray[np.uint8]
Probabilities = NDArray[np.float64]

log = logging.getLogger(__name__)

TRAIN_SAMPLES = 50_000
PACKAGE = "dataset-fashion-mnist"
FILES = {
    "train": ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"),
    "test": ("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"),
}
MEASURED = ("validation", "test")
ECE_BINS = 15
COARSE = 257  # LEVELS = 255 * COARSE: outputs other than the first class are kept to 1/255
COMPRESSED = {"mlp512x2": (8, 4, 3, 2), "cnn": (8, 4, 3, 2)}

# --- data -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Split:
    """Images (n, 1, 28, 28) in [0, 1] and labels (n,)."""

    images: Images
    labels: Labels

    def __getitem__(self, part: slice) -> Split:
        return Split(self.images[part], self.labels[part])


def load_splits(folder: Path) -> dict[str, Split]:
    """Read the four IDX files of Fashion-MNIST as ``train``, ``validation`` and ``test``."""
    given, test = (_load(folder, *FILES[name]) for name in ("train", "test"))
    return {
        "train": given[:TRAIN_SAMPLES],
        "validation": given[TRAIN_SAMPLES:],
        "test": test,
    }


def _load(folder: Path, images: str, labels: str) -> Split:
    pixels = _read_idx(folder / images, header=16).reshape(-1, 1, SIDE, SIDE)
    return Split(pixels.astype(np.float32) / np.float32(255), _read_idx(folder / labels, header=8))


def _read_idx(path: Path, header: int) -> NDArray[np.uint8]:
    return np.frombuffer(gzip.decompress(path.read_bytes()), np.uint8, offset=header)


# --- what is measured -----------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """One model of the table: facts for ``meta.yaml``, and probabilities by split."""

    facts: dict[str, Any]
    outputs: dict[str, Probabilities]


def measure_ladder(splits: dict[str, Split], seed: int) -> dict[str, Row]:
    """Train and measure the whole ladder and its compressed copies."""
    rows: dict[str, Row] = {}
    for name, recipe in LADDER.items():
        log.info("training %s", name)
        network = train(recipe, splits["train"].images, splits["train"].labels, seed)
        rows |= measure(name, network, splits)
        for bits in COMPRESSED.get(name, ()):
            rows |= measure(name, rounded(network, bits), splits, bits)
    return rows


def measure(
    name: str, network: Network, splits: dict[str, Split], bits: int = 32
) -> dict[str, Row]:
    """Return a row for each exit of a network; the name of a row says its exit and its bits."""
    suffix = "" if bits == 32 else f"-int{bits}"
    exits = range(1, len(network.heads) + 1)
    names = [f"{name}-exit{k}{suffix}" for k in exits] if len(exits) > 1 else [name + suffix]
    outputs = {split: predict(network, splits[split].images) for split in MEASURED}
    rows = {}
    for k, row, macs in zip(exits, names, multiply_accumulates(network), strict=True):
        parameters, weight_bytes = size(network.until(k), bits)
        row_outputs = {split: answers[k - 1] for split, answers in outputs.items()}
        scores = {split: score(p, splits[split].labels) for split, p in row_outputs.items()}
        facts = {
            "network": name,
            "exit": k,
            "weight_bits": bits,
            "parameters": parameters,
            "weight_bytes": weight_bytes,
            "macs": macs,
            "flops": 2 * macs,
            "accuracy": {split: accuracy for split, (accuracy, _) in scores.items()},
            "ece": {split: error for split, (_, error) in scores.items()},
        }
        rows[row] = Row(facts, row_outputs)
    return rows


def score(probabilities: Probabilities, labels: Labels) -> tuple[float, float]:
    """Return accuracy and expected calibration error."""
    correct = probabilities.argmax(axis=1) == labels
    error = calibration_error(probabilities.max(axis=1), correct, ECE_BINS)
    return float(correct.mean()), round(error, 5)


# --- what is written ------------------------------------------------------------------------


def quantise(probabilities: Probabilities) -> NDArray[np.uint16]:
    """Round probabilities to multiples of 1/LEVELS: the first class finely, the others coarsely.

    The first class and the order of confidences survive (but for new ties): rounding is monotone,
    and the other classes are kept below the first one.
    """
    first = probabilities.argmax(axis=1)[:, None]
    confidence = np.rint(probabilities.max(axis=1, keepdims=True) * LEVELS)
    others = np.rint(probabilities * (LEVELS / COARSE)) * COARSE
    levels: NDArray[np.float64] = np.minimum(others, confidence - 1)
    np.put_along_axis(levels, first, confidence, axis=1)
    return levels.astype(np.uint16)


def write_split(path: Path, rows: dict[str, Row], split: str, labels: Labels) -> dict[str, Any]:
    """Write the outputs of every model on one split; return what ``meta.yaml`` says of it."""
    columns = {"label": pa.array(labels, pa.uint8())}
    worst = dict.fromkeys(("confidence", "any_class"), 0.0)
    for name, row in rows.items():
        given, levels = row.outputs[split], quantise(row.outputs[split])
        errors = {
            "confidence": np.abs(levels.max(axis=1) / LEVELS - given.max(axis=1)),
            "any_class": np.abs(levels / LEVELS - given),
        }
        worst = {kind: max(worst[kind], float(error.max())) for kind, error in errors.items()}
        columns[name] = pa.FixedSizeListArray.from_arrays(levels.ravel(), CLASSES)
    # plain pages under zstd: the dictionaries that parquet would add by default only cost room
    pq.write_table(
        pa.table(columns),
        path,
        compression="zstd",
        compression_level=19,
        use_dictionary=False,
        write_statistics=False,
    )
    return {
        "file": path.name,
        "sha256": _sha256(path),
        "samples": len(labels),
        "worst_error": {name: float(f"{error:.3g}") for name, error in worst.items()},
    }


def describe(data: Path, out: Path, seed: int) -> dict[str, Any]:
    """Return what ``meta.yaml`` says of the data and of how the table was made."""
    import torch

    return {
        "dataset": {
            "name": "Fashion-MNIST",
            "source": "https://github.com/zalandoresearch/fashion-mnist",
            "package": f"Debian package {PACKAGE} {_package_version()}",
            "licence": "MIT (Expat), copyright 2017 Zalando SE",
            "sha256": {name: _sha256(data / name) for pair in FILES.values() for name in pair},
            "splits": {
                "train": f"the first {TRAIN_SAMPLES} images of the training file",
                "validation": "the other 10000 images of the training file",
                "test": "the test file, in its order",
            },
        },
        "made": {
            "date": date.today().isoformat(),
            "command": (
                "python -m infsim.calibrate.accuracy_ladder "
                f"--data {data} --out {out} --seed {seed}"
            ),
            "seed": seed,
            "torch": str(torch.__version__),
            "training": f"Adam {LEARNING_RATE:g}, cosine to 0, batches of {BATCH}, one CPU thread",
            "epochs": {name: recipe.epochs for name, recipe in LADDER.items()},
            "compression": (
                "weights rounded to nearest, symmetric per output channel, no clipping, "
                "no data; activations float32"
            ),
            "ece": f"{ECE_BINS} bins of equal width, of the outputs before rounding",
            "macs": "per image, matrices and convolutions; of an exit, all that runs to it",
        },
    }


def _package_version() -> str:
    query = shutil.which("dpkg-query")
    if query is None:
        return "of unknown version"
    command = [query, "--show", "--showformat=${Version}", PACKAGE]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    return answer.stdout or "of unknown version"


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def write(out: Path, data: Path, seed: int) -> None:
    """Train, measure, and write the table of one seed into the folder ``out``."""
    splits = load_splits(data)
    rows = measure_ladder(splits, seed)
    out.mkdir(parents=True, exist_ok=True)
    files = {
        split: write_split(out / f"{split}.parquet", rows, split, splits[split].labels)
        for split in MEASURED
    }
    encoding = (
        f"one column per model, uint16 per class; probability = value / {LEVELS}; the first "
        f"class is rounded to 1/{LEVELS}, the others to 1/{LEVELS // COARSE} and below the first"
    )
    meta = describe(data, out, seed) | {
        "outputs": {"encoding": encoding, "files": files},
        "models": {name: row.facts for name, row in rows.items()},
    }
    text = yaml.safe_dump(meta, sort_keys=False, width=100)
    (out / "meta.yaml").write_text(text, encoding="utf-8")


def main(arguments: list[str] | None = None) -> None:
    """Read the command line and write the table."""
    import torch

    parser = argparse.ArgumentParser(description="Measure the accuracy ladder on Fashion-MNIST.")
    parser.add_argument("--data", type=Path, required=True, help="folder of the four IDX files")
    parser.add_argument("--out", type=Path, required=True, help="folder to write the table into")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(message)s")
    torch.set_num_threads(1)  # sums are then in one order, and the table the same every time
    write(given.out, given.data, given.seed)


if __name__ == "__main__":
    main()
