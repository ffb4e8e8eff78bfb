"""Repeating a study from its run folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infsim.results.digests import digest_file
from infsim.study.store import manifest, read_manifest
from infsim.study.study import Study


@dataclass(frozen=True, slots=True)
class Rerun:
    """A study that was repeated.

    Attributes
    ----------
    study : Study
        The new one.
    differing : tuple of str
        Outputs that are not what they were; empty if the run was repeated exactly.
    changed_inputs : tuple of str
        Input files that are not what they were.
    changed_software : tuple of str
        Versions that are not what they were, as ``numpy 2.0.1 -> 2.1.0``.
    """

    study: Study
    differing: tuple[str, ...]
    changed_inputs: tuple[str, ...]
    changed_software: tuple[str, ...]

    @property
    def equal(self) -> bool:
        """Whether all digests are equal."""
        return not self.differing


def rerun(
    path: str | Path,
    *,
    out: str | Path | None = None,
    jobs: int = 1,
    progress: bool | None = None,
) -> Rerun:
    """Repeat the study of a run folder and compare the digests of its outputs.

    Of an interrupted study the runs that had ended are compared.

    Raises
    ------
    InputError
        If it is no run folder, or an input is gone.
    """
    from infsim.scenario.load import load
    from infsim.study.run import run_study

    folder = Path(path)
    before = read_manifest(folder)
    changed = tuple(_changed_inputs(before))
    study = run_study(
        load(folder / "scenario.yaml"),
        out=out,
        jobs=jobs,
        progress=progress,
        engine=before["setup"]["engine"],
    )
    after = manifest(study)
    return Rerun(study, tuple(_differing(before, after)), changed, tuple(_software(before, after)))


def _changed_inputs(before: dict[str, Any]) -> list[str]:
    return [
        entry["path"]
        for entry in before["setup"]["inputs"]
        if not Path(entry["path"]).is_file() or digest_file(Path(entry["path"])) != entry["sha256"]
    ]


def _differing(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """Return the outputs that differ: of each run its tables, then the summary."""
    new = {(run["alternative"], run["replication"]): run for run in after["runs"]}
    found = []
    for run in before["runs"]:
        key = (run["alternative"], run["replication"])
        if run["interrupted"]:
            continue
        for table, digest in run["digests"].items():
            if key not in new or new[key]["digests"][table] != digest:
                found.append(f"{table} of {key[0]!r}, replication {key[1]}")
    whole = not before["interrupted"]
    if whole and before["digests"]["summary"] != after["digests"]["summary"]:
        found.append("summary")
    return found


def _software(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    old, new = ({**m["software"], **m["software"]["packages"]} for m in (before, after))
    names = [name for name in old if name not in ("packages", "git")]
    return [f"{n} {old[n]} -> {new.get(n)}" for n in names if old[n] != new.get(n)]
