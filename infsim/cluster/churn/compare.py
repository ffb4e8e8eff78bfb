"""How far made nodes are from the trace that they were fitted to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite

import numpy as np
from numpy.typing import NDArray

from infsim.cluster.churn.statistics import (
    availability_of,
    describe,
    durations_of,
    grid,
    online,
)
from infsim.cluster.churn.trace import ChurnTrace

Floats = NDArray[np.float64]

SCALARS = (
    "online_mean",
    "online_sd",
    "online_daily_swing",
    "online_autocorrelation_1h",
    "online_autocorrelation_6h",
    "online_autocorrelation_12h",
    "online_autocorrelation_24h",
)


def ks_distance(first: Floats, second: Floats) -> float:
    """Return the largest distance between two empirical distributions (Kolmogorov-Smirnov)."""
    both = np.sort(np.concatenate([first, second]))
    shares = [np.searchsorted(np.sort(x), both, "right") / len(x) for x in (first, second)]
    return float(np.abs(shares[0] - shares[1]).max())


def compare(real: ChurnTrace, made: Sequence[ChurnTrace]) -> dict[str, dict[str, float]]:
    """Return figures of a trace beside the mean of made ones, and distances between them.

    Parameters
    ----------
    real : ChurnTrace
    made : sequence of ChurnTrace
        Of several seeds; as long, and with as many nodes.

    Returns
    -------
    dict
        ``real`` and ``made`` figures (``made_sd``: from seed to seed), and ``ks`` distances of the
        availability of nodes and of complete uptimes and downtimes, those of all made traces
        together.
    """
    figures = {
        "real": _scalars(describe(real)),
    }
    each = [_scalars(describe(one)) for one in made]
    names = [name for name in figures["real"] if all(name in one for one in each)]
    figures["made"] = {name: float(np.mean([one[name] for one in each])) for name in names}
    figures["made_sd"] = {name: float(np.std([one[name] for one in each])) for name in names}
    figures["ks"] = _distances(real, made)
    return figures


def path_correlation(real: ChurnTrace, made: ChurnTrace) -> float:
    """Return the correlation of two counts of nodes over the same time."""
    times = grid(real.duration_s)
    return float(np.corrcoef(online(real.nodes, times), online(made.nodes, times))[0, 1])


def _scalars(figures: Mapping[str, float | Mapping[str, float]]) -> dict[str, float]:
    found = {name: figures[name] for name in SCALARS}
    for name in ("up_s", "down_s"):
        found[f"{name}_mean"] = figures[name]["mean"]  # type: ignore[index]
    zones = figures.get("zone_correlation", {})
    found |= {f"zone_correlation_{kind}": value for kind, value in zones.items()}  # type: ignore[union-attr]
    return {name: value for name, value in found.items() if isfinite(value)}  # type: ignore[arg-type,misc]


def _distances(real: ChurnTrace, made: Sequence[ChurnTrace]) -> dict[str, float]:
    ours = np.concatenate([availability_of(one) for one in made])
    found = {"availability": ks_distance(availability_of(real), ours)}
    for name, up in (("up", True), ("down", False)):
        ours = np.concatenate([durations_of(one, up).complete_s for one in made])
        found[name] = ks_distance(durations_of(real, up).complete_s, ours)
    return found
