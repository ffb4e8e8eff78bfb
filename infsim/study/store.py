"""The run folder of a study: written whole, read again, repeated."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from infsim.errors import InputError, Where
from infsim.results.digests import digest_all, digest_json
from infsim.results.export import read_tables, write_tables
from infsim.results.folder import MANIFEST, whole_folder
from infsim.results.manifest import environment, software
from infsim.results.runs import TABLES, Run, digests
from infsim.results.timeline import write_timeline
from infsim.study.study import Setup, Study

if TYPE_CHECKING:
    from collections.abc import Mapping


def save(study: Study, path: Path, figures: Sequence[str], timeline: bool) -> None:
    """Write a run folder; see `Study.save`."""
    with whole_folder(path) as folder:
        (folder / "scenario.yaml").write_text(study.setup.scenario, encoding="utf-8")
        write_tables(folder, study.runs)
        _write_json(folder / "summary.json", study.to_dict())
        if figures and study.runs:
            _write_figures(study, folder / "figures", figures)
        if timeline:
            _write_timelines(study, folder / "timelines")
        _write_json(folder / MANIFEST, manifest(study))


def manifest(study: Study) -> dict[str, Any]:
    """Return where the results come from, and their digests.

    What may differ between two equal runs (times, machine, software) is in here only.
    """
    per_run = [digests(run.record) for run in study.runs]
    by_table = {table: digest_all(found[table] for found in per_run) for table in TABLES}
    return {
        "setup": {k: v for k, v in study.setup.to_dict().items() if k != "scenario"},
        "interrupted": study.interrupted,
        "started": study.started,
        "wall_s": study.wall_s,
        "command": sys.argv,
        "software": software(),
        "environment": environment(),
        "runs": [
            {
                "alternative": run.alternative,
                "replication": run.replication,
                "interrupted": run.record.interrupted,
                "digests": found,
                **run.details,
            }
            for run, found in zip(study.runs, per_run, strict=True)
        ],
        "digests": {**by_table, "summary": digest_json(study.to_dict())},
    }


def load(path: Path) -> Study:
    """Read a run folder; see `Study.load`."""
    about, summary = read_manifest(path), _read_json(path / "summary.json")
    scenario = _read_text(path / "scenario.yaml")
    try:
        setup = Setup.from_dict({**about["setup"], "scenario": scenario})
        records = list(read_tables(path, summary["runs"]))
        runs = [
            Run(entry["alternative"], entry["replication"], record, _details(entry))
            for entry, record in zip(about["runs"], records, strict=True)
        ]
        study = Study(
            setup,
            runs,
            interrupted=about["interrupted"],
            started=about["started"],
            wall_s=about["wall_s"],
        )
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"damaged run folder: {error}", where=Where(str(path))) from error
    return study


def read_manifest(path: Path) -> dict[str, Any]:
    """Read the manifest of a run folder; InputError if it is none."""
    if not (path / MANIFEST).is_file():
        raise InputError(f"{str(path)!r} is no run folder: it has no {MANIFEST}")
    found: dict[str, Any] = _read_json(path / MANIFEST)
    return found


def _details(entry: Mapping[str, Any]) -> dict[str, Any]:
    own = ("alternative", "replication", "interrupted", "digests")
    return {key: value for key, value in entry.items() if key not in own}


def _write_figures(study: Study, folder: Path, formats: Sequence[str]) -> None:
    from infsim.figures.style import save as save_figure

    folder.mkdir()
    for name, figure in study.figures().items():
        for suffix in formats:
            save_figure(figure, folder / f"{name}.{suffix}")


def _write_timelines(study: Study, folder: Path) -> None:
    folder.mkdir()
    for number, run in enumerate(study.runs):
        name = re.sub(r"[^\w.=-]+", "-", run.alternative).strip("-")
        file = f"{number:02d}-{name}-{run.replication}.json.gz"
        write_timeline(run.record, folder / file)


def _write_json(path: Path, data: Any) -> None:
    text = json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")


def _read_json(path: Path) -> Any:
    try:
        return json.loads(_read_text(path))
    except json.JSONDecodeError as error:
        where = Where(str(path), error.lineno, error.colno)
        raise InputError(f"damaged run folder: {error.msg}", where=where) from error


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"damaged run folder: {error}", where=Where(str(path))) from error
