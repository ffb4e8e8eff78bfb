"""The table of errors in the docs is that of the files of coefficients."""

from __future__ import annotations

import re

from infsim.cost.calibration import calibrated_devices, device_calibration
from tests.docs.pages import ROOT

ROW = re.compile(
    r"^\| (\S+) \| (\S*) ?\| ([\w -]+) \| ([\w ]+) \| ([\d.]+) % \| ([\d.]+) % \|$", re.M
)


def test_errors_in_the_docs_are_those_of_the_fits() -> None:
    page = (ROOT / "docs" / "explanation" / "cost-model.md").read_text(encoding="utf-8")
    told = {tuple(match) for match in ROW.findall(page)}
    found = {
        (
            device, error["format"], error["what"], error["held_out"],
            f"{100 * error['median']:.1f}", f"{100 * error['p95']:.1f}",
        )
        for device in calibrated_devices()
        for known in [device_calibration(device)]
        if known is not None
        for error in known.errors
    }  # fmt: skip
    assert told == found
