"""The command line as the tests use it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SCENARIO = """\
name: small
model: llama-3.1-8b
cluster:
  nodes:
    - {name: gpu, count: 2, device: a100-80gb, availability: {outages: [[3 s, 4 s]]}}
workload:
  arrivals: {rate: 5 /s}
  lengths: {input: 512, output: 100}
  requests: 20
policies: {placement: uniform}
output: {figures: []}
"""


@dataclass(frozen=True)
class Ended:
    """How a command ended, and what it said."""

    code: int
    out: str
    err: str


Command = Callable[..., Ended]


def _hear_ctrl_c() -> None:
    """Of a shell in the background, processes inherit that they ignore it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def start(*arguments: str, **options: Any) -> subprocess.Popen[str]:
    """Start a command in a process of its own, in the working directory."""
    root = str(Path(__file__).parents[1])
    return subprocess.Popen(
        [sys.executable, "-m", "infsim", *arguments],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": root, **options.pop("env", {})},
        **{"stdout": subprocess.PIPE, "preexec_fn": _hear_ctrl_c, **options},
    )
