"""The file of coefficients, written."""

from __future__ import annotations

import json
from pathlib import Path

from infsim.cost.calibration import Calibration
from infsim.results.folder import whole_file


def write_calibration(calibration: Calibration, path: Path) -> None:
    """Write coefficients as JSON, one table a line, whole or not at all."""
    lines = []
    for key, value in calibration.to_json().items():
        if isinstance(value, list) and value:
            rows = ",\n  ".join(json.dumps(row, separators=(",", ":")) for row in value)
            lines.append(f"{json.dumps(key)}: [\n  {rows}\n]")
        else:
            lines.append(f"{json.dumps(key)}: {json.dumps(value)}")
    with whole_file(path) as scratch:
        scratch.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
