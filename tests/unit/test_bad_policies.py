"""Policies that raise or answer nonsense: who it was, at which request, and why."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.command import Command

POLICY = """\
from dataclasses import dataclass
from infsim.policy.interface import *

@dataclass
class Mine({base}):
    {body}
"""
ROUTE = "def route(self, request, view): "
PLAN = "def plan(self, view): "
FIRST = PLAN + "return Iteration([(p, {}) for p in view.waiting[:1]])"
DECIDE = "def decide(self, request, view): "

# kind, code, whether a request is named, and what is said
NONSENSE = {
    "no replica": ("routing", ROUTE + "return None", True, "None"),
    "index of a replica": ("routing", ROUTE + "return 0", True, "0"),
    "replica that is not in the view": (
        "routing",
        ROUTE + "import copy; return copy.copy(view.replicas[0])",
        True,
        "Candidate",
    ),
    "router raises": ("routing", ROUTE + "return {}['x']", True, "KeyError: 'x'"),
    "router exits": ("routing", ROUTE + "raise SystemExit(0)", True, "SystemExit"),
    "router writes to the view": (
        "routing",
        ROUTE + "view.replicas[0].waiting = 3",
        True,
        "AttributeError",
    ),
    "router for ever": (
        "routing",
        ROUTE + "return self.route(request, view)",
        True,
        "RecursionError",
    ),
    "no iteration": ("batching", PLAN + "return None", False, "None"),
    "batching raises": ("batching", PLAN + "return 1 / 0", False, "ZeroDivisionError"),
    "chunk too large": ("batching", FIRST.format("p.remaining_tokens + 1"), True, "513"),
    "empty chunk": ("batching", FIRST.format("0"), True, "0"),
    "chunk of half a token": ("batching", FIRST.format("0.5"), False, "'float' object"),
    "chunk without tokens": ("batching", PLAN + "return Iteration(view.waiting)", False, "unpack"),
    "prompt twice": (
        "batching",
        PLAN + "return Iteration([(p, 1) for p in view.waiting] * 2)",
        None,
        "twice",
    ),
    "negative limit": ("batching", PLAN + "return Iteration(decode_limit=-1)", False, "-1"),
    "wakes in the past": ("batching", PLAN + "return Iteration(wake_s=-1)", False, "-1"),
    "wakes at no time": (
        "batching",
        PLAN + "return Iteration(wake_s=float('nan'))",
        False,
        "not a number",
    ),
    "clears the queue": ("batching", PLAN + "view.waiting.clear()", False, ""),
    "no decision": ("delivery", DECIDE + "return None", True, "None"),
    "no such deployment": ("delivery", DECIDE + "return Serve(9)", True, "9"),
    "deployment by name": ("delivery", DECIDE + "return Serve('small')", True, "'str' object"),
    "no such node": ("delivery", DECIDE + "return Forward(-1)", True, "-1"),
    "for ever forwarded": ("delivery", DECIDE + "return Forward(0)", True, "more than 32"),
    "no verdict": (
        "delivery",
        DECIDE + "return Serve(0)\n    def review(self, request, answer, view): pass",
        True,
        "None",
    ),
    "no action": ("recovery", "def recover(self, loss): return 'restart'", True, "'restart'"),
    "recovery raises": ("recovery", "def recover(self, loss): return 1 / 0", True, "ZeroDiv"),
}
BASES = {kind: kind.capitalize() for kind in ("batching", "delivery", "recovery")}
BASES["routing"] = "Router"


@pytest.mark.parametrize("engine", ["fast", "reference"])
@pytest.mark.parametrize("case", NONSENSE)
def test_a_policy_that_answers_nonsense_is_named(case: str, engine: str, infsim: Command) -> None:
    kind, body, request, said = NONSENSE[case]
    Path("mine.py").write_text(POLICY.format(base=BASES[kind], body=body))
    options = ["--set", f"policies.{kind}=mine.py:Mine", "--engine", engine]
    ended = infsim("small.yaml", *options)
    assert ended.code == 3
    first = ended.err.splitlines()[0]
    assert first.startswith(f"error: {kind} policy '")
    assert "mine.py:Mine'" in first
    assert request is None or ("at request " in first) == request
    assert said in first
    assert ended.out == ""
    assert not Path("runs/small").exists()


def test_an_error_points_at_the_line_of_the_policy(infsim: Command) -> None:
    # the error is raised in infsim, by what the policy did in its line 6
    Path("mine.py").write_text(POLICY.format(base="Batching", body=FIRST.format("0.5")))
    ended = infsim("small.yaml", "--set", "policies.batching=mine.py:Mine")
    assert "mine.py:6: def plan" in ended.err


@pytest.mark.parametrize("engine", ["fast", "reference"])
@pytest.mark.parametrize("answer", ["Iteration()", "Iteration(decode=False, wake_s=view.now + 60)"])
def test_a_policy_that_never_admits_ends_with_a_warning(
    answer: str, engine: str, infsim: Command
) -> None:
    Path("mine.py").write_text(POLICY.format(base="Batching", body=f"{PLAN}return {answer}"))
    options = ["--set", "policies.batching=mine.py:Mine", "--engine", engine, "--json"]
    ended = infsim("small.yaml", *options)
    assert ended.code == 0
    found = json.loads(ended.out, parse_constant=pytest.fail)
    assert any("Unfinished at the end" in note and "20" in note for note in found["notes"])
