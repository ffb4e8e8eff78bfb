"""The figures of a study."""

from __future__ import annotations

from typing import TYPE_CHECKING

from infsim.figures import comparison, node_timeline
from infsim.results.recorder import Columns
from infsim.results.statistics import Estimate

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from infsim.study.study import Study


def figures(study: Study) -> dict[str, Figure]:
    """Return the figures by name.

    ``comparison`` has all alternatives; where nodes came and went, ``nodes`` shows those of the
    first run.
    """
    found = {"comparison": comparison(measured(study), estimates(study))}
    if study.runs and (study.runs[0].record.nodes["failures"] > 0).any():
        first = study.runs[0]
        found["nodes"] = node_timeline(first.record, f"the first run of {first.alternative}")
    return found


def measured(study: Study) -> dict[str, list[Columns]]:
    """Return the requests that arrived after the warm-up, by alternative and replication."""
    found: dict[str, list[Columns]] = {name: [] for name in study.alternatives}
    for run in study.runs:
        columns = run.record.requests
        kept = columns["arrival_s"] >= study.observations.warmups_s.get(run.replication, 0.0)
        found[run.alternative].append({name: column[kept] for name, column in columns.items()})
    return found


def estimates(study: Study) -> dict[str, dict[str, Estimate]]:
    """Return the estimates of the metrics of throughput by alternative."""
    from infsim.figures.throughput import PANELS

    return {
        name: {metric: study.observations.estimate(name, metric) for metric in PANELS}
        for name in study.alternatives
    }
