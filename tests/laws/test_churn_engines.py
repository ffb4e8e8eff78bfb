"""Whatever makes nodes come and go, both engines see the same outages and do the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from infsim.engine.reference import simulate_reference
from infsim.engine.simulation import simulate
from infsim.scenario.build import build_experiment
from infsim.scenario.load import load

TIMES = {"up": "40 s", "down": "8 s"}
ENTRIES: dict[str, Any] = {
    "joint failures": TIMES | {"zone": TIMES, "region": {"up": "90 s", "down": "3 s"}},
    "announced": TIMES | {"notice": "5 s", "announced": 0.5},
    "observed": {"trace": "peers.avt", "time_scale": 0.01},
    "zones": {"profile": "spot-v100-like", "notice": "2 min"},
    "unlike nodes": "skype-like",
}


@pytest.mark.parametrize("name", ENTRIES)
def test_engines_agree_on_churn(name: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    lines = []
    for peer in range(4):
        edges = np.cumsum(rng.exponential([900.0, 2500.0] * 12))
        lines.append(f"p{peer} 12 {' '.join(f'{edge:.1f}' for edge in edges)}")
    (tmp_path / "peers.avt").write_text("\n".join(lines))
    entry = ENTRIES[name]
    if isinstance(entry, dict) and "trace" in entry:
        entry = entry | {"trace": str(tmp_path / "peers.avt")}
    loaded = load(
        {
            "name": "churn",
            "model": "llama-3.1-8b",
            "cluster": {
                "nodes": [
                    {"name": "come", "count": 3, "device": "a100-80gb", "availability": entry},
                    {"name": "stay", "device": "a100-80gb"},
                ]
            },
            "workload": {
                "arrivals": {"rate": "2 /s"},
                "lengths": {"input": 300, "output": 60},
                "duration": "3 min",
            },
            "policies": {"recovery": "replay"},
        }
    )
    records = [
        run(build_experiment(loaded, loaded.alternatives()[0], 0))
        for run in (simulate, simulate_reference)
    ]
    fast, slow = records
    assert np.array_equal(fast.requests["status"], slow.requests["status"])
    assert np.array_equal(fast.requests["attempts"], slow.requests["attempts"])
    for column in ("down_s", "up_s"):
        np.testing.assert_allclose(fast.nodes[column], slow.nodes[column], atol=1e-9)
    np.testing.assert_allclose(fast.requests["end_s"], slow.requests["end_s"], atol=1e-9)
    if name in ("joint failures", "announced", "observed"):
        assert fast.nodes["failures"].sum() > 3
