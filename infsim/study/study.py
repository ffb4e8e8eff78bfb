"""The result of a study: its runs, and what they say."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from infsim.errors import InputError, did_you_mean
from infsim.results.manifest import inputs
from infsim.results.metrics import Objectives
from infsim.results.runs import Frame, Run
from infsim.results.tables import Table
from infsim.study.comparison import Observations, Warmup
from infsim.study.execute import DECLARED, EngineName
from infsim.study.inputs import input_files
from infsim.study.report import comparison_tables, differences_table, summary_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from infsim.scenario.scenario import Scenario


@dataclass(frozen=True, slots=True)
class Setup:
    """What a study was asked to do.

    Attributes
    ----------
    name : str
    question : str or None
    alternatives : tuple of str
    replications, seed : int
    engine : {"fast", "reference"}
    objectives : Objectives
    warmup : float or "auto"
    scenario : str
        The resolved scenario as YAML.
    inputs : sequence of mapping
        The files that it read, with their digests.
    """

    name: str
    question: str | None
    alternatives: tuple[str, ...]
    replications: int
    seed: int
    engine: EngineName
    objectives: Objectives
    warmup: Warmup
    scenario: str
    inputs: Sequence[Mapping[str, Any]]

    @classmethod
    def of(cls, scenario: Scenario, engine: EngineName) -> Setup:
        """Return the setup of a scenario, reading its input files for their digests."""
        spec = scenario.spec
        return cls(
            name=spec.name,
            question=spec.question,
            alternatives=tuple(found.name for found in scenario.alternatives()),
            replications=spec.replications,
            seed=spec.seed,
            engine=engine,
            objectives=Objectives(spec.slo.ttft, spec.slo.tpot, spec.slo.e2e),
            warmup=spec.engine.warmup,
            scenario=scenario.to_yaml(),
            inputs=inputs(input_files(scenario.to_dict())),
        )

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Setup:
        """Return a setup from what `to_dict` gave."""
        values = {**data, "alternatives": tuple(data["alternatives"])}
        return cls(**values | {"objectives": Objectives(**data["objectives"])})

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON data."""
        return asdict(self)


