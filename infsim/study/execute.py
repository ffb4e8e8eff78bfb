"""One run: build the experiment, simulate it, and take down what it was made of."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from infsim.results.runs import Run

if TYPE_CHECKING:
    from infsim.engine.experiment import Experiment
    from infsim.model.deployment import Deployment
    from infsim.scenario.scenario import Scenario

EngineName = Literal["fast", "reference"]


class Job(NamedTuple):
    """Which run: index of the alternative, and of the replication."""

    alternative: int
    replication: int


def execute(
    scenario: Scenario,
    job: Job,
    engine: EngineName = "fast",
    progress: Callable[[int], None] | None = None,
) -> Run:
    """Simulate one alternative in one replication.

    Parameters
    ----------
    scenario : Scenario
    job : Job
    engine : {"fast", "reference"}
    progress : callable, optional
        Told the number of requests that have ended, whenever one does.
    """
    from infsim.engine.simulation import simulate
    from infsim.scenario.build import build_experiment

    started = time.process_time()
    alternative = scenario.alternatives()[job.alternative]
    experiment = build_experiment(scenario, alternative, job.replication)
    built = time.process_time()
    record = simulate(experiment, progress=progress, engine=engine)
    details = describe(experiment) | {
        "cpu_s": {"build": built - started, "simulate": time.process_time() - built}
    }
    return Run(alternative.name, job.replication, record, details)


DECLARED = "declared"
"""Power that nobody measured: idle, or the active power of the device."""


def describe(experiment: Experiment) -> dict[str, Any]:
    """Return what a run was made of, as plain JSON data."""
    cluster = experiment.cluster
    plans = [
        {
            "deployment": deployment.name,
            "stages": [
                {
                    "node": cluster.nodes[stage.node].name,
                    "operators": _operators(deployment, stage.operators),
                    "count": len(stage.operators),
                }
                for stage in plan.stages
            ],
            "pipelines": plan.pipelines,
            "notes": plan.notes,
        }
        for deployment, plan in zip(experiment.deployments, experiment.plans, strict=True)
    ]
    steps = experiment.costs.step_costs()
    costs = {
        "calibrated": bool(steps) and all(step.calibrated for step in steps),
        "partly_calibrated": any(step.calibrated for step in steps),
        "sources": sorted({step.source for step in steps}),
        "priced": sum(step.calls for step in steps),
        "extrapolated": sum(step.extrapolated for step in steps),
    }
    power = {
        node.device.name: table.source if table else DECLARED
        for i, node in enumerate(cluster.nodes)
        if node.device.active_w
        for table in [experiment.costs.power(i)]
    }
    found: dict[str, Any] = plain({"plans": plans, "costs": costs, "power": power})
    return found


def _operators(deployment: Deployment, held: Sequence[int]) -> list[Any]:
    """Return the first and the last operator of a part of a chain; of a graph, all by name."""
    graph = deployment.model.graph
    if graph.is_chain:
        return [held[0], held[-1]]
    return [graph.operators[i].name for i in held]


def plain(value: Any) -> Any:
    """Return JSON data of mappings, sequences, numbers (numpy's too) and texts."""
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, str | bool | int | None):
        return value
    if hasattr(value, "tolist"):  # a number or an array of numpy
        return plain(value.tolist())
    if isinstance(value, float):
        return value if abs(value) < float("inf") else None
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(inner) for inner in value]
    return str(value)
