"""The composition root: from a scenario to the objects that one run needs."""

from infsim.scenario.build.costs import require_use
from infsim.scenario.build.experiment import build_experiment, check

__all__ = ["build_experiment", "check", "require_use"]
