"""Layouts: Petals' block choice, and Helix's maximum flow."""

from __future__ import annotations

import json
from configparser import ConfigParser

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infsim.policy.placement.maxflow import layout_bound, layout_flow
from infsim.policy.placement.milp import Infeasible
from infsim.policy.placement.petals import (
    Window,
    block_throughputs,
    choose_start,
    join,
    settle,
    should_move,
)
from tests.shared_data import shared

HELIX = "fidelity/helix-24node-llama2-70b"


def test_petals_arrivals() -> None:
    windows = join(8, [(4, 10), (4, 5), (3, 4), (5, 6), (2, 3)])
    assert [(w.start, w.end) for w in windows] == [(0, 4), (4, 8), (4, 7), (3, 8), (0, 2)]
    assert block_throughputs(windows, 8).min() == 10


def test_petals_prefers_the_lowest_index_and_checks_the_length() -> None:
    assert choose_start(np.zeros(5), 2) == 0
    assert choose_start(np.array([1.0, 0.0, 1.0, 0.0, 1.0]), 2) == 0
    with pytest.raises(Infeasible):
        choose_start(np.zeros(3), 4)


@given(st.lists(st.integers(0, 3), min_size=1, max_size=9), st.data())
def test_petals_window_is_lexicographically_smallest(
    throughputs: list[int], data: st.DataObject
) -> None:
    length = data.draw(st.integers(1, len(throughputs)))
    starts = range(len(throughputs) - length + 1)
    expected = min(starts, key=lambda s: (sorted(throughputs[s : s + length]), s))
    assert choose_start(np.array(throughputs, dtype=float), length) == expected


def test_petals_server_moves_where_it_helps() -> None:
    """Two of three servers sit on the same half; the third half-server is the bottleneck."""
    crowd = [Window(0, 4, 10.0), Window(0, 4, 10.0), Window(0, 4, 10.0), Window(4, 8, 2.0)]
    assert should_move(crowd, 0, 8)
    assert block_throughputs(settle(crowd, 0, 8), 8).min() == 12.0
    assert not should_move(crowd, 3, 8)  # the only one on its blocks


def test_petals_server_stays_where_it_is_needed() -> None:
    balanced = join(8, [(4, 10), (4, 10)])
    assert not any(should_move(balanced, i, 8) for i in range(2))
    slightly = [Window(0, 4, 10.0), Window(0, 4, 1.0), Window(4, 8, 10.0)]
    assert not should_move(slightly, 1, 8)


def helix_layout(name: str) -> tuple[list[int], list[int], list[float]]:
    """Starts, ends and throughputs of a published layout (its first node is number 2)."""
    tables = json.loads(shared(f"{HELIX}/typical_token_throughput.json").read_text())
    cluster, layout = ConfigParser(), ConfigParser()
    cluster.read(shared(f"{HELIX}/cluster24.ini"))
    layout.read(shared(f"{HELIX}/layout/{name}.ini"))
    held = [json.loads(layout["Solution"][f"compute_node_{i + 2}"]) for i in range(24)]
    kinds = [cluster[f"ComputeNode-{i}"]["type"] for i in range(24)]
    rates = [tables[kind][str(len(h))] for kind, h in zip(kinds, held, strict=True)]
    return [h[0] for h in held], [h[-1] + 1 for h in held], rates


def test_helix_published_layout() -> None:
    """The authors' solver log gives 1289.555770275 tokens/s."""
    starts, ends, rates = helix_layout("ilp_sol")
    links = 1e9 / 16_384  # bytes/s over bytes of one activation
    flow = layout_flow(starts, ends, 80, rates, links, links, links)
    assert flow.value == pytest.approx(1289.5557702751, abs=1e-9)
    assert flow.entry.sum() == pytest.approx(flow.value, rel=1e-7)


def test_helix_bound() -> None:
    tables = json.loads(shared(f"{HELIX}/typical_token_throughput.json").read_text())
    count = {"A100": 4, "L4": 8, "T4": 12}
    nodes = [list(tables[kind].values()) for kind in count for _ in range(count[kind])]
    assert 1289.56 < layout_bound(nodes, 80) < 3000


def test_partial_inference_uses_overlaps() -> None:
    starts, ends, rates = [0, 2], [4, 6], [5.0, 7.0]
    assert layout_flow(starts, ends, 6, rates).value == 5.0
    assert layout_flow(starts, ends, 6, rates, partial=False).value == 0.0


def test_links_limit_and_bottleneck_is_named() -> None:
    starts, ends, rates = [0, 0, 2], [2, 2, 4], [3.0, 4.0, 10.0]
    flow = layout_flow(starts, ends, 4, rates)
    assert (flow.value, flow.bottleneck) == (7.0, (0, 1))
    limited = layout_flow(starts, ends, 4, rates, links=1.5)
    assert (limited.value, limited.bottleneck) == (3.0, ())


def test_empty_layout_has_no_flow() -> None:
    assert layout_flow([0, 0], [0, 0], 4, [1.0, 1.0]).value == 0.0


@settings(deadline=None, max_examples=40)
@given(
    st.lists(
        st.tuples(st.integers(0, 4), st.integers(1, 4), st.floats(0.1, 9.0)),
        min_size=1,
        max_size=6,
    ),
    st.booleans(),
)
def test_flow_is_conserved_and_matches_a_linear_program(
    nodes: list[tuple[int, int, float]], partial: bool
) -> None:
    layers = 5
    starts = [s for s, _, _ in nodes]
    ends = [min(s + k, layers) for s, k, _ in nodes]
    rates = [r for _, _, r in nodes]
    flow = layout_flow(starts, ends, layers, rates, links=4.0, partial=partial)
    through = flow.entry + flow.links.sum(axis=0)
    assert through == pytest.approx(flow.leave + flow.links.sum(axis=1), abs=1e-6)
    assert (through <= np.array(rates) + 1e-6).all()
    assert flow.value == pytest.approx(flow.entry.sum(), abs=1e-6)
    assert flow.value == pytest.approx(linear_flow(starts, ends, layers, rates, partial), abs=1e-6)


def linear_flow(
    starts: list[int], ends: list[int], layers: int, rates: list[float], partial: bool
) -> float:
    """The same flow as a linear program, links of capacity 4."""
    from scipy.optimize import linprog

    n = len(starts)
    arcs = [(-1, i) for i in range(n) if starts[i] == 0]
    arcs += [(i, n) for i in range(n) if ends[i] == layers]
    for i in range(n):
        for j in range(n):
            inside = starts[j] <= ends[i] < ends[j]
            if ends[i] == starts[j] or (partial and inside):
                arcs.append((i, j))
    if not arcs:
        return 0.0
    into = np.array([[float(j == v) for _, j in arcs] for v in range(n)])
    out = np.array([[float(i == v) for i, _ in arcs] for v in range(n)])
    result = linprog(
        [-float(i == -1) for i, _ in arcs],
        A_ub=into,
        b_ub=rates,
        A_eq=into - out,
        b_eq=np.zeros(n),
        bounds=[(0, 4.0 if i >= 0 and j < n else None) for i, j in arcs],
    )
    assert result.fun is not None
    return -float(result.fun)
