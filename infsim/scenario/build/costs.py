"""Whether the file that a scenario takes costs from prices anything in it."""

from __future__ import annotations

from infsim.cost.calibration import Calibration
from infsim.cost.engine_steps import EngineSteps
from infsim.cost.sources import named
from infsim.errors import InputError
from infsim.rng import Streams
from infsim.scenario.alternatives import Alternative
from infsim.scenario.build.accuracy import build_accuracy
from infsim.scenario.build.blame import blame
from infsim.scenario.build.cluster import build_cluster
from infsim.scenario.build.models import build_deployments
from infsim.scenario.build.roster import roster
from infsim.scenario.scenario import Scenario


def require_use(scenario: Scenario) -> None:
    """Check that costs from files are for something that is there.

    One alternative is enough: others may ask what would be without that device or model.

    Raises
    ------
    InputError
        At ``costs``, if no alternative has the device, or that model and format on it; or for a
        file that cannot be read.
    """
    idle: dict[str, Alternative] = {}
    used = set()
    for alternative in scenario.alternatives():
        with blame(alternative, "costs"):
            known = named(alternative.spec.costs)
        if known is None or _prices(known, alternative, scenario.spec.seed):
            used.add(alternative.spec.costs)
        else:
            idle.setdefault(alternative.spec.costs, alternative)
    for source, alternative in idle.items():
        known = named(source)
        if known is not None and source not in used:
            with blame(alternative, "costs"):
                raise InputError(f"it holds costs of {known.subject}, and the scenario has none")


def _prices(known: Calibration | EngineSteps, alternative: Alternative, seed: int) -> bool:
    members = roster(alternative)
    nodes = build_cluster(alternative, members, Streams(seed)).nodes
    return any(
        known.holds_for(nodes[i], deployment.format, deployment.model.name)
        for deployment in build_deployments(alternative, members, build_accuracy(alternative))
        for i in deployment.nodes
    )
