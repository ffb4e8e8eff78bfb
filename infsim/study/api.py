"""What notebooks and scripts call: ``infsim.run`` and ``infsim.compare``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from infsim.scenario.load import load
from infsim.scenario.scenario import Scenario
from infsim.study.execute import EngineName
from infsim.study.run import run_study

if TYPE_CHECKING:
    from infsim.study.study import Study

Source = str | Path | Mapping[str, Any] | Scenario
Entries = Sequence[str | Mapping[str, Any]]


def run(
    scenario: Source,
    *,
    set: Iterable[str] = (),  # noqa: A002 - the name of the option of the command line
    seed: int | None = None,
    replications: int | None = None,
    out: str | Path | None = None,
    jobs: int = 1,
    progress: bool | None = None,
    engine: EngineName = "fast",
) -> Study:
    """Run a scenario.

    Parameters
    ----------
    scenario : str, Path, mapping or Scenario
        A YAML file, the bare name of one that infsim ships, its content, or a loaded one.
    set : iterable of str
        Overrides ``dotted.path=value``.
    seed, replications : int, optional
        Override those of the scenario.
    out, jobs, progress, engine
        As for `infsim.study.run.run_study`. In a script, more than one job needs
        ``if __name__ == "__main__":`` around the call, as for any `multiprocessing`.

    Returns
    -------
    Study

    Raises
    ------
    InfsimError
        See `infsim.errors`: bad input, a policy that fails.

    Examples
    --------
    >>> study = infsim.run("quickstart", seed=7)  # doctest: +SKIP
    >>> study.summary.to_pandas()  # doctest: +SKIP
    """
    loaded = load(scenario, set=set, seed=seed, replications=replications)
    return run_study(loaded, out=out, jobs=jobs, progress=progress, engine=engine)


def compare(
    scenario: Source,
    axes: Mapping[str, Sequence[Any]] | None = None,
    *,
    placement: Entries | None = None,
    routing: Entries | None = None,
    batching: Entries | None = None,
    delivery: Entries | None = None,
    recovery: Entries | None = None,
    cross: bool = True,
    set: Iterable[str] = (),  # noqa: A002 - the name of the option of the command line
    seed: int | None = None,
    replications: int | None = None,
    out: str | Path | None = None,
    jobs: int = 1,
    progress: bool | None = None,
    engine: EngineName = "fast",
) -> Study:
    """Run a scenario under alternatives, in place of those that it lists itself.

    Parameters
    ----------
    scenario : str, Path, mapping or Scenario
        As for `run`.
    axes : mapping of str to sequence, optional
        Values to compare by dotted path: ``{"workload.rate": ["1 /s", "2 /s"]}``.
    placement, routing, batching, delivery, recovery : sequence, optional
        Policies to compare: names, ``file.py:Class``, or mappings of ``name`` and parameters.
    cross : bool
        All combinations; otherwise the first values go together, the second ones, and so on.
    set, seed, replications, out, jobs, progress, engine
        As for `run`.

    Returns
    -------
    Study
        Its first alternative is the one that the others are compared with.

    Raises
    ------
    InfsimError
        See `infsim.errors`.

    Examples
    --------
    >>> infsim.compare("quickstart", routing=["random", "least-loaded"])  # doctest: +SKIP
    """
    kinds = {
        "placement": placement,
        "routing": routing,
        "batching": batching,
        "delivery": delivery,
        "recovery": recovery,
    }
    given = {kind: list(entries) for kind, entries in kinds.items() if entries is not None}
    block = {"cross": cross, **given, **{path: list(v) for path, v in (axes or {}).items()}}
    document = load(scenario, set=set, seed=seed, replications=replications).document
    asked = document.without("compare").replaced(("compare",), block, {})
    return run_study(
        Scenario.from_document(asked), out=out, jobs=jobs, progress=progress, engine=engine
    )
