"""The table of errors in the page on costs, from the files of coefficients."""

from __future__ import annotations

import re

from infsim.cost.calibration import calibrated_devices, device_calibration
from tests.docs.pages import ROOT

PAGE = ROOT / "docs" / "explanation" / "cost-model.md"
TABLE = re.compile(r"(?<=\| device \| format \| what \| held out \| median \| p95 \|\n)(?:\|.*\n)+")


def error_rows() -> str:
    """Return the rows of the table, graphics processors first."""
    lines = ["|---|---|---|---|---|---|"]
    for device in sorted(calibrated_devices(), key=lambda name: (name.startswith("epyc"), name)):
        known = device_calibration(device)
        assert known is not None
        lines += [
            f"| {device} | {error['format']} | {error['what']} | {error['held_out']}"
            f" | {100 * error['median']:.1f} % | {100 * error['p95']:.1f} % |"
            for error in known.errors
        ]
    return "\n".join([*lines, ""])


def update() -> None:
    """Write the table into the page."""
    page = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(TABLE.sub(lambda _: error_rows(), page), encoding="utf-8")


if __name__ == "__main__":
    update()
