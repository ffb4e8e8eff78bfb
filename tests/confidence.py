"""Means of simulations against theory: batch means, control variates, Student's t."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

Floats = NDArray[np.float64]

CONFIDENCE = 0.999
BATCHES = 25


def batch_means(values: NDArray[np.floating[Any]]) -> Floats:
    """Means of successive batches, after a tenth of the run for it to warm up."""
    kept = values[len(values) // 10 :]
    kept = kept[: len(kept) // BATCHES * BATCHES]
    means: Floats = kept.reshape(BATCHES, -1).mean(axis=1)
    return means


def assert_mean(samples: Floats, theory: float, relative_width: float, *controls: Floats) -> None:
    """The mean of independent samples agrees with theory, and says something about it.

    Theory has to lie in the confidence interval of the mean, half of which may be
    `relative_width` of the theory at most. Controls are known to have mean 0 and vary with the
    samples: what they explain is taken away (Lavenberg and Welch, Management Science 1981).
    """
    from scipy.stats import t

    design = np.column_stack([np.ones(len(samples)), *controls])
    weights = np.linalg.lstsq(design, samples, rcond=None)[0]
    freedom = len(samples) - design.shape[1]
    residual = float(np.sum((samples - design @ weights) ** 2)) / freedom
    error = np.sqrt(residual * np.linalg.pinv(design.T @ design)[0, 0])
    half = float(t.ppf((1 + CONFIDENCE) / 2, freedom) * error)
    assert half < relative_width * theory, f"{half / theory:.1%} of theory is too wide to tell"
    assert float(weights[0]) == pytest.approx(theory, abs=half)
