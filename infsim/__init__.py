"""A discrete-event simulator for research on inference scheduling.

>>> import infsim
>>> study = infsim.run("scenarios/quickstart.yaml")  # doctest: +SKIP
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from infsim.registry import register
    from infsim.scenario.load import load
    from infsim.scenario.scenario import Scenario
    from infsim.study.api import compare, run
    from infsim.study.study import Study

__version__ = "0.1.0"
__all__ = ["Scenario", "Study", "__version__", "compare", "load", "register", "run"]

# imported at first use: `import infsim` has to be cheap for the command line
_HOMES = {
    "Scenario": "infsim.scenario.scenario",
    "Study": "infsim.study.study",
    "compare": "infsim.study.api",
    "load": "infsim.scenario.load",
    "register": "infsim.registry",
    "run": "infsim.study.api",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'infsim' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
