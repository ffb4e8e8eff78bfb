"""Public data that lies beside the checkout, not in it."""

from __future__ import annotations

from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


def shared(path: str) -> Path:
    """Return ``../shared/data/<path>``, or skip the test where it is absent."""
    found = SHARED / path
    if not found.exists():
        pytest.skip(f"public data not there: {found}")
    return found
