"""Recorded runs, whatever recorded them: found, simulated and compared."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from infsim.errors import InputError, Where
from infsim.fidelity.comparison import Comparison, compare
from infsim.fidelity.pipeline import compare_pipeline, is_pipeline
from infsim.fidelity.recorded import Recorded
from infsim.fidelity.replay import simulated
from infsim.fidelity.served import compare_served, is_served
from infsim.fidelity.vllm import is_vllm, read_vllm
from infsim.paths import data_folder

FOLDER = "calibration/recorded"
"""The data folder of the runs that ship: a folder of runs for each system."""


def shipped() -> list[Path]:
    """Return the folders of the recorded runs that come with infsim."""
    return sorted(path for path in data_folder(FOLDER).rglob("*/") if is_run(path))


def is_run(folder: Path) -> bool:
    """Whether a folder holds a recorded run."""
    return any(known(folder) for known in (is_vllm, is_served, is_pipeline))


def compare_run(folder: Path) -> list[Comparison]:
    """Simulate what was recorded, and compare.

    Parameters
    ----------
    folder : Path
        A run of vLLM, or what records runs in ``tests/fidelity`` has written.

    Raises
    ------
    InputError
        If there is no recorded run, or it is damaged or cannot be simulated.
    """
    if is_vllm(folder):
        return [compare_recorded(read_vllm(folder))]
    if is_served(folder):
        return [compare_served(folder)]
    if is_pipeline(folder):
        return compare_pipeline(folder)
    said = "no recorded run in it" if folder.is_dir() else "no such folder"
    raise InputError(
        said,
        where=Where(str(folder)),
        hint="a run of vLLM has meta.json and requests.jsonl, of llama.cpp meta.json and"
        " requests.parquet, of a pipeline runs.json.gz",
    )


def compare_recorded(recorded: Recorded, costs: str | Path = "calibrated") -> Comparison:
    """Simulate a recorded serving engine as faithfully as its data allow, and compare.

    Parameters
    ----------
    recorded : Recorded
    costs : str or Path
        Where times of iterations come from, see `infsim.cost.costs.Costs`.

    Raises
    ------
    InputError
        If a request cannot be served.
    """
    found = simulated(recorded, costs)
    comparison = compare(recorded, found.record)
    late = f"a cold start: serves from {found.late_s:.2f} s on, as the first token tells"
    longest = f"attention waits for the longest context, {found.longest:.1f} times the mean one"
    notes = {late: found.late_s > 0, longest: found.longest > 1}
    told = [note for note, holds in notes.items() if holds]
    return replace(comparison, notes=[*comparison.notes, *told])
