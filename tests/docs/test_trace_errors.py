"""The table of errors in traces/README.md is that of the profiles."""

from __future__ import annotations

from infsim.cli.comparison_text import errors_table
from infsim.paths import data_folder
from infsim.workload.profile import load_profile


def test_the_table_of_errors_is_that_of_the_profiles() -> None:
    folder = data_folder("traces")
    profiles = {path.stem: load_profile(path) for path in sorted(folder.glob("*.yaml"))}
    text = (folder / "README.md").read_text(encoding="utf-8")
    assert errors_table(profiles) in text, "put in what 'infsim trace errors' prints"