class Study:
    """The runs of a scenario, and what they say about its alternatives.

    Attributes
    ----------
    setup : Setup
    runs : tuple of Run
        By alternative, then by replication.
    interrupted : bool
        True if it was stopped: some runs are missing or cut short.
    started : str
        ISO time.
    wall_s : float
    """

    def __init__(
        self,
        setup: Setup,
        runs: Sequence[Run],
        *,
        interrupted: bool = False,
        started: str = "",
        wall_s: float = 0.0,
    ) -> None:
        self.setup = setup
        self.runs = tuple(runs)
        self.interrupted = interrupted
        self.started = started
        self.wall_s = wall_s

    # --- what they say --------------------------------------------------------------------------

    @property
    def alternatives(self) -> tuple[str, ...]:
        """Names of the alternatives that have runs."""
        return self.observations.alternatives

    @cached_property
    def observations(self) -> Observations:
        """Metrics of all runs."""
        return Observations(self.runs, self.setup.objectives, self.setup.warmup)

    @cached_property
    def summary(self) -> Table:
        """One row per alternative, with an estimate of each metric."""
        return summary_table(self.observations)

    @cached_property
    def differences(self) -> Table:
        """One row per alternative and metric: the difference to the first alternative."""
        return differences_table(self.observations)

    @cached_property
    def comparison(self) -> tuple[Table, ...]:
        """The headline metrics of all alternatives side by side, for people."""
        return tuple(comparison_tables(self.observations))

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader has to know to judge the numbers."""
        found = []
        if self.interrupted:
            planned = len(self.setup.alternatives) * self.setup.replications
            whole = sum(not run.record.interrupted for run in self.runs)
            found.append(f"Interrupted: {whole} of {planned} runs have ended.")
        if unsure := self.observations.warmups_unsure:
            found.append(f"Too short to tell where the warm-up ends (MSER-5): {unsure} runs.")
        unfinished = {
            name: sum(run.unfinished for run in self.runs if run.alternative == name)
            for name in self.alternatives
        }
        if any(unfinished.values()):
            counts = ", ".join(f"{name} {count:,}" for name, count in unfinished.items())
            found.append(f"Unfinished at the end, and in no E2E latency: {counts} requests.")
        found += self._unproven_plans()
        costs = [run.details["costs"] for run in self.runs if "costs" in run.details]
        if not all(cost["calibrated"] for cost in costs):
            partly = any(cost.get("partly_calibrated", cost["calibrated"]) for cost in costs)
            which = "Partly calibrated: some" if partly else "Uncalibrated:"
            found.append(f"{which} iteration times come from a model, not from measurements.")
        if extrapolated := sum(cost["extrapolated"] for cost in costs):
            priced = max(sum(cost["priced"] for cost in costs), extrapolated)
            share = f"{extrapolated / priced:.1%}".replace("%", " %")
            found.append(
                f"{extrapolated:,} of {priced:,} iteration times ({share}) were extrapolated."
            )
        powers = {device: source for run in self.runs for device, source in run.power.items()}
        if declared := sorted(device for device, source in powers.items() if source == DECLARED):
            which = "" if len(declared) == len(powers) else f" of {', '.join(declared)}"
            found.append(f"Power{which} is declared, not measured: idle, or active in iterations.")
        return tuple(found)

    def _unproven_plans(self) -> list[str]:
        """Tell of integer programs that stopped before they had proven their plan."""
        gaps: dict[str, float] = {}
        for run in self.runs:
            for plan in run.details.get("plans") or ():
                if plan["notes"].get("status") == "node limit":
                    gap = plan["notes"].get("gap")  # infinite ones are None in a run folder
                    gap = float("inf") if gap is None else gap
                    gaps[run.alternative] = max(gap, gaps.get(run.alternative, 0.0))
        if not gaps:
            return []
        counts = ", ".join(f"{name} {gap * 100:.1f} %" for name, gap in gaps.items())
        return [f"Plans not proven best, the solver stopped at its node limit; gap: {counts}."]

    # --- what happened --------------------------------------------------------------------------

    def run(self, alternative: str | None = None, replication: int = 0) -> Run:
        """Return one run; of the first alternative unless one is named.

        Raises InputError if there is none.
        """
        names = self.alternatives
        if not names:
            raise InputError("the study has no runs")
        name = names[0] if alternative is None else alternative
        for run in self.runs:
            if (run.alternative, run.replication) == (name, replication):
                return run
        if name not in names:
            raise InputError(f"no alternative {name!r}{did_you_mean(name, names)}")
        raise InputError(f"alternative {name!r} has no replication {replication}")

    def requests(self, alternative: str | None = None, replication: int = 0) -> Frame:
        """Return the requests of a run, one row each."""
        return Frame.of(self.run(alternative, replication), "requests")

    def nodes(self, alternative: str | None = None, replication: int = 0) -> Frame:
        """Return the totals of the nodes of a run, one row each."""
        return Frame.of(self.run(alternative, replication), "nodes")

    def segments(self, alternative: str | None = None, replication: int = 0) -> Frame:
        """Return the spans of equal iterations of a run, one row each."""
        return Frame.of(self.run(alternative, replication), "segments")

    def incidents(self, alternative: str | None = None, replication: int = 0) -> Frame:
        """Return the incidents of a run, one row each."""
        return Frame.of(self.run(alternative, replication), "incidents")

    # --- what it looks like ---------------------------------------------------------------------

    def figures(self) -> dict[str, Figure]:
        """Return the figures of the study by name, for notebooks and `infsim.figures.save`."""
        from infsim.study.gallery import figures

        return figures(self)

    def text(self, width: int | None = None, color: bool = False) -> str:
        """Return the comparison for a terminal.

        Parameters
        ----------
        width : int, optional
            By default that of the terminal if stdout is one, else as wide as needed.
        color : bool
            Whether to use colours and other escape sequences.
        """
        if width is None and sys.stdout.isatty():
            width = shutil.get_terminal_size().columns
        head = [self.setup.name]
        head += [self.setup.question] if self.setup.question else []
        comparison = comparison_tables(self.observations, width)
        tables = [table.text(width, color) for table in comparison]
        return "\n".join([*head, *tables, *self.notes])

    def to_dict(self) -> dict[str, Any]:
        """Return the result as plain JSON data; the same seed gives the same."""
        return {
            "scenario": self.setup.name,
            "alternatives": list(self.alternatives),
            "interrupted": self.interrupted,
            "notes": list(self.notes),
            "runs": [
                {
                    "alternative": run.alternative,
                    "replication": run.replication,
                    "interrupted": run.record.interrupted,
                    "warmup_s": self.observations.warmups_s.get(run.replication, 0.0),
                    "end_s": run.record.end_s,
                    "counters": dict(run.record.counters),
                }
                for run in self.runs
            ],
            "summary": self.summary.to_dict(),
            "differences": self.differences.to_dict(),
        }

    def __repr__(self) -> str:
        return f"<Study {self.setup.name!r}: {len(self.runs)} runs of {list(self.alternatives)}>"

    def _repr_html_(self) -> str:
        from html import escape

        head = f"<h4>{escape(self.setup.name)}</h4>"
        head += f"<p>{escape(self.setup.question)}</p>" if self.setup.question else ""
        notes = "".join(f"<p><small>{escape(note)}</small></p>" for note in self.notes)
        return head + "".join(table.html() for table in self.comparison) + notes

    # --- the run folder -------------------------------------------------------------------------

    def save(
        self,
        path: str | Path,
        *,
        figures: Sequence[str] = ("png",),
        timeline: bool = False,
    ) -> None:
        """Write the run folder, whole or not at all; an earlier run folder there is replaced.

        Parameters
        ----------
        path : path
        figures : sequence of {"pdf", "png", "svg"}
            Formats of the figures; empty for none.
        timeline : bool
            Whether to write a timeline of each run for https://ui.perfetto.dev.

        Raises
        ------
        InputError
            If it cannot be written.
        """
        from infsim.study.store import save

        save(self, Path(path), figures, timeline)

    @classmethod
    def load(cls, path: str | Path) -> Study:
        """Read a run folder again.

        Raises
        ------
        InputError
            If it is none, or damaged.
        """
        from infsim.study.store import load

        return load(Path(path))
